"""The improved U-Net (Isensee et al. 2017, arXiv 1802.10508), in two dimensions."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from ...errors import LungSegError
from .any_size import AnySize
from .blocks import LEAK


def build_improved_unet(
    in_channels: int, classes: int, base: int = 16, depth: int = 5, dropout: float = 0.3, summed: int = 3
) -> nn.Module:
    """Build the network with random weights.

    Parameters
    ----------
    in_channels, classes : of the network
    base : channels at full resolution; doubled at each halving
    depth : number of resolutions, at least 2
    dropout : in the context modules
    summed : number of resolutions, from the finest, whose scores are summed; at least 1

    Raises
    ------
    LungSegError
        When ``depth`` or ``summed`` is too small.
    """
    if depth < 2 or summed < 1:
        raise LungSegError(
            f"The improved U-Net was given depth {depth} and summed {summed}. Depth must be at least 2, summed at least 1."
        )
    return ImprovedUNet(in_channels, classes, base, depth, dropout, summed)


def _activation(channels: int) -> list[nn.Module]:
    return [nn.InstanceNorm2d(channels, affine=True), nn.LeakyReLU(LEAK, inplace=True)]


def _conv(in_channels: int, out_channels: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, instance norm, leaky ReLU."""
    convolution = nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(convolution, *_activation(out_channels))


class Context(nn.Module):
    """Pre-activation residual module: two 3×3 convolutions with dropout between them, added to what came in."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.InstanceNorm2d(channels, affine=True),
            nn.LeakyReLU(LEAK),  # not in place: what came in is still needed
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.Dropout2d(dropout),
            *_activation(channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(n, channels, y, x) to the same."""
        changed: torch.Tensor = self.change(features)
        return features + changed


def _enlarge(in_channels: int, out_channels: int) -> nn.Sequential:
    """Upsampling module: each pixel repeated twice a side, then a 3×3 convolution that halves the feature maps."""
    return nn.Sequential(nn.Upsample(scale_factor=2), _conv(in_channels, out_channels))


def _localize(channels: int) -> nn.Sequential:
    """Localization module: 3×3 over what was joined, then 1×1 that halves the feature maps."""
    return nn.Sequential(_conv(2 * channels, 2 * channels), _conv(2 * channels, channels, 1))


class _Improved(nn.Module):
    def __init__(self, in_channels: int, classes: int, base: int, depth: int, dropout: float, summed: int) -> None:
        super().__init__()
        widths = [base * 2**level for level in range(depth)]
        entrances = [_conv(in_channels, base)]
        entrances += [_conv(before, after, stride=2) for before, after in pairwise(widths)]
        self.entrance = nn.ModuleList(entrances)
        self.context = nn.ModuleList(Context(width, dropout) for width in widths)
        self.enlarge = nn.ModuleList(_enlarge(width, width // 2) for width in widths[:0:-1])
        # At full resolution the joined features keep their width.
        self.localize = nn.ModuleList(_localize(width) for width in widths[-2:0:-1])
        self.localize.append(_conv(2 * base, 2 * base))
        joined = [*widths[-2:0:-1], 2 * base]
        self.score = nn.ModuleList(nn.Conv2d(width, classes, 1) for width in joined[-summed:])
        self.multiple = 2 ** (depth - 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features, across = images, []
        for entrance, context in zip(self.entrance, self.context, strict=True):
            features = context(entrance(features))
            across.append(features)
        across.pop()
        scored: list[torch.Tensor] = []
        unscored = len(self.localize) - len(self.score)
        for level, (enlarge, localize) in enumerate(zip(self.enlarge, self.localize, strict=True)):
            features = localize(torch.cat([across.pop(), enlarge(features)], dim=1))
            if level >= unscored:
                scored.append(self.score[level - unscored](features))
        return reduce(lambda coarse, fine: fine + functional.interpolate(coarse, scale_factor=2), scored)


class ImprovedUNet(AnySize, _Improved):
    """Context modules on the way down, localization modules on the way up, scores summed across resolutions.

    Parameters
    ----------
    in_channels, classes, base, depth, dropout, summed : see `build_improved_unet`
    """
