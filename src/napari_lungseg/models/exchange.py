"""Models for other programs: ONNX, TorchScript, and packages for the BioImage Model Zoo.

What is exported is the network alone, from the prepared image to the scores. What happens before and after travels along
as the model's description and in words.
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelFileError
from ..io.atomic import replacing
from ..registry import Table
from .catalog import Model
from .spec import ModelSpec, Preprocessing
from .weights import HEADER_KEY

if TYPE_CHECKING:
    import torch

EXPORTERS = Table(
    "format of exchange",
    {
        "bioimageio": "napari_lungseg.models.bioimageio:export_bioimageio",
        "onnx": "napari_lungseg.models.exchange:export_onnx",
        "torchscript": "napari_lungseg.models.exchange:export_torchscript",
    },
)
"""Name → function that writes a `Model` to a path."""
SUFFIXES = {"bioimageio": ".zip", "onnx": ".onnx", "torchscript": ".pt"}


def export(model: Model, format: str, path: str | Path) -> Path:
    """Write a model for other programs; nothing is left under ``path`` if that fails.

    Parameters
    ----------
    model : from `load_model`
    format : name in `EXPORTERS`
    path : of the file to be made

    Raises
    ------
    ModelFileError
        When this model cannot be written so.
    """
    write = EXPORTERS.resolve(format)
    target = Path(path)
    with replacing(target) as partial:
        write(model, partial)
    return target


def export_onnx(model: Model, path: Path) -> None:
    """Write ONNX with a batch of any size, and the description under the key ``napari_lungseg`` of its metadata.

    Raises
    ------
    ModelFileError
        When the packages onnx and onnxscript are not installed, or the network has a part that ONNX cannot express.
    """
    import torch

    try:
        import onnxscript  # noqa: F401 - torch finds it itself, but says less when it is missing
    except ImportError as error:
        raise ModelFileError(
            "ONNX needs the packages onnx and onnxscript, which are not installed: pip install 'napari-lungseg[onnx]'."
        ) from error
    network, image = _network_and_image(model.spec, model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        try:
            program: Any = torch.onnx.export(
                network,
                (image,),
                input_names=["image"],
                output_names=["scores"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ModelFileError(f"The network of {model.spec.name!r} cannot be written as ONNX ({error}).") from error
    program.model.metadata_props.update(described(model.spec))
    program.save(path, external_data=False)


def export_torchscript(model: Model, path: Path) -> None:
    """Write TorchScript with a batch of any size, and the description as the extra file ``napari_lungseg``.

    PyTorch calls TorchScript deprecated, but it is what many programs still read.
    """
    import torch

    network, image = _network_and_image(model.spec, model)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        trace: Any = torch.jit.trace
        traced = trace(network, image, check_trace=False)
        torch.jit.save(traced, str(path), _extra_files=described(model.spec))


def described(spec: ModelSpec) -> dict[str, str]:
    """What travels with a network: its description as JSON, and what to do before and after in words."""
    return {HEADER_KEY: spec.to_json(), "how_to_use": how_to_use(spec)}


_MIRRORED = (
    "Take the mean of these and of those of the mirrored input, mirrored back, with labels of right and left exchanged."
)


_FOLLOWED = (
    "Spread the chances of each slice over pixels that look alike, by a random walk with priors (Grady 2005, CVPR): neighbours "
    "share exp(-(d / 0.02)²) where their grey values differ by d, and each pixel holds on to its own chances by 0.01."
)


def _smoothed(millimetres: float) -> str:
    return (
        "Of a stack, average the chances (soft-max) of each slice with those of its neighbours, weighted by a Gaussian of "
        f"{millimetres:g} mm across the slices."
    )


def how_to_use(spec: ModelSpec) -> str:
    """What to do before and after the network, for a person who has only that."""
    steps = spec.preprocessing
    rows, columns = steps.size
    return " ".join(
        [
            f"Input: one {'axial slice' if spec.modality == 'ct' else 'image'} in {spec.unit}, its columns running to the",
            f"patient's left. {_crop(steps)} {_levels(spec)} {_resize(steps)} The network takes float32 of",
            f"(n, {3 if spec.unit == 'rgb' else 1}, {rows}, {columns}) and gives one logit per label and pixel:",
            f"{', '.join(['0 background', *(f'{label} {name}' for label, name in sorted(spec.names.items()))])}.",
            *([_MIRRORED] if spec.mirror else []),
            *([_smoothed(spec.smooth_mm)] if spec.smooth_mm else []),
            *([_FOLLOWED] if spec.follow_edges else []),
            "Back on the crop's own grid, the label with the highest one holds.",
        ]
    )


def _crop(steps: Preprocessing) -> str:
    if steps.crop_body or steps.fit == "lungmask":
        return "Crop each slice to the box of the body."
    return "Crop away blank borders." if steps.crop_border else "Take the whole image."


def _levels(spec: ModelSpec) -> str:
    steps = spec.preprocessing
    low, high = steps.window or steps.percentiles
    ends = f"{low:g} and {high:g} {spec.unit}" if steps.window else f"the percentiles {low:g} and {high:g} of the image"
    return f"Map {ends} to 0 and 1, and clip."


def _resize(steps: Preprocessing) -> str:
    size = f"{steps.size[0]} × {steps.size[1]} pixels (rows × columns)"
    if steps.fit == "lungmask":
        return (
            f"Resize to {size} linearly, first pixel's centre on first, last on last, and labels back to the nearest."
        )
    if steps.fit == "pad":
        return f"Resize with anti-aliasing, keeping the aspect, into {size}, padded with 0 on both sides."
    return f"Resize with anti-aliasing to {size}, whatever the aspect."


def _network_and_image(spec: ModelSpec, model: Model) -> tuple[torch.nn.Module, torch.Tensor]:
    """The network on the CPU, and two images of its size; one image would be taken for the only size of a batch."""
    import torch

    network = copy.deepcopy(model.network("cpu")).to(memory_format=torch.contiguous_format)
    generator = torch.Generator().manual_seed(0)
    return network, torch.rand(2, 3 if spec.unit == "rgb" else 1, *spec.preprocessing.size, generator=generator)
