"""U-Net with batch norm and spatial dropout (Tompson et al. 2015, arXiv 1411.4280): whole feature maps are left out."""

from __future__ import annotations

from torch import nn

from .blocks import conv_norm_relu
from .u_shape import UNet


def build_dropout_unet(
    in_channels: int, classes: int, base: int = 32, depth: int = 5, dropout: float = 0.2
) -> nn.Module:
    """Build the network with random weights.

    Parameters
    ----------
    in_channels, classes : of the network
    base : channels at full resolution; doubled at each halving
    depth : number of resolutions
    dropout : share of a block's feature maps that is left out while training
    """

    def block(before: int, after: int) -> nn.Module:
        return nn.Sequential(conv_norm_relu(before, after), conv_norm_relu(after, after), nn.Dropout2d(dropout))

    return UNet(block, in_channels, classes, base, depth)
