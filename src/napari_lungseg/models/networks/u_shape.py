"""The shape that all U-Nets share: blocks on a way down, blocks on a way up, and features carried across."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from .any_size import AnySize

Block = Callable[[int, int], nn.Module]
"""Makes a block from the numbers of its input and output channels."""


class UShape(nn.Module):
    """A U-Net (Ronneberger et al. 2015, arXiv 1505.04597) made of any kind of block.

    Parameters
    ----------
    block : see `Block`
    in_channels, classes : of the whole network
    base : channels at full resolution; doubled at each halving
    depth : number of resolutions
    """

    def __init__(self, block: Block, in_channels: int, classes: int, base: int, depth: int) -> None:
        super().__init__()
        widths = [base * 2**level for level in range(depth)]
        upward = widths[:0:-1]
        self.down = nn.ModuleList(block(before, after) for before, after in pairwise([in_channels, *widths]))
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(width, width // 2, 2, stride=2) for width in upward)
        self.up = nn.ModuleList(block(width, width // 2) for width in upward)
        self.head = nn.Conv2d(base, classes, 1)
        self.multiple = 2 ** (depth - 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores of images; smaller than these where the blocks do not pad."""
        features = self.down[0](images)
        across = []
        for block in list(self.down)[1:]:
            across.append(features)
            features = block(functional.max_pool2d(features, 2))
        for enlarge, block in zip(self.enlarge, self.up, strict=True):
            larger = enlarge(features)
            features = block(torch.cat([_centre(across.pop(), larger.shape[-2:]), larger], dim=1))
        scores: torch.Tensor = self.head(features)
        return scores


class UNet(AnySize, UShape):
    """A `UShape` of blocks that keep y and x, for images of any size."""


def _centre(features: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """The middle of features, as large as what they are joined with."""
    top, left = ((have - want) // 2 for have, want in zip(features.shape[-2:], size, strict=True))
    return features[..., top : top + size[0], left : left + size[1]]
