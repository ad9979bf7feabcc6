"""``lungseg models``: which there are, and how they come and go."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from cyclopts import App, Parameter

from ..errors import LungSegError
from . import show

if TYPE_CHECKING:
    from ..models.catalog import Entry
    from ..models.published import Offer

Json: TypeAlias = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON for machines.")]
Exchange: TypeAlias = Literal["onnx", "torchscript", "bioimageio"]
_SHOWN = 5  # labels in the list; `lungseg models show` has all

app = App(
    name="models",
    help="List the models; show, fetch, import and export them.",
    help_format="plaintext",
    result_action="return_value",
)


@app.default
def list_all(*, as_json: Json = False) -> int:
    """List every model: what it labels, its state, licence, version and figures."""
    from ..models.catalog import entries

    records = [_record(entry) for entry in entries()]
    if as_json:
        show.for_machines(records)
        return 0
    if not records:
        raise LungSegError("No model is bundled with this installation; install the package again from its wheel.")
    columns = ("name", "modality", "labels", "state", "version", "licence", "figures")
    show.rows(columns, [[_cell(record[column], short=column == "labels") for column in columns] for record in records])
    for record in records:
        if record["problem"]:
            show.line(f"  ! {record['problem']}")
    return 0


@app.command(name="show")
def show_one(name: str, /) -> int:
    """Print the description of a model as JSON: architecture, preprocessing, labels, training record.

    Parameters
    ----------
    name : str
        Of a model (see `lungseg models`), or a .safetensors file.
    """
    import json

    from ..models.catalog import find_entry, load_model
    from ..models.exchange import how_to_use

    entry = None if name.endswith(".safetensors") else find_entry(name)
    spec = entry.spec if entry is not None and not entry.problem else load_model(name).spec
    state = {"state": entry.state} if entry is not None else {}
    show.for_machines(json.loads(spec.to_json()) | state | {"how_to_use": how_to_use(spec)})
    return 0


@app.command
def fetch(name: str, /) -> int:
    """Fetch the published weights of a model, once; an interrupted fetch goes on where it stopped.

    Parameters
    ----------
    name : str
        Of a model that is "not fetched yet" (see `lungseg models`).
    """
    from ..models.catalog import find_entry, load_model

    entry = find_entry(name)
    if entry is None or entry.offer is None or entry.problem or entry.model is not None:
        load_model(name)  # says what is wrong with an unknown name or one that cannot be used
        show.line(f"{name} is on this computer already.")
        return 0
    show.line(str(_fetched(entry.offer)))
    return 0


@app.command(name="import")
def import_one(
    file: Path, /, *, name: str = "", licence: str = "", overwrite: Annotated[bool, Parameter(negative=())] = False
) -> int:
    """Copy a model file into your folder of models, so that it is found by name.

    Parameters
    ----------
    file : Path
        A .safetensors file, a package that `lungseg models export --format bioimageio` made, or a published file of a model
        that is offered for fetching.
    name : str
        Under which it is found; its own if omitted.
    licence : str
        Written into its description instead of what stands there.
    overwrite : bool
        Replace a model of yours that bears the name.
    """
    from ..models.catalog import offer_of_file, taken_names
    from ..models.library import import_model

    offer = offer_of_file(file)
    if offer is not None:
        target = _fetched(offer, file)
    else:
        target = import_model(file, name, licence=licence, taken=taken_names(), overwrite=overwrite)
    show.line(f"{target.stem}: {target}")
    return 0


@app.command
def export(
    name: str, /, *, format: Exchange, out: Annotated[Path | None, Parameter(name=("--out", "-o"))] = None
) -> int:
    """Write the network of a model for other programs.

    Parameters
    ----------
    name : str
        Of a model (see `lungseg models`), or a .safetensors file.
    format : str
        onnx needs the packages of the extra "onnx"; bioimageio is a package for the BioImage Model Zoo.
    out : Path
        File to write; the model's name in this folder if omitted.
    """
    from ..models.catalog import load_model
    from ..models.exchange import SUFFIXES
    from ..models.exchange import export as write

    model = load_model(name)
    show.line(str(write(model, format, out or Path(f"{model.spec.name}{SUFFIXES[format]}"))))
    return 0


def make_ready(name: str, *, yes: bool) -> None:
    """See to it that a model can be loaded: its weights are fetched if the user agrees.

    Raises
    ------
    LungSegError
        When the name is wrong, or the weights are not here and nobody agreed to fetch them.
    """
    from ..models.catalog import find_entry, load_model
    from ..models.fetch import offline_file

    entry = None if name.endswith(".safetensors") else find_entry(name)
    offer = entry.offer if entry is not None and entry.model is None and not entry.problem else None
    if offer is not None and (yes or offline_file(offer) is not None or _agreed(offer)):
        _fetched(offer)
    load_model(name)


def _agreed(offer: Offer) -> bool:
    """Ask, where somebody is there to answer."""
    from ..models.fetch import address

    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write(
        f"The model {offer.spec.name} is not on this computer yet. Fetch about {offer.megabytes} MB from {address(offer)} "
        f"(licence {offer.spec.licence})? [y/N] "
    )
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _fetched(offer: Offer, file: Path | None = None) -> Path:
    from ..models.fetch import iter_fetch

    if not offer.sha256:
        show.error(f"No checksum was published for {offer.filename}; what arrives is taken as it is.")
    return show.drained(iter_fetch(offer, file), offer.spec.name)


def _record(entry: Entry) -> dict[str, Any]:
    spec = entry.spec
    return {
        "name": spec.name,
        "modality": spec.modality,
        "labels": {str(label): name for label, name in spec.names.items()},
        "state": "cannot be used" if entry.problem else entry.state,
        "problem": entry.problem,
        "licence": spec.licence,
        "version": spec.version,
        "figures": spec.training.get("figures") or spec.training.get("validation") or {},
    }


def _cell(value: Any, short: bool = False) -> str:
    if not isinstance(value, dict):
        return str(value)
    items = [f"{key} {item}" for key, item in value.items()]
    if short and len(items) > _SHOWN:
        items[_SHOWN:] = [f"and {len(items) - _SHOWN} more"]
    return ", ".join(items)
