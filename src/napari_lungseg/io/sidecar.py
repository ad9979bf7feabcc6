"""``NAME.labels.json`` and ``NAME.volume.json``: what a format cannot hold, written beside the file and read back.

A sidecar belongs to all files of one stem; each format has its own entry, so that ``lung.png`` and ``lung.nii.gz``
can stand side by side.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..errors import InvalidVolumeError, WriteError
from ..findings import Finding
from ..volume import MODALITIES, Geometry, LabelMap
from . import READERS, suffix_of
from .decoded import Decoded

if TYPE_CHECKING:
    from . import Item

Kind: TypeAlias = Literal["labels", "volume"]
_FORMAT = 1
_AXES = "z, y, x; mm in DICOM LPS, each tuple ordered (head, back, left)"


@dataclass(frozen=True)
class Sidecar:
    """What lies beside a file.

    Parameters
    ----------
    entry : of the file's own format, empty where there is none
    findings : about a damaged sidecar
    """

    entry: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def path_beside(path: Path, kind: Kind) -> Path:
    """Where the sidecar of a file lies: ``lung.nii.gz`` → ``lung.labels.json``."""
    suffix = suffix_of(path, READERS)
    stem = path.name[: len(path.name) - len(suffix)] if suffix else path.name
    return path.with_name(f"{stem}.{kind}.json")


def read(path: Path, kind: Kind) -> Sidecar:
    """The entry beside a file; a damaged sidecar becomes a finding."""
    beside = path_beside(path, kind)
    try:
        entry = _load(beside).get(suffix_of(path, READERS), {})
    except (OSError, ValueError) as error:
        return Sidecar(findings=(Finding("sidecar-damaged", f"{beside.name} cannot be used ({error})."),))
    return Sidecar(entry)


def apply(decoded: Decoded, entry: Mapping[str, Any]) -> Decoded:
    """What the file holds, completed by the entry of its sidecar.

    A sidecar whose grid or words do not fit the file is left alone, with a finding.
    """
    try:
        return _completed(decoded, entry)
    except (InvalidVolumeError, TypeError, ValueError, AttributeError) as error:
        told = Finding("sidecar-mismatch", f"The .json beside the file does not fit it and was left alone: {error}")
        return dataclasses.replace(decoded, findings=(*decoded.findings, told))


def write(item: Item, target: Path, suffix: str, folder: Path, held: Collection[str]) -> None:
    """Write into ``folder`` the sidecar of ``target``, whose format already ``held`` some of the facts.

    Raises
    ------
    WriteError
        When a foreign or damaged sidecar stands in the way.
    """
    kind: Kind = "labels" if isinstance(item, LabelMap) else "volume"
    entry = _entry_of(item, held)
    for other in ("labels", "volume"):
        beside = path_beside(target, other)
        try:
            entries = _load(beside)
        except (OSError, ValueError) as error:
            raise WriteError(
                f"{beside.name} lies beside the file to write and cannot be understood ({error}); move it away first."
            ) from error
        updated = {key: value for key, value in entries.items() if key != suffix}
        if other == kind and entry:
            updated[suffix] = entry
        if updated != entries:
            _dump(updated, folder / beside.name)


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or content.get("format") != _FORMAT or not isinstance(content.get("files"), dict):
        raise ValueError(f"it is not a sidecar of format {_FORMAT}")
    entries = content["files"]
    if not all(isinstance(entry, dict) for entry in entries.values()):
        raise ValueError("an entry is not a table")
    return dict(entries)


def _dump(entries: Mapping[str, Any], path: Path) -> None:
    text = json.dumps({"format": _FORMAT, "axes": _AXES, "files": entries}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _entry_of(item: Item, held: Collection[str]) -> dict[str, Any]:
    """What the format does not hold of this item, as JSON-ready values."""
    geometry = item.geometry
    plain = geometry.is_mm and not geometry.frames and geometry.slice_positions is None
    entry: dict[str, Any] = {}
    if "geometry" not in held or not plain:
        entry["geometry"] = dataclasses.asdict(geometry)
    if isinstance(item, LabelMap):
        if "names" not in held and (item.names or item.colours):
            entry |= {"names": _keyed(item.names), "colours": _keyed(item.colours)}
        if "record" not in held and item.record:
            entry["record"] = dict(item.record)
        if "labels" not in held:  # the sidecar itself is what says that the file holds labels
            entry.setdefault("names", _keyed(item.names))
        return entry
    if entry or "modality" not in held:
        entry |= {"modality": item.modality, "unit": item.unit, "window": item.window}
    return entry


def _keyed(table: Mapping[int, str]) -> dict[str, str]:
    return {str(label): text for label, text in table.items()}


def _completed(decoded: Decoded, entry: Mapping[str, Any]) -> Decoded:
    geometry, placed = decoded.geometry, decoded.placed
    if "geometry" in entry:
        geometry, placed = Geometry(**entry["geometry"]), True
        if geometry.shape != decoded.geometry.shape:
            raise InvalidVolumeError(f"it is for {geometry.shape} voxels, the file has {decoded.geometry.shape}.")
    if entry.get("modality", "ct") not in MODALITIES:
        raise ValueError(f"modality {entry['modality']!r} is unknown")
    return dataclasses.replace(
        decoded,
        geometry=geometry,
        placed=placed,
        names={int(label): str(name) for label, name in entry.get("names", {}).items()} or decoded.names,
        colours={int(label): str(text) for label, text in entry.get("colours", {}).items()} or decoded.colours,
        record=dict(entry.get("record", {})) or decoded.record,
    )
