"""A package for the BioImage Model Zoo (https://bioimage.io), description format 0.5."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from ..errors import ModelFileError
from .catalog import Model
from .exchange import export_torchscript, how_to_use
from .spec import ModelSpec
from .weights import save_model

FORMAT_VERSION = "0.5.4"
_SPDX = re.compile(r"[A-Za-z0-9.+-]*\d[A-Za-z0-9.+-]*|MIT|Unlicense|ISC")


def export_bioimageio(model: Model, path: Path) -> None:
    """Write a zip of the description, the network as TorchScript, a test image with its scores, and our own model file.

    Raises
    ------
    ModelFileError
        When the model says no licence that has an SPDX identifier.
    """
    import numpy as np
    import torch

    spec = model.spec
    licence = spdx(spec)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = _test_image(spec)
        np.save(folder / "test_image.npy", image)
        with torch.inference_mode():
            prepared = torch.from_numpy(_prepared(image, spec)).contiguous()
            np.save(folder / "test_scores.npy", model.network("cpu")(prepared).contiguous().numpy())
        export_torchscript(model, folder / "network.pt")
        if model.path is not None:
            shutil.copyfile(model.path, folder / "model.safetensors")
        else:
            save_model(folder / "model.safetensors", spec, model.network("cpu").state_dict(), half=False)
        (folder / "README.md").write_text(_readme(spec), encoding="utf-8")
        description = _description(spec, licence, folder, torch.__version__)
        # JSON is YAML too.
        (folder / "rdf.yaml").write_text(json.dumps(description, indent=1, ensure_ascii=False), encoding="utf-8")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for part in sorted(folder.iterdir()):
                packed.write(part, part.name)


def spdx(spec: ModelSpec) -> str:
    """The licence as an SPDX identifier: "CC BY 4.0" is CC-BY-4.0.

    Raises
    ------
    ModelFileError
        When it cannot be one.
    """
    licence = "-".join(spec.licence.split())
    if not _SPDX.fullmatch(licence):
        raise ModelFileError(
            f"The model {spec.name!r} has the licence {spec.licence!r}, but a package for the BioImage Model Zoo needs one "
            "with an SPDX identifier, such as CC-BY-4.0; give it one when you import or train the model."
        )
    return licence


def _description(spec: ModelSpec, licence: str, folder: Path, torch_version: str) -> dict[str, Any]:
    rows, columns = spec.preprocessing.size
    channels = ["red", "green", "blue"] if spec.unit == "rgb" else ["intensity"]
    labels = ["background", *(spec.names.get(label, f"label {label}") for label in range(1, spec.classes))]
    return {
        "type": "model",
        "format_version": FORMAT_VERSION,
        "name": re.sub(r"[^\w\- ().]", "-", f"napari-lungseg {spec.name}"),  # a short name alone would be refused
        "description": f"Segments {', '.join(spec.names.values())} on a {_IMAGES[spec.modality]}",
        "version": str(spec.version),
        "license": licence,
        "authors": [{"name": "napari-lungseg"}],
        "cite": [{"text": "Ronneberger, Fischer, Brox: U-Net (2015)", "doi": "10.1007/978-3-319-24574-4_28"}],
        "tags": ["segmentation", "lung", spec.modality, "napari-lungseg"],
        "documentation": "README.md",
        "attachments": [_file(folder / "model.safetensors")],
        "inputs": [
            {
                "id": "image",
                "description": "cropped and resized as README.md says, in the model's unit",
                "axes": _axes(channels, rows, columns),
                "data": {"type": "float32"},
                "test_tensor": _file(folder / "test_image.npy"),
                "preprocessing": _preprocessing(spec),
            }
        ],
        "outputs": [
            {
                "id": "scores",
                "description": "logits",
                "axes": _axes(labels, rows, columns),
                "data": {"type": "float32"},
                "test_tensor": _file(folder / "test_scores.npy"),
            }
        ],
        "weights": {"torchscript": _file(folder / "network.pt") | {"pytorch_version": torch_version.partition("+")[0]}},
    }


_IMAGES = {"ct": "slice of a chest CT", "xray": "chest X-ray", "photo": "photograph"}


def _axes(channels: list[str], rows: int, columns: int) -> list[dict[str, Any]]:
    return [
        {"type": "batch"},
        {"type": "channel", "channel_names": [re.sub(r"\W+", "_", name) for name in channels]},
        {"type": "space", "id": "y", "size": rows},
        {"type": "space", "id": "x", "size": columns},
    ]


def _preprocessing(spec: ModelSpec) -> list[dict[str, Any]]:
    """Window or percentiles to 0…1, in the zoo's words."""
    steps = spec.preprocessing
    if steps.window:
        low, high = steps.window
        scale = {"gain": 1 / (high - low), "offset": -low / (high - low)}
        return [{"id": "clip", "kwargs": {"min": low, "max": high}}, {"id": "scale_linear", "kwargs": scale}]
    low, high = steps.percentiles
    levels = {"axes": ["channel", "y", "x"], "min_percentile": low, "max_percentile": high}
    return [{"id": "scale_range", "kwargs": levels}, {"id": "clip", "kwargs": {"min": 0.0, "max": 1.0}}]


def _test_image(spec: ModelSpec) -> Any:
    """(1, channels, rows, columns) float32 in the model's unit: smooth, so that rounding decides nothing."""
    import numpy as np

    rows, columns = spec.preprocessing.size
    y, x = np.mgrid[0 : 1 : rows * 1j, 0 : 1 : columns * 1j]
    low, high = spec.preprocessing.window or (0.0, 255.0)
    image = low + (high - low) * (0.5 + 0.25 * np.sin(9 * y) + 0.25 * np.cos(7 * x * y))
    return np.broadcast_to(image, (1, 3 if spec.unit == "rgb" else 1, rows, columns)).astype(np.float32)


def _prepared(image: Any, spec: ModelSpec) -> Any:
    """The same image as the network gets it."""
    import numpy as np

    steps = spec.preprocessing
    low, high = steps.window or np.percentile(image, steps.percentiles)
    return np.clip((image - low) / (high - low), 0, 1).astype(np.float32)


def _file(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        return {"source": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _readme(spec: ModelSpec) -> str:
    figures = spec.training.get("figures") or spec.training.get("validation") or {}
    shown = "\n".join(f"- {name}: {value}" for name, value in figures.items()) or "None were recorded with this model."
    return (
        f"# {spec.name}\n\n{how_to_use(spec)}\n\nFor research; this is not a medical device. In napari-lungseg, "
        f"`lungseg models import` opens this package.\n\n## Validation\n\n{shown}\n"
    )
