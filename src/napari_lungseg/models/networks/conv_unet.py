"""U-Net of plain 3×3 convolutions with leaky ReLU and batch norm: what the inception-block U-Net is compared with."""

from __future__ import annotations

from torch import nn

from .blocks import LEAK, conv_norm_leaky
from .u_shape import UNet


def build_conv_unet(in_channels: int, classes: int, base: int = 16, depth: int = 5, slope: float = LEAK) -> nn.Module:
    """Build the network with random weights.

    Parameters
    ----------
    in_channels, classes : of the network
    base : channels at full resolution; doubled at each halving
    depth : number of resolutions
    slope : of leaky ReLU below zero
    """

    def block(before: int, after: int) -> nn.Module:
        return nn.Sequential(conv_norm_leaky(before, after, slope=slope), conv_norm_leaky(after, after, slope=slope))

    return UNet(block, in_channels, classes, base, depth)
