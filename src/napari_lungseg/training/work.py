"""Painted work in a folder: all that is needed to go on painting and learning tomorrow.

A work folder holds ``work.json`` (`work_record.py`), the painted labels of each layer as NIfTI that other programs open too
(``labels-1-….nii.gz``, with names and colours in ``labels-1-….labels.json``), the segmentation that a correction began from
(``untouched-1-….nii.gz``), and the model (``model-….safetensors``).

Every file but ``work.json`` bears a digest of its content in its name and is never changed. A save writes what is new under
new names, then replaces ``work.json`` in one rename, then removes what it no longer names. Killed at any moment, the folder
holds the previous state or the new one, whole; and what did not change is not written again. Only one program at a time may
save into a folder.

The same format serves *Save work*, where a person chose the folder and the image's path is kept so that it can be opened
again, and autosaves, where the path is left out: it may hold a patient's name. `image_hash` tells there which image is meant.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ..errors import LungSegError, ReadError, TrainingDataError, WriteError
from ..findings import Finding
from ..io import read, write
from ..io.atomic import replacing
from ..progress import Progress, drain
from ..volume import Geometry, LabelMap, Volume
from .painted import BACKGROUND, Painted
from .rounds import PaintSettings
from .work_record import RECORD, ItemRecord, StoredFile, WorkRecord, names_of, read_record, to_disk, write_record

_OURS = re.compile(r"(labels|untouched|model)-([0-9]+-)?[0-9a-f]{12}\.(nii\.gz|labels\.json|safetensors)")
_CUT = 12
"""Digits of a digest in a file's name."""


@dataclass(frozen=True, eq=False)
class WorkItem:
    """One painted layer and which image it belongs to.

    Parameters
    ----------
    labels : as painted, on the image's grid in the voxel order of its file; 0 where nothing was
    background : label that stands for painted background; 0 if none does
    complete : slices of the standard view, of which all that is not painted is background
    edited_from : (z, y, x) untouched segmentation on the same grid that ``labels`` is a correction of, or None
    image_name : neutral: without a patient's name
    image_hash : `image_hash` of the image, or "" if it is not known
    image_path : where the image is, or None where that is not to be kept
    """

    labels: LabelMap
    background: int = BACKGROUND
    complete: frozenset[int] = frozenset()
    edited_from: np.ndarray | None = None
    image_name: str = "image"
    image_hash: str = ""
    image_path: Path | None = None

    def on_grid(self, geometry: Geometry) -> WorkItem:
        """The same on an image's grid, whose file may have its voxels in another order.

        Raises
        ------
        TrainingDataError
            When the image has another number of voxels.
        """
        mine, its = self.labels.geometry.reorientation(), geometry.reorientation()
        shape, wanted = self.labels.geometry.reoriented(mine).shape, geometry.reoriented(its).shape
        if shape != wanted:
            raise TrainingDataError(
                f"The painted labels of {self.image_name} have shape {shape}, but the image {wanted}: it is another one. "
                "Choose the image that was painted on."
            )
        array = np.ascontiguousarray(its.undo(mine.apply(self.labels.array)))
        untouched = None
        if self.edited_from is not None:
            untouched = np.ascontiguousarray(its.undo(mine.apply(self.edited_from)))
        labels = dataclasses.replace(self.labels, array=array, geometry=geometry)
        return dataclasses.replace(self, labels=labels, edited_from=untouched)

    def painted(self, volume: Volume) -> Painted:
        """What can be learned from: the labels on their image.

        Raises
        ------
        TrainingDataError
            When the image has another number of voxels.
        """
        item = self.on_grid(volume.geometry)
        return Painted(volume, item.labels, item.background, item.edited_from, item.complete)


@dataclass(frozen=True, eq=False)
class Work:
    """All that a person has painted, and what is learned from it.

    Parameters
    ----------
    items : the painted layers
    names, colours : of the classes, painted or not yet: label → text
    model : model file learned so far, or None
    start : what learning starts from: name or path of a model, or of a recipe
    settings : how it learns
    saved : when it was saved, in UTC; set by `open_work`
    findings : what `open_work` noticed
    """

    items: tuple[WorkItem, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    colours: Mapping[int, str] = field(default_factory=dict)
    model: Path | None = None
    start: str = ""
    settings: PaintSettings = field(default_factory=PaintSettings)
    saved: datetime | None = None
    findings: tuple[Finding, ...] = ()


def image_hash(volume: Volume) -> str:
    """Hash of an image's content: 128 bits of BLAKE2b over its geometry and voxels, as 32 digits.

    It depends on the voxels in the file's order, their type, their spacing and position, and on nothing else: not on the
    file's name, place or format, the window, or any text. Lazy voxels are read slice by slice. It takes about a tenth of a
    second for 512 × 512 × 150 voxels.
    """
    digest = hashlib.blake2b(digest_size=16)
    geometry = dataclasses.asdict(volume.geometry)
    digest.update(json.dumps([geometry, list(volume.array.shape), volume.array.dtype.str]).encode())
    for part in volume.array:
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def check_image(item: WorkItem, volume: Volume) -> list[Finding]:
    """Whether an image is the one that was painted on; returns what there is to tell if its content differs.

    Raises
    ------
    TrainingDataError
        When the labels do not fit on it.
    """
    item.on_grid(volume.geometry)
    if not item.image_hash or image_hash(volume) == item.image_hash:
        return []
    told = f"This image has the size of {item.image_name}, but other content. Check that it is the one that was painted on."
    return [Finding("other-image", told)]


def save_work(folder: str | Path, work: Work) -> Path:
    """Save work into a folder; killed at any moment, the previous or the new state is there, whole.

    Parameters
    ----------
    folder : made where it is missing; work that it holds is replaced

    Raises
    ------
    WriteError
        When the folder's ``work.json`` is of something else, or the disk refuses (full, read-only). Nothing was changed then.
    """
    drain(iter_save_work(folder, work))
    return Path(folder)


def iter_save_work(
    folder: str | Path, work: Work, keep: Sequence[ItemRecord] = ()
) -> Generator[Progress, None, WorkRecord]:
    """`save_work` step by step; returns what the folder now holds, ``keep`` first.

    Parameters
    ----------
    keep : items of the folder's present state that stay as they are, beside those of ``work``
    """
    where = Path(folder)
    with _tidied(where) as before:
        known = {stored.digest: stored for stored in before.files() if stored.lies_in(where)}
        items = list(keep)
        for number, item in enumerate(work.items, start=len(keep) + 1):
            yield Progress(len(items), len(keep) + len(work.items), "Saving painted labels …")
            items.append(_save_item(where, number, item, known))
        record = WorkRecord(
            tuple(items),
            work.names,
            work.colours,
            None if work.model is None else _save_model(where, work.model, known),
            work.start,
            work.settings,
            datetime.now(UTC),
        )
        write_record(where, record)
    return record


def open_work(folder: str | Path) -> Work:
    """Open what `save_work` saved.

    What is missing in the folder is left out, with a finding.

    Raises
    ------
    ReadError
        When it is not a work folder, was saved by a newer version, or a file is damaged.
    """
    return drain(iter_open_work(folder))


def iter_open_work(folder: str | Path) -> Generator[Progress, None, Work]:
    """`open_work` step by step."""
    where = Path(folder)
    record = read_record(where)
    missing = [stored.name for stored in record.files() if not (where / stored.name).is_file()]
    there = [item for item in record.items if item.labels.name not in missing]
    if record.items and not there:
        raise ReadError(f"{where.name} no longer holds its labels ({', '.join(missing)}). Copy the folder again.")
    items = []
    for done, item in enumerate(there):
        yield Progress(done, len(there), "Reading painted labels …")
        items.append(_open_item(where, item, missing))
    model = record.model if record.model is not None and record.model.name not in missing else None
    return Work(
        tuple(items),
        record.names,
        record.colours,
        None if model is None else where / model.name,
        record.start,
        record.settings,
        record.saved,
        tuple(Finding("work-incomplete", f"{name} is missing in {where.name} and was left out.") for name in missing),
    )


@contextmanager
def _tidied(folder: Path) -> Iterator[WorkRecord]:
    """What a folder to save into holds now; at the end, however it came, only what ``work.json`` then names is left.

    Raises
    ------
    WriteError
        When the folder's ``work.json`` cannot be understood, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = read_record(folder) if (folder / RECORD).exists() else WorkRecord()
    except ReadError as error:
        raise WriteError(f"Nothing was saved. {error} Or save into another folder.") from error
    except OSError as error:
        raise WriteError(f"The folder {folder.name} cannot be made ({error.strerror}). Choose another.") from error
    try:
        yield before
    except OSError as error:
        raise WriteError(f"{folder.name} cannot be saved into ({error.strerror}); nothing was changed.") from error
    finally:
        _tidy(folder)


def _tidy(folder: Path) -> None:
    """Remove files of earlier saves, and of saves that were killed."""
    try:
        kept = names_of(read_record(folder).files()) if (folder / RECORD).exists() else set()
        paths = list(folder.iterdir())
    except (LungSegError, OSError):
        return
    kept |= {name.replace(".nii.gz", ".labels.json") for name in kept}
    for path in paths:
        # On Windows a file that someone has open stays; the next save removes it.
        with suppress(OSError):
            if path.name.startswith(".writing-"):
                shutil.rmtree(path)
            elif _OURS.fullmatch(path.name) and path.name not in kept:
                path.unlink()


def _save_item(folder: Path, number: int, item: WorkItem, known: Mapping[str, StoredFile]) -> ItemRecord:
    labels, untouched = item.labels, None
    if item.edited_from is not None:
        original = LabelMap(item.edited_from, labels.geometry, labels.names, labels.colours)
        untouched = _save_labels(folder, f"untouched-{number}", original, known)
    path = "" if item.image_path is None else str(item.image_path.resolve())
    return ItemRecord(
        _save_labels(folder, f"labels-{number}", labels, known),
        labels.geometry,
        untouched,
        labels.name,
        labels.names,
        labels.colours,
        labels.record,
        item.background,
        item.complete,
        item.image_name,
        item.image_hash,
        path,
        _from(folder, path),
    )


def _from(folder: Path, path: str) -> str:
    """A path as seen from the folder, with slashes; empty without one, or on another drive."""
    try:
        return Path(os.path.relpath(path, folder.resolve())).as_posix() if path else ""
    except ValueError:
        return ""


def _save_labels(folder: Path, stem: str, labels: LabelMap, known: Mapping[str, StoredFile]) -> StoredFile:
    """Write labels under a name of their own, unless they lie there already."""
    array = np.asarray(labels.array)
    said = [dataclasses.asdict(labels.geometry), sorted(labels.names.items()), sorted(labels.colours.items())]
    digest = hashlib.blake2b(json.dumps([said, array.dtype.str]).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array).data)
    told = digest.hexdigest()
    if told in known:
        return known[told]
    path = write(labels, folder / f"{stem}-{told[:_CUT]}.nii.gz")
    to_disk(path)
    return StoredFile(path.name, told, path.stat().st_size)


def _save_model(folder: Path, model: Path, known: Mapping[str, StoredFile]) -> StoredFile:
    """Copy a model file under a name of its own, unless it lies there already."""
    try:
        with model.open("rb") as file:
            told = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        if told in known:
            return known[told]
        path = folder / f"model-{told[:_CUT]}.safetensors"
        with replacing(path) as partial:
            shutil.copyfile(model, partial)
        to_disk(path)
    except OSError as error:
        raise WriteError(f"The model {model.name} cannot be copied ({error.strerror}); nothing was changed.") from error
    return StoredFile(path.name, told, path.stat().st_size)


def _open_item(folder: Path, item: ItemRecord, missing: Sequence[str]) -> WorkItem:
    untouched = None if item.untouched is None or item.untouched.name in missing else item.untouched
    array = _read_labels(folder / item.labels.name, item.geometry)
    return WorkItem(
        LabelMap(array, item.geometry, item.names, item.colours, name=item.name, record=item.made_by),
        item.background,
        item.complete,
        None if untouched is None else _read_labels(folder / untouched.name, item.geometry),
        item.image_name,
        item.image_hash,
        item.find_image(folder),
    )


def _read_labels(path: Path, geometry: Geometry) -> np.ndarray:
    """Voxels of a label file; where they are is told by ``work.json``, to the last digit."""
    try:
        labels = read(path, labels=True)[0]
    except LungSegError as error:
        raise ReadError(f"{error} To open the rest of the work, move {path.name} out of the folder.") from error
    if labels.array.shape != geometry.shape:
        raise ReadError(
            f"{path.name} has shape {labels.array.shape}, but its image {geometry.shape}: it was replaced by another file. "
            "Put the right one back, or move it out of the folder to open the rest of the work."
        )
    return np.asarray(labels.array)
