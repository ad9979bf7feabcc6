"""A tiny model file with random weights, for tests that need a network but not a good one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from napari_lungseg.models import ARCHITECTURES
from napari_lungseg.models.spec import ModelSpec, Preprocessing
from napari_lungseg.models.weights import save_model
from napari_lungseg.volume import LUNG_NAMES

TINY = ModelSpec(
    name="tiny",
    architecture="unet",
    options={"encoder": "timm-regnetx_002", "decoder_channels": [16, 8, 8, 8, 8]},
    preprocessing=Preprocessing(size=(64, 64), window=(-1024.0, 600.0), crop_body=True),
    names=dict(LUNG_NAMES),
    licence="CC0-1.0",
)


# What was made of which changes: many tests want the same file, and building the network takes longer than they do.
_MADE: dict[str, bytes] = {}


def save_tiny(folder: Path, **changes: object) -> Path:
    """Write a model file with seeded random weights; ``changes`` go to the spec."""
    spec = replace(TINY, **changes)  # type: ignore[arg-type]
    path = folder / f"{spec.name}.safetensors"
    if repr(spec) in _MADE:
        path.write_bytes(_MADE[repr(spec)])
        return path
    import torch

    torch.manual_seed(0)
    channels = 3 if spec.unit == "rgb" else 1
    network = ARCHITECTURES.resolve(spec.architecture)(in_channels=channels, classes=spec.classes, **spec.options)
    save_model(path, spec, network.state_dict())
    _MADE[repr(spec)] = path.read_bytes()
    return path
