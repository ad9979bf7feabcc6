"""``work.json``: what the files of a work folder are, and all of a work that no file of its own holds."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import LungSegError, ReadError
from ..io.atomic import replacing
from ..volume import Geometry
from .rounds import PaintSettings

RECORD = "work.json"
FORMAT = 1
_IS_WORK = "painted work of napari-lungseg"
_NEVER = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class StoredFile:
    """A file of a work folder; its content never changes.

    Parameters
    ----------
    name : in the folder
    digest : of what it holds, so that it need not be written again
    size : in bytes; another size means that something else wrote it
    """

    name: str
    digest: str
    size: int

    def lies_in(self, folder: Path) -> bool:
        """Whether the file is there as it was written."""
        try:
            return (folder / self.name).stat().st_size == self.size
        except OSError:
            return False


@dataclass(frozen=True)
class ItemRecord:
    """One painted layer, as ``work.json`` has it; parameters as in `WorkItem` and `LabelMap`.

    Parameters
    ----------
    labels, untouched : files of the painted labels, and of the segmentation that they are a correction of
    image_path : where the image was when this was saved
    image_beside : the same from the work folder, so that both can be moved together; empty if that cannot be said
    """

    labels: StoredFile
    geometry: Geometry
    untouched: StoredFile | None = None
    name: str = "labels"
    names: Mapping[int, str] = field(default_factory=dict)
    colours: Mapping[int, str] = field(default_factory=dict)
    made_by: Mapping[str, Any] = field(default_factory=dict)
    background: int = 0
    complete: frozenset[int] = frozenset()
    image_name: str = "image"
    image_hash: str = ""
    image_path: str = ""
    image_beside: str = ""

    def find_image(self, folder: Path) -> Path | None:
        """Where the image probably is: beside the folder, or where it was; None if that was not kept."""
        if self.image_beside and (folder / self.image_beside).exists():
            return Path(os.path.normpath(folder / self.image_beside))
        return Path(self.image_path) if self.image_path else None


@dataclass(frozen=True)
class WorkRecord:
    """All that ``work.json`` holds; parameters as in `Work`."""

    items: tuple[ItemRecord, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    colours: Mapping[int, str] = field(default_factory=dict)
    model: StoredFile | None = None
    start: str = ""
    settings: PaintSettings = field(default_factory=PaintSettings)
    saved: datetime = _NEVER

    def files(self) -> Iterator[StoredFile]:
        """Every file that the record names."""
        for item in self.items:
            yield item.labels
            if item.untouched is not None:
                yield item.untouched
        if self.model is not None:
            yield self.model


def read_record(folder: Path) -> WorkRecord:
    """Read ``work.json``, and no labels.

    Raises
    ------
    ReadError
        When the folder is not a work folder, was saved by a newer version, or its record is damaged.
    """
    where = folder / RECORD
    if not where.is_file():
        raise ReadError(
            f"{folder.name} is not a folder of saved work: it holds no {RECORD}. Choose one that Save work made."
        )
    try:
        content = json.loads(where.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReadError(_damaged(folder, error)) from error
    if not isinstance(content, dict) or content.get("what") != _IS_WORK:
        raise ReadError(f"{RECORD} in {folder.name} was made by another program. Choose a folder that Save work made.")
    if content.get("format") != FORMAT:
        raise ReadError(
            f"{folder.name} was saved in format {content.get('format')}, and this version of napari-lungseg knows format "
            f"{FORMAT}. Update napari-lungseg to open it."
        )
    try:
        return _decoded(content)
    except (LungSegError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReadError(_damaged(folder, error)) from error


def write_record(folder: Path, record: WorkRecord) -> None:
    """Write ``work.json`` in one rename: before it the folder holds the previous state, after it the new one.

    Raises
    ------
    WriteError
        When the disk refuses; the previous state is then untouched.
    """
    content = json.dumps(_encoded(record), indent=1, ensure_ascii=False, default=str)
    with replacing(folder / RECORD) as partial:
        partial.write_text(content + "\n", encoding="utf-8")
        to_disk(partial)


def to_disk(path: Path) -> None:
    """Wait until a file is on the disk itself, so that it outlives a power cut."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _damaged(folder: Path, error: Exception) -> str:
    reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
    return f"{RECORD} in {folder.name} is damaged ({reason}). Copy the folder again, or open a backup of it."


def _encoded(record: WorkRecord) -> dict[str, Any]:
    return {
        "what": _IS_WORK,
        "format": FORMAT,
        "saved": record.saved.isoformat(),
        "names": _keyed(record.names),
        "colours": _keyed(record.colours),
        "start": record.start,
        "settings": dataclasses.asdict(record.settings),
        "model": None if record.model is None else dataclasses.asdict(record.model),
        "items": [_encoded_item(item) for item in record.items],
    }


def _encoded_item(item: ItemRecord) -> dict[str, Any]:
    content = {spec.name: getattr(item, spec.name) for spec in dataclasses.fields(item)}
    return content | {
        "labels": dataclasses.asdict(item.labels),
        "untouched": None if item.untouched is None else dataclasses.asdict(item.untouched),
        "geometry": dataclasses.asdict(item.geometry),
        "names": _keyed(item.names),
        "colours": _keyed(item.colours),
        "made_by": dict(item.made_by),
        "complete": sorted(item.complete),
    }


def _decoded(content: Mapping[str, Any]) -> WorkRecord:
    return WorkRecord(
        items=tuple(_decoded_item(item) for item in content["items"]),
        names=_by_label(content["names"]),
        colours=_by_label(content["colours"]),
        model=_stored(content["model"]),
        start=str(content["start"]),
        settings=_settings(content["settings"]),
        saved=datetime.fromisoformat(content["saved"]),
    )


def _decoded_item(content: Mapping[str, Any]) -> ItemRecord:
    known = {spec.name for spec in dataclasses.fields(ItemRecord)}
    labels = _stored(content["labels"])
    if labels is None:
        raise ValueError("an entry names no labels")
    told = {key: value for key, value in content.items() if key in known}
    return ItemRecord(
        **told
        | {
            "labels": labels,
            "untouched": _stored(content["untouched"]),
            "geometry": Geometry(**content["geometry"]),
            "names": _by_label(content["names"]),
            "colours": _by_label(content["colours"]),
            "complete": frozenset(int(index) for index in content["complete"]),
            "background": int(content["background"]),
        }
    )


def _stored(content: Mapping[str, Any] | None) -> StoredFile | None:
    if content is None:
        return None
    stored = StoredFile(str(content["name"]), str(content["digest"]), int(content["size"]))
    if Path(stored.name).name != stored.name or "\\" in stored.name:
        raise ValueError(f"{stored.name!r} is not the name of a file in the folder")
    return stored


def _settings(content: Mapping[str, Any]) -> PaintSettings:
    """The settings kept; the usual ones where they are of another version. Labels are not lost over a setting."""
    known = {spec.name for spec in dataclasses.fields(PaintSettings)}
    try:
        return PaintSettings(**{key: value for key, value in content.items() if key in known})
    except (LungSegError, TypeError):
        return PaintSettings()


def _keyed(table: Mapping[int, str]) -> dict[str, str]:
    return {str(label): text for label, text in table.items()}


def _by_label(table: Mapping[str, Any]) -> dict[int, str]:
    return {int(label): str(text) for label, text in table.items()}


def names_of(files: Iterable[StoredFile]) -> set[str]:
    """Names of stored files."""
    return {stored.name for stored in files}
