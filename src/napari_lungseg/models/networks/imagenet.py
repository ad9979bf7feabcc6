"""Start training from an encoder that has learned from ImageNet, where its weights can be had."""

from __future__ import annotations

from typing import Any

from segmentation_models_pytorch.encoders import get_encoder
from torch import nn

from ...findings import Finding


def load_imagenet_weights(network: nn.Module, encoder: str) -> Finding:
    """Load ImageNet weights into the encoder of a network built as "unet" or "smp"; this may download them.

    Parameters
    ----------
    network : changed in place; left as it is when the weights cannot be had
    encoder : its encoder's name in segmentation-models-pytorch

    Returns
    -------
    What happened: code ``"imagenet-weights"``, or ``"no-imagenet-weights"`` with the reason.
    """
    own: Any = getattr(network, "encoder", None)
    if own is None:
        return Finding(
            "no-imagenet-weights", "This architecture has no encoder with ImageNet weights; it starts at random."
        )
    depth = len(own.out_channels) - 1
    channels = _first_convolution(own).in_channels
    try:
        learned = get_encoder(encoder, in_channels=channels, depth=depth, weights="imagenet").state_dict()
    except OSError as error:  # no connection, refused, not found, disk full: the hub's errors are all of this kind
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return Finding(
            "no-imagenet-weights",
            f"ImageNet weights of {encoder} could not be fetched ({reason}). Training starts at random and takes longer.",
        )
    except KeyError:
        return Finding("no-imagenet-weights", f"There are no ImageNet weights of {encoder}; training starts at random.")
    # Stages that the network does not use were dropped from it.
    wanted = own.state_dict()
    own.load_state_dict({name: tensor for name, tensor in learned.items() if name in wanted})
    return Finding("imagenet-weights", f"The encoder {encoder} starts from ImageNet weights.")


def _first_convolution(encoder: nn.Module) -> nn.Conv2d:
    return next(part for part in encoder.modules() if isinstance(part, nn.Conv2d))
