"""Where label maps go: a name for each, unique, neutral, and never an input's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import WriteError
from ..io import WRITERS, suffix_of
from ..io.archive import is_archive
from ..io.dicomdir import is_dicomdir


class Outputs:
    """The label maps of one run.

    Parameters
    ----------
    inputs : every path that was named
    out : a file name for one volume (its suffix is its format), or a folder
    suffix : format of files in a folder, e.g. ``".nii.gz"``
    overwrite : whether an older file may be replaced

    Raises
    ------
    WriteError
        When one file is to hold the labels of several inputs, or its suffix is no format that can be written.
    """

    def __init__(self, inputs: Sequence[Path], out: Path, suffix: str, overwrite: bool) -> None:
        self._inputs = {path.resolve() for path in inputs}
        self._out, self._suffix, self._overwrite = out, suffix, overwrite
        self._is_file = bool(suffix_of(out, WRITERS)) and not out.is_dir()
        self._taken: set[Path] = set()
        if not self._is_file and not out.is_dir() and re.fullmatch(r"\.[A-Za-z]{2,5}", out.suffix):
            raise WriteError(
                f"{out.name!r} ends like a file, but labels cannot be written as {out.suffix}. "
                f"End it with {', '.join(WRITERS)}, or name a folder."
            )
        if self._is_file and len(inputs) > 1:
            raise WriteError(f"{out.name!r} is one file, but {len(inputs)} inputs are given; name a folder instead.")

    def names_for(self, path: Path, volumes: Sequence[str], sources: Sequence[str]) -> list[Path]:
        """Paths for the labels of one input's volumes, checked before any work is done.

        Parameters
        ----------
        path : the input
        volumes : neutral name of each volume, e.g. ``"CT 3 chest"``; tells several apart
        sources : file or folder that each volume came from

        Raises
        ------
        WriteError
            When a file would be replaced without leave, an input would be replaced at all, or one file is to hold
            several label maps.
        """
        if self._is_file and len(volumes) > 1:
            raise WriteError(
                f"{path.name} holds {len(volumes)} volumes, but {self._out.name!r} is one file; name a folder instead."
            )
        stem = _stem(path)
        stems = [stem] if len(volumes) == 1 else [f"{stem}-{slug(name)}" for name in volumes]
        targets = [self._out] if self._is_file else [self._unique(name) for name in stems]
        for target in targets:
            self._check(target, {Path(source).resolve() for source in sources if source})
        return targets

    def beside(self, target: Path, word: str) -> Path:
        """Path of an image of the same volume: its labels' name with a word more, checked like that."""
        suffix = suffix_of(target, WRITERS)
        stem = target.name[: len(target.name) - len(suffix)].removesuffix("-labels")
        # DICOM is written of labels alone.
        path = target.with_name(f"{stem}-{word}{'.nii.gz' if suffix.endswith('.dcm') else suffix}")
        self._check(path, set())
        return path

    def _unique(self, stem: str) -> Path:
        number, target = 1, self._out / f"{stem}-labels{self._suffix}"
        while target in self._taken:
            number += 1
            target = self._out / f"{stem}-{number}-labels{self._suffix}"
        self._taken.add(target)
        return target

    def _check(self, target: Path, sources: set[Path]) -> None:
        if target.resolve() in self._inputs | sources:
            raise WriteError(
                f"{target.name!r} is an input and is never overwritten; choose another name for the labels."
            )
        if target.exists() and not self._overwrite:
            raise WriteError(f"{str(target)!r} exists already; add --overwrite to replace it, or choose another name.")


def slug(name: str) -> str:
    """A name with letters, digits and single hyphens only."""
    return re.sub(r"[^\w]+", "-", name).strip("-").lower() or "scan"


def _stem(path: Path) -> str:
    resolved = path.resolve()
    if is_dicomdir(resolved):
        resolved = resolved.parent
    suffix = "" if resolved.is_dir() else resolved.suffix if is_archive(resolved) else suffix_of(resolved)
    return resolved.name[: len(resolved.name) - len(suffix)] or "scan"
