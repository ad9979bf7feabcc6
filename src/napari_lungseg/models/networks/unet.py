"""U-Net (Ronneberger et al. 2015, arXiv 1505.04597) with an encoder of segmentation-models-pytorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from .smp import build_smp


def build_unet(
    in_channels: int,
    classes: int,
    encoder: str = "resnet18",
    decoder_channels: Sequence[int] = (128, 64, 32, 16, 16),
) -> nn.Module:
    """Build a U-Net with random weights.

    Parameters
    ----------
    in_channels : 1 for grey images, 3 for RGB
    classes : output channels, background included
    encoder : any encoder name of segmentation-models-pytorch, e.g. ``"vgg16"``
    decoder_channels : channels of the decoder's blocks, deepest first; as many as the encoder's stages that are used

    Returns
    -------
    Maps (n, in_channels, y, x) to logits (n, classes, y, x).

    Raises
    ------
    LungSegError
        When there is no such encoder, or it has fewer stages.
    """
    depth = len(decoder_channels)
    options: dict[str, Any] = {"encoder_depth": depth, "decoder_channels": decoder_channels}
    network: Any = build_smp(in_channels, classes, "Unet", encoder, **options)
    network.multiple = 2**depth
    built: nn.Module = network
    return built
