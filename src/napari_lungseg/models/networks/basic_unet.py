"""The plain U-Net beside which the improved U-Net is measured: ReLU, no normalization, no dropout."""

from __future__ import annotations

from torch import nn

from .u_shape import UNet


def build_basic_unet(in_channels: int, classes: int, base: int = 16, depth: int = 5) -> nn.Module:
    """Build the network with random weights.

    Parameters
    ----------
    in_channels, classes : of the network
    base : channels at full resolution; doubled at each halving
    depth : number of resolutions
    """

    def block(before: int, after: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, padding=1),
            nn.ReLU(inplace=True),
        )

    return UNet(block, in_channels, classes, base, depth)
