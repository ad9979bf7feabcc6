"""Which models there are, and how to load one."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import IncompatibleModelError, ModelFileError, UnknownNameError
from . import ARCHITECTURES
from .spec import ModelSpec
from .weights import read_spec, read_weights

if TYPE_CHECKING:
    import torch

PRETRAINED = Path(__file__).parent / "pretrained"
DEFAULT_MODELS: Mapping[str, str] = {"ct": "ct-lungs", "xray": "xray-lungs"}


@dataclass(frozen=True)
class Model:
    """A model file and what it says of itself; the network is built when it is asked for.

    Parameters
    ----------
    spec : architecture, preprocessing, labels …
    path : of the ``.safetensors`` file
    """

    spec: ModelSpec
    path: Path

    def network(self, device: torch.device | str = "cpu") -> torch.nn.Module:
        """Build the network with its weights, in evaluation mode, channels last, on a device (cached).

        Raises
        ------
        ModelFileError
            When the weights do not fit the architecture that the file names.
        """
        return _network(self.path, self.path.stat().st_mtime_ns, str(device))


# Two: a CT and an X-ray model are what one session uses; more would only hold memory.
@functools.lru_cache(maxsize=2)
def _network(path: Path, modified: int, device: str) -> torch.nn.Module:
    import torch

    spec = read_spec(path)
    build = ARCHITECTURES.resolve(spec.architecture)
    network: torch.nn.Module = build(in_channels=3 if spec.unit == "rgb" else 1, classes=spec.classes, **spec.options)
    try:
        network.load_state_dict(read_weights(path))
    except RuntimeError as error:
        raise ModelFileError(
            f"The weights in {path.name} do not fit the architecture {spec.architecture!r} that it names. "
            "The file was damaged or made by another version; train or download it again."
        ) from error
    return network.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)


def bundled_files() -> dict[str, Path]:
    """Name → file of every model in the package."""
    return {path.stem: path for path in sorted(PRETRAINED.glob("*.safetensors"))}


def list_models() -> list[ModelSpec]:
    """Describe every bundled model."""
    return [read_spec(path) for path in bundled_files().values()]


def load_model(name_or_path: str | Path) -> Model:
    """Find a bundled model by name, or a model file by path.

    Raises
    ------
    UnknownNameError
        When the name is neither.
    ModelFileError
        When the file is not a model of ours.
    """
    text = str(name_or_path)
    files = bundled_files()
    path = files.get(text, Path(text))
    if text not in files and path.suffix != ".safetensors":
        raise UnknownNameError(
            f"There is no model named {text!r}. Bundled: {', '.join(files) or 'none'}; "
            "or give the path of a .safetensors file."
        )
    return Model(read_spec(path), path)


def default_model(modality: str) -> str:
    """Name of the bundled model for a modality.

    Raises
    ------
    IncompatibleModelError
        When none is bundled for it.
    """
    if modality not in DEFAULT_MODELS:
        what = "colour photograph" if modality == "photo" else modality
        raise IncompatibleModelError(
            f"No bundled model works on a {what}: expected a chest CT in Hounsfield units or a chest X-ray. "
            "If this is one, say so with the modality option; else give a model of your own."
        )
    return DEFAULT_MODELS[modality]
