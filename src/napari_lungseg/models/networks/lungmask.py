"""The U-Net of lungmask (Hofmanninger et al. 2020, doi 10.1186/s41747-020-00173-2), which takes its published weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional


def build_lungmask_unet(in_channels: int, classes: int, depth: int = 5, base: int = 64) -> nn.Module:
    """Build it with random weights.

    Parameters
    ----------
    in_channels : 1 for grey images
    classes : output channels, background included
    depth : resolutions; the image is halved ``depth - 1`` times
    base : channels at full resolution, doubled with every halving

    Returns
    -------
    Maps (n, in_channels, y, x) to logits (n, classes, y, x); the published network adds a log-soft-max, which changes
    neither its labels nor its probabilities.
    """
    return LungmaskUNet(in_channels, classes, depth, base)


def convert_lungmask(published: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Published weights as ours: without the residual branches, which no published model uses."""
    return {name: tensor for name, tensor in published.items() if "residual_" not in name}


def _two_convolutions(inputs: int, outputs: int) -> nn.Sequential:
    """3 × 3, ReLU and batch norm, twice: in this order, as it was trained."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers)


# The names of modules below are those in the published files.
class _Down(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.block = _two_convolutions(inputs, outputs)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.block(features)
        return result


class _Up(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(inputs, outputs, 1))
        self.conv_block = _Down(inputs, outputs)

    def forward(self, features: torch.Tensor, skipped: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.conv_block(torch.cat([self.up(features), skipped], dim=1))
        return result


class LungmaskUNet(nn.Module):
    """See `build_lungmask_unet`."""

    def __init__(self, in_channels: int, classes: int, depth: int, base: int) -> None:
        super().__init__()
        widths = [base * 2**level for level in range(depth)]
        self.stride = 2 ** (depth - 1)
        self.down_path = nn.ModuleList(map(_Down, [in_channels, *widths], widths))
        self.up_path = nn.ModuleList(map(_Up, widths[:0:-1], widths[-2::-1]))
        self.last = nn.Conv2d(base, classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, in_channels, y, x) → logits (n, classes, y, x)."""
        rows, columns = images.shape[-2:]
        features = functional.pad(images, (0, -columns % self.stride, 0, -rows % self.stride))
        skipped: list[torch.Tensor] = []
        for level, down in enumerate(self.down_path):
            features = down(functional.avg_pool2d(features, 2) if level else features)
            skipped.append(features)
        for up, skip in zip(self.up_path, skipped[-2::-1], strict=True):
            features = up(features, skip)
        scores: torch.Tensor = self.last(features)
        return scores[..., :rows, :columns]
