"""Which files a path stands for, found by content where the name does not tell."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import ReadError
from ..findings import Finding
from . import READERS, suffix_of
from .archive import is_archive
from .dicom_header import is_dicom
from .dicomdir import is_dicomdir, named_files

# Files that lie beside scans without being one, so that they are not opened to look for DICOM.
_NEVER_DICOM = (
    ".json",
    ".csv",
    ".txt",
    ".md",
    ".raw",
    ".zraw",
    ".gz",
    ".xml",
    ".html",
    ".pdf",
    ".zip",
    ".py",
    ".safetensors",
)


def files_of(path: str | Path | Iterable[str | Path]) -> tuple[list[Path], list[Finding]]:
    """The files to read for a file, a folder or a list of files, and what was left out.

    Raises
    ------
    ReadError
        When there is no such path, or nothing in it that can be read.
    """
    if not isinstance(path, (str, os.PathLike)):
        paths = [Path(entry) for entry in path]
        if not paths:
            raise ReadError("The list of files is empty; name at least one file.")
        for entry in paths:
            _check_file(entry)
        return paths, []
    single = Path(path)
    if single.is_dir():
        return _files_in(single)
    _check_file(single)
    return named_files(single) if is_dicomdir(single) else ([single], [])


def candidates(path: str | Path | Iterable[str | Path]) -> tuple[list[Path], list[Finding]]:
    """The files of a path that may be DICOM by their names, unopened; the same that `files_of` looks into.

    Raises
    ------
    ReadError
        When there is no such path.
    """
    if isinstance(path, str | os.PathLike) and Path(path).is_dir():
        return [each for each in _below(Path(path)) if named_like_dicom(each.name)], []
    return files_of(path)


def is_container(path: Path) -> bool:
    """Whether a path may hold many series: a folder, a ZIP file or a disc's DICOMDIR."""
    return path.is_dir() or is_archive(path) or is_dicomdir(path)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise ReadError(f"{path.name} is a folder; in a list, name files, or open the folder by itself.")
    if not path.exists():
        raise ReadError(f"There is no file or folder {path.name!r} in {str(path.parent)!r}; check the path.")
    if path.stat().st_size == 0:
        raise ReadError(f"{path.name} is empty (0 bytes); copy or export it again.")


def _files_in(folder: Path) -> tuple[list[Path], list[Finding]]:
    """The DICOM files anywhere below a folder; without any, the volumes and pictures directly in it."""
    below = _below(folder)
    dicom = [path for path in below if may_be_dicom(path)]
    others = [path for path in below if suffix_of(path) and path.parent == folder and not _is_dicom_name(path)]
    others = [path for path in others if path.stat().st_size > 0]
    if dicom:
        left_out = f"{len(others)} other image file(s) in the folder were left unread; open them by name."
        return dicom, [Finding("other-files", left_out)] if others else []
    if others:
        return others, []
    deeper = sum(1 for path in below if suffix_of(path))
    where = f"; {deeper} lie in its subfolders: open one of those" if deeper else ""
    raise ReadError(
        f"The folder {folder.name!r} holds {len(below)} file(s), but no DICOM series and no volume or picture{where}. "
        f"Expected DICOM, {', '.join(suffix for suffix in READERS)}."
    )


def _below(folder: Path) -> list[Path]:
    names = (os.path.join(root, name) for root, _, names in os.walk(folder) for name in names if name[0] != ".")  # noqa: PTH118
    return [Path(name) for name in sorted(names)]


def _is_dicom_name(path: Path) -> bool:
    return READERS[suffix_of(path)] == READERS[".dcm"]


def named_like_dicom(name: str) -> bool:
    """Whether a file is worth opening to look for DICOM; a DICOMDIR and pictures are not."""
    path = Path(name)
    suffix = suffix_of(path)
    if suffix and not _is_dicom_name(path):
        return False
    return path.suffix.lower() not in _NEVER_DICOM and path.name.upper() != "DICOMDIR"


def may_be_dicom(path: Path) -> bool:
    """By name where the suffix is known (only content tells a DICOMDIR and files without suffix), else by content."""
    return named_like_dicom(path.name) and is_dicom(path)
