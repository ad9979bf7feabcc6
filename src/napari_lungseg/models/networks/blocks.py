"""What several networks are made of."""

from __future__ import annotations

from torch import nn

LEAK = 0.01
"""Negative slope of leaky ReLU (Isensee et al. 2017)."""


def conv_norm_relu(in_channels: int, out_channels: int, size: int = 3, *, padding: bool = True) -> nn.Sequential:
    """Convolution, batch norm, ReLU; ``padding`` keeps y and x."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, size, padding=size // 2 if padding else 0, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def conv_norm_leaky(in_channels: int, out_channels: int, size: int = 3, slope: float = LEAK) -> nn.Sequential:
    """Convolution, batch norm, leaky ReLU; y and x stay."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(slope, inplace=True),
    )
