"""U-Net of inception blocks (Szegedy et al. 2015, arXiv 1409.4842) with leaky ReLU and batch norm."""

from __future__ import annotations

import torch
from torch import nn

from .blocks import LEAK, conv_norm_leaky
from .u_shape import UNet


class Inception(nn.Module):
    """Four ways beside each other: 1×1, 1×1 then 3×3, 1×1 then 5×5, and the maximum of 3×3 then 1×1.

    Parameters
    ----------
    in_channels, out_channels : of the block; each way gives a quarter, and the 3×3 what is left over
    slope : of leaky ReLU below zero
    """

    def __init__(self, in_channels: int, out_channels: int, slope: float) -> None:
        super().__init__()
        part = max(1, out_channels // 4)
        rest = out_channels - 3 * part
        self.point = conv_norm_leaky(in_channels, part, 1, slope)
        self.three = nn.Sequential(conv_norm_leaky(in_channels, rest, 1, slope), conv_norm_leaky(rest, rest, 3, slope))
        self.five = nn.Sequential(conv_norm_leaky(in_channels, part, 1, slope), conv_norm_leaky(part, part, 5, slope))
        self.pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), conv_norm_leaky(in_channels, part, 1, slope))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(n, in_channels, y, x) to (n, out_channels, y, x)."""
        return torch.cat([self.point(features), self.three(features), self.five(features), self.pool(features)], dim=1)


def build_inception_unet(
    in_channels: int, classes: int, base: int = 16, depth: int = 5, slope: float = LEAK
) -> nn.Module:
    """Build the network with random weights.

    Parameters
    ----------
    in_channels, classes : of the network
    base : channels at full resolution, at least 4; doubled at each halving
    depth : number of resolutions
    slope : of leaky ReLU below zero
    """

    def block(before: int, after: int) -> nn.Module:
        return nn.Sequential(Inception(before, after, slope), Inception(after, after, slope))

    return UNet(block, in_channels, classes, base, depth)
