"""U-Net (Ronneberger et al. 2015, arXiv 1505.04597) with an encoder of segmentation-models-pytorch."""

from __future__ import annotations

from collections.abc import Sequence

import segmentation_models_pytorch as smp
from torch import nn

from .any_size import for_any_size


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
    """
    depth = len(decoder_channels)
    network = for_any_size(smp.Unet)(
        encoder,
        encoder_depth=depth,
        encoder_weights=None,  # nothing is ever downloaded here; see `imagenet.load_imagenet_weights`
        in_channels=in_channels,
        classes=classes,
        decoder_channels=tuple(decoder_channels),
    )
    network.multiple = 2**depth
    # A ResNet is built with all its stages, used or not; the unused would only weigh in the model file.
    for stage in range(depth, 5):
        if hasattr(network.encoder, f"layer{stage}"):
            setattr(network.encoder, f"layer{stage}", nn.Identity())
    return network
