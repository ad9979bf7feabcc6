"""Put a network of your own into a model file, and segment with it.

The weights here are random, so the labels are worthless; yours come from your training. A file made like this works
wherever a bundled model does: ``lungseg segment scan.nii.gz --model mine.safetensors -o out/``.

Usage: ``python examples/custom_model.py mine.safetensors``
"""

from __future__ import annotations

import sys
from pathlib import Path

import napari_lungseg as lungseg
from napari_lungseg.models import ARCHITECTURES
from napari_lungseg.models.spec import ModelSpec, Preprocessing
from napari_lungseg.models.weights import save_model
from napari_lungseg.phantom import thorax_ct

SPEC = ModelSpec(
    name="mine",
    architecture="unet",
    options={"encoder": "resnet18"},
    modality="ct",
    unit="HU",
    preprocessing=Preprocessing(size=(128, 128), window=(-1024, 600), crop_body=True),
    names={1: "right lung", 2: "left lung"},
    licence="CC-BY-4.0",
    training={"data": "none: random weights"},
)


def main(path: Path) -> None:
    network = ARCHITECTURES.resolve(SPEC.architecture)(in_channels=1, classes=SPEC.classes, **SPEC.options)
    save_model(path, SPEC, network.state_dict())
    volume, _ = thorax_ct((24, 96, 120))
    labels = lungseg.segment(volume, path)
    print(f"{path}: {lungseg.load_model(path).spec.name}, labels {dict(labels.names)} on {labels.geometry.shape}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
