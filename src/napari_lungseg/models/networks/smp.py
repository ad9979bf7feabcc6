"""Every decoder with every encoder of segmentation-models-pytorch (https://github.com/qubvel-org/segmentation_models.pytorch)."""

from __future__ import annotations

import copy
import math
from inspect import signature
from typing import Any

import segmentation_models_pytorch
import torch
from torch import nn

from ...errors import LungSegError, UnknownNameError
from .any_size import for_any_size

DECODERS = ("Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus", "PAN", "UPerNet",
            "Segformer", "DPT")  # fmt: skip

_FIXED = {"self", "kwargs", "encoder_name", "encoder_weights", "in_channels", "classes", "activation", "aux_params"}


def build_smp(
    in_channels: int, classes: int, decoder: str = "FPN", encoder: str = "resnet18", **options: Any
) -> nn.Module:
    """Build a network of segmentation-models-pytorch with random weights.

    Parameters
    ----------
    in_channels : 1 for grey images, 3 for RGB
    classes : output channels, background included
    decoder : one of `DECODERS`
    encoder : any encoder name of segmentation-models-pytorch; DPT needs a vision transformer (``"tu-vit_…"``)
    options : further keyword arguments of that decoder's class

    Raises
    ------
    UnknownNameError
        When there is no such decoder.
    LungSegError
        When encoder, decoder and options do not go together.
    """
    if decoder not in DECODERS:
        raise UnknownNameError(f"There is no decoder named {decoder!r}. Known: {', '.join(DECODERS)}.")
    kind = for_any_size(getattr(segmentation_models_pytorch, decoder))
    _check_names(kind, encoder, options)
    # Lists come out of a model file where tuples went in.
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    try:
        network: Any = kind(encoder, encoder_weights=None, in_channels=in_channels, classes=classes, **options)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise LungSegError(
            f"The decoder {decoder!r} cannot be built on the encoder {encoder!r} with the options {options}: {error}. "
            "Choose another encoder, for example 'resnet18', or other options."
        ) from error
    # PAN halves its encoder's features three times more; vision transformers have patches of their own size.
    multiple = math.lcm(128 if decoder == "PAN" else 32, network.encoder.output_stride)
    network.multiple = multiple
    _drop_unused(network, in_channels, 2 * multiple)
    built: nn.Module = network
    return built


def _check_names(kind: type[nn.Module], encoder: str, options: dict[str, Any]) -> None:
    """Refuse options that are not the caller's to choose, and those that the library would swallow.

    Only timm's encoders take any beside the decoder's own.
    """
    known = sorted(set(signature(kind).parameters) - _FIXED)
    for name in options:
        if name in _FIXED or (name not in known and not encoder.startswith("tu-")):
            raise LungSegError(f"The decoder {kind.__name__!r} has no option {name!r}. Known: {', '.join(known)}.")


def _drop_unused(network: nn.Module, in_channels: int, side: int) -> None:
    """Replace by nothing the parts that no score depends on, such as the stages after the last one a decoder takes.

    They would weigh in the model file, and training on several devices fails where a parameter gets no gradient.
    """
    with torch.inference_mode(False), torch.enable_grad():  # whatever mode a network is built in
        twin = copy.deepcopy(network).to("meta").eval()
        twin(torch.empty(1, in_channels, side, side, device="meta")).sum().backward()
    unused = [name for name, part in twin.named_modules() if name and _has_no_gradient(part)]
    for name in unused:
        parent, _, child = name.rpartition(".")
        if parent not in unused:  # else it is gone with its parent
            setattr(network.get_submodule(parent), child, nn.Identity())


def _has_no_gradient(part: nn.Module) -> bool:
    parameters = list(part.parameters())
    return bool(parameters) and all(parameter.grad is None for parameter in parameters)
