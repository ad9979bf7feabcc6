"""Which models there are, and how to load one."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import FetchError, IncompatibleModelError, ModelFileError, UnknownNameError
from ..progress import drain
from .library import fetched_file, own_files
from .published import LUNGMASK, Offer
from .spec import ModelSpec
from .weights import read_spec, read_weights

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    import torch

_SUFFIX = ".safetensors"
ENTRY_POINTS = "napari_lungseg.models"
PRETRAINED = Path(__file__).parent / "pretrained"
DEFAULT_MODELS: Mapping[str, str] = {"ct": "ct-lungs", "xray": "xray-lungs"}


@dataclass(frozen=True)
class Model:
    """A description and the weights that belong to it; the network is built when it is asked for.

    Parameters
    ----------
    spec : architecture, preprocessing, labels …
    path : of the ``.safetensors`` file; None where ``build`` brings the weights
    build : ``"package.module:function"`` that builds the network from ``in_channels``, ``classes`` and the spec's options;
        "" takes the spec's architecture from the table
    """

    spec: ModelSpec
    path: Path | None
    build: str = ""

    def network(self, device: torch.device | str = "cpu") -> torch.nn.Module:
        """Build the network with its weights, in evaluation mode, channels last, on a device (cached).

        Raises
        ------
        ModelFileError
            When the weights do not fit the architecture that the file names.
        """
        modified = self.path.stat().st_mtime_ns if self.path else 0
        return _network(self.spec.to_json(), self.path, modified, self.build, str(device))


# Two: a CT and an X-ray model are what one session uses; more would only hold memory.
@functools.lru_cache(maxsize=2)
def _network(described: str, path: Path | None, modified: int, build: str, device: str) -> torch.nn.Module:
    import torch

    from .building import build_network

    weights = read_weights(path) if path else None
    network = build_network(ModelSpec.from_json(described), weights, build, path.name if path else "the model")
    return network.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Entry:
    """A line of the catalogue.

    Parameters
    ----------
    spec : what the model is
    state : ``"bundled"``, ``"yours"``, ``"fetched"``, ``"not fetched yet"`` or ``"installed"`` (by another package)
    model : ready to be used; None before it is fetched
    offer : where it is fetched from
    problem : why it cannot be used, with the cure; or ""
    """

    spec: ModelSpec
    state: str
    model: Model | None = None
    offer: Offer | None = None
    problem: str = ""


def bundled_files() -> dict[str, Path]:
    """Name → file of every model in the package."""
    return {path.stem: path for path in sorted(PRETRAINED.glob("*.safetensors"))}


def entries() -> list[Entry]:
    """Every model there is or could be: bundled, the user's own, published by others, and other packages'."""
    found = [_of_file(path, "bundled") for path in bundled_files().values()]
    found += [_of_file(path, "yours") for path in own_files().values()]
    found += [_of_offer(offer) for offer in LUNGMASK.values()]
    found += [_of_package(point) for point in _packaged().values()]
    return list({entry.spec.name: entry for entry in reversed(found)}.values())[::-1]


def find_entry(name: str) -> Entry | None:
    """The entry of a name; other packages are asked last, because that takes longest."""
    for files, state in ((bundled_files(), "bundled"), (own_files(), "yours")):
        if name in files:
            return _of_file(files[name], state)
    if name in LUNGMASK:
        return _of_offer(LUNGMASK[name])
    point = _packaged().get(name)
    return _of_package(point) if point else None


def list_models() -> list[ModelSpec]:
    """Describe every model that can be chosen; those that are not here yet are fetched when `load_model` is told to."""
    return [entry.spec for entry in entries() if not entry.problem]


def load_model(name_or_path: str | Path, *, fetch: bool = False) -> Model:
    """Find a model by name, or a model file by path.

    Parameters
    ----------
    name_or_path : one of `list_models`, or a ``.safetensors`` file
    fetch : whether weights that are not on this computer may be fetched from the internet

    Raises
    ------
    UnknownNameError
        When the name is neither.
    FetchError
        When the weights are not on this computer, or cannot be fetched.
    ModelFileError
        When the file is not a model of ours.
    """
    text = str(name_or_path)
    path = Path(text)
    entry = None if path.suffix == _SUFFIX else find_entry(text)
    if entry is not None:
        return _model_of(entry, fetch)
    if path.suffix != _SUFFIX:
        names = ", ".join(entry.spec.name for entry in entries())
        raise UnknownNameError(
            f"There is no model named {text!r}. There are: {names or 'none'}; or give the path of a {_SUFFIX} file."
        )
    return Model(read_spec(path), path)


def _model_of(entry: Entry, fetch: bool) -> Model:
    if entry.problem:
        raise ModelFileError(entry.problem)
    if entry.model is not None:
        return entry.model
    from .fetch import iter_fetch, offline_file

    offer = entry.offer
    if offer is None:
        raise ModelFileError(f"The model {entry.spec.name!r} says neither where it is nor where it can be fetched.")
    if not fetch and offline_file(offer) is None:
        name = entry.spec.name
        raise FetchError(
            f"The model {name!r} is not on this computer yet. Fetch it once (about {offer.megabytes} MB, licence "
            f"{entry.spec.licence}) with `lungseg models fetch {name}` or load_model({name!r}, fetch=True)."
        )
    return Model(offer.spec, drain(iter_fetch(offer)), offer.build)


def _of_file(path: Path, state: str) -> Entry:
    """A file goes by its own name, whatever it says of itself; a damaged one is told, and the others still work."""
    try:
        spec = dataclasses.replace(read_spec(path), name=path.stem)
    except ModelFileError as error:
        return Entry(ModelSpec(path.stem, architecture=""), state, problem=str(error))
    return Entry(spec, state, Model(spec, path))


def _of_offer(offer: Offer) -> Entry:
    path = fetched_file(offer)
    if offer.needs and importlib.util.find_spec(offer.needs) is None:
        problem = (
            f"The model {offer.spec.name!r} needs the package {offer.needs}, which is not installed: {offer.cure}."
        )
        return Entry(offer.spec, "not fetched yet", None, offer, problem)
    if not path.is_file():
        return Entry(offer.spec, "not fetched yet", None, offer)
    return Entry(offer.spec, "fetched", Model(offer.spec, path, offer.build), offer)


def _packaged() -> dict[str, EntryPoint]:
    """Name → entry point of every model that an installed package brings."""
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _of_package(point: EntryPoint) -> Entry:
    """What an entry point names: a `Model`, an `Offer`, or a function that returns one."""
    try:
        found = point.load()
        found = found if isinstance(found, Model | Offer) else found()
        spec = dataclasses.replace(found.spec, name=point.name)
        if isinstance(found, Offer):
            return _of_offer(dataclasses.replace(found, spec=spec))
        return Entry(spec, "installed", Model(spec, found.path, found.build))
    except Exception as error:  # noqa: BLE001 - another package's code; the other models still work
        package = point.dist.name if point.dist else point.value
        problem = f"The model {point.name!r} of the package {package} cannot be loaded ({error}). Upgrade that package."
        return Entry(ModelSpec(point.name, architecture=""), "installed", problem=problem)


def taken_names() -> frozenset[str]:
    """Names that a model of the user's cannot bear, because they would hide or be hidden."""
    return frozenset({*bundled_files(), *LUNGMASK, *_packaged()})


def offer_of_file(path: Path) -> Offer | None:
    """The offer whose published file this is, by its name."""
    offers = [*LUNGMASK.values(), *(_of_package(point).offer for point in _packaged().values())]
    return next((offer for offer in offers if offer is not None and offer.filename == path.name), None)


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
            "If this is one, say so (modality=, --modality, or the row Kind); else give a model of your own."
        )
    return DEFAULT_MODELS[modality]
