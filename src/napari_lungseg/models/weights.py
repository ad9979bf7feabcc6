"""A model is one ``.safetensors`` file: weights, as a rule in half precision, and the `ModelSpec` as JSON in its header."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelFileError
from ..io.atomic import replacing
from .spec import ModelSpec

if TYPE_CHECKING:
    import torch

HEADER_KEY = "napari_lungseg"


def save_model(path: str | Path, spec: ModelSpec, weights: Mapping[str, torch.Tensor], *, half: bool = True) -> Path:
    """Write a model file; nothing is left under ``path`` if that fails.

    Parameters
    ----------
    path : ends in ``.safetensors``
    spec : what the weights are
    weights : of the network, as from ``state_dict()``
    half : whether floating-point tensors are stored in half precision, or as they are
    """
    import torch
    from safetensors.torch import save_file

    target = Path(path)
    stored = {
        name: (tensor.to(torch.float16) if half and tensor.is_floating_point() else tensor).contiguous().cpu()
        for name, tensor in weights.items()
    }
    with replacing(target) as partial:
        save_file(stored, partial, metadata={HEADER_KEY: spec.to_json()})
    return target


def read_spec(path: str | Path) -> ModelSpec:
    """Read what a model file says of itself, without its weights and without importing torch.

    Raises
    ------
    ModelFileError
        When there is no such file or it is not one of ours.
    """
    from safetensors import SafetensorError, safe_open

    where = Path(path)
    if not where.is_file():
        raise ModelFileError(
            f"There is no model file {where}. Name a bundled model (see `lungseg models`) or an existing file."
        )
    try:
        with safe_open(where, framework="numpy") as file:
            header = (file.metadata() or {}).get(HEADER_KEY)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{where.name} is not a complete .safetensors file ({error}). Copy or download it again."
        ) from error
    if header is None:
        raise ModelFileError(
            f"{where.name} holds weights but no napari-lungseg description; it was made by something else."
        )
    return ModelSpec.from_json(header, where.name)


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """Read the weights of a model file as float32 tensors on the CPU."""
    from safetensors.torch import load_file

    return {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in load_file(str(path)).items()
    }
