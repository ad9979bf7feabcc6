"""Folders of autosaves: one for each session, locked while its napari runs, and those that were left over.

The lock is the operating system's own: it ends with the process however that ends, and no number of a process that was given
to another one deceives it. Only the user can look into the folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from ..errors import LungSegError, ReadError, WriteError
from ..training.work_record import RECORD, ItemRecord, WorkRecord, read_record, write_record

FOLDER_VARIABLE = "LUNGSEG_RECOVERY"
KEPT, KEPT_DAYS = 10, 30
_LOCK = ".lock"


def recovery_folder() -> Path:
    """Where autosaves lie: the folder named by ``LUNGSEG_RECOVERY``, or one in the user's data folder."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named).expanduser()
    from platformdirs import user_data_path

    return user_data_path("napari-lungseg", appauthor=False) / "recovery"


class SessionFolder:
    """The folder of this session's autosaves; made and locked when it is first asked for."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._lock: FileLock | None = None

    @property
    def is_made(self) -> bool:
        """Whether anything was saved."""
        return self._folder is not None

    @property
    def path(self) -> Path:
        """The folder.

        Raises
        ------
        WriteError
            When the disk refuses.
        """
        if self._folder is None:
            folder = recovery_folder() / f"{datetime.now():%Y%m%d-%H%M%S}-{uuid4().hex[:8]}"
            try:
                folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                # Locked before it is there, so that no other napari takes it for left over.
                lock = FileLock(_lock_of(folder), thread_local=False)
                lock.acquire(timeout=0)
                folder.mkdir(mode=0o700)
            except OSError as error:
                raise WriteError(
                    f"What you paint cannot be saved in {folder.parent} ({error.strerror}). Free some space, or name "
                    f"another folder in {FOLDER_VARIABLE}."
                ) from error
            self._folder, self._lock = folder, lock
        return self._folder

    def leave(self, *, keep: bool) -> None:
        """Let go of the folder, and remove it unless it is to be kept for the next session."""
        if self._folder is None or self._lock is None:
            return
        if not keep:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.release()
        if not keep:
            _remove_lock(self._folder)
        self._folder = self._lock = None


@dataclass(frozen=True)
class Leftover:
    """What a session left that is over.

    Parameters
    ----------
    folder : a work folder
    record : what lies in it
    """

    folder: Path
    record: WorkRecord

    def items_for(self, content: str) -> tuple[ItemRecord, ...]:
        """What was painted on the image with this hash."""
        return tuple(item for item in self.record.items if content and item.image_hash == content)

    def may_fit(self, shape: tuple[int, ...]) -> bool:
        """Whether anything was painted on an image with this number of voxels, in whatever order its axes are."""
        wanted = sorted(size for size in shape if size > 1)
        return any(wanted == sorted(size for size in item.geometry.shape if size > 1) for item in self.record.items)


def leftovers() -> list[Leftover]:
    """What sessions left that are over, the latest first; those of running ones are not among them."""
    found = []
    for folder in _folders():
        with _held(folder) as free, suppress(ReadError):
            if free:
                found.append(Leftover(folder, read_record(folder)))
    filled = [leftover for leftover in found if leftover.record.items]
    return sorted(filled, key=lambda leftover: leftover.record.saved, reverse=True)


def offered_for(content: str) -> list[Leftover]:
    """Leftovers with something painted on the image with this hash, the latest first."""
    return [leftover for leftover in leftovers() if leftover.items_for(content)]


def discard(leftover: Leftover) -> None:
    """Remove a leftover, unless another napari has taken it meanwhile."""
    with _held(leftover.folder) as free:
        if free:
            shutil.rmtree(leftover.folder, ignore_errors=True)
    if free:
        _remove_lock(leftover.folder)


def discard_for(leftover: Leftover, content: str) -> None:
    """Remove from a leftover what was painted on the image with this hash."""
    with suppress(LungSegError):
        leftover = replace(leftover, record=read_record(leftover.folder))
    taken = leftover.items_for(content)
    rest = tuple(item for item in leftover.record.items if item not in taken)
    if not rest:
        discard(leftover)
        return
    with _held(leftover.folder) as free:
        if free:
            write_record(leftover.folder, replace(leftover.record, items=rest))


def prune(now: datetime | None = None) -> None:
    """Remove leftovers that are too old or too many, and what sessions left that saved nothing."""
    found = leftovers()
    oldest = (now or datetime.now(UTC)) - timedelta(days=KEPT_DAYS)
    for number, leftover in enumerate(found):
        if number >= KEPT or leftover.record.saved < oldest:
            discard(leftover)
    for folder in _folders():
        with _held(folder) as free:
            empty = free and (not (folder / RECORD).exists() or _is_empty(folder))
            if empty:
                shutil.rmtree(folder, ignore_errors=True)
        if empty:
            _remove_lock(folder)


def _is_empty(folder: Path) -> bool:
    try:
        return not read_record(folder).items
    except ReadError:  # of a newer version, or damaged: somebody may still want it
        return False


def _folders() -> list[Path]:
    try:
        return [path for path in recovery_folder().iterdir() if path.is_dir()]
    except OSError:
        return []


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK)


def _remove_lock(folder: Path) -> None:
    with suppress(OSError):
        _lock_of(folder).unlink()


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Hold a session's folder for a moment; False where its napari still runs, or another one is looking at it."""
    lock = FileLock(_lock_of(folder))
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
