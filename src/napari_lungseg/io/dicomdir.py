"""DICOMDIR: the files that a disc's directory names. DICOM PS3.3, annex F; PS3.10, section 8."""

from __future__ import annotations

import warnings
from pathlib import Path

from ..errors import ReadError
from ..findings import Finding


def is_dicomdir(path: Path) -> bool:
    """Whether a path is a disc's directory file, by the name that the standard gives it."""
    return path.name.upper() == "DICOMDIR" and path.is_file()


def named_files(path: Path) -> tuple[list[Path], list[Finding]]:
    """The files that a DICOMDIR names, in its order, and what is told of those that are missing.

    Names that lead out of the disc are not followed.

    Raises
    ------
    ReadError
        Where it is damaged, or no file that it names is there.
    """
    root = path.parent.resolve()
    named = [_within(root, parts) for parts in _named(path)]
    files = list(dict.fromkeys(file for file in named if file is not None))
    missing = named.count(None)
    if not files:
        raise ReadError(
            f"None of the {len(named)} files that {path.name} names is beside it. Copy the whole disc, or open the folder "
            "in which the images are."
        )
    told = f"{missing} of {len(named)} files that the DICOMDIR names are not there; slices may be missing."
    return files, [Finding("missing-files", told)] if missing else []


def _named(path: Path) -> list[list[str]]:
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            records = pydicom.dcmread(path, force=True).get("DirectoryRecordSequence") or []
            names = [record.get("ReferencedFileID") for record in records]
    except Exception as error:  # pydicom raises anything from AttributeError to struct.error on damaged bytes
        raise ReadError(f"{path.name} is damaged ({error}). Open the folder in which the images are.") from error
    return [[name] if isinstance(name, str) else [str(part) for part in name] for name in names if name]


def _within(root: Path, parts: list[str]) -> Path | None:
    """The file of a name, if it is there and below the root; discs are also mounted with lower-case names."""
    for spelled in (parts, [part.lower() for part in parts]):
        file = root.joinpath(*spelled)
        if file.is_file() and file.resolve().is_relative_to(root):
            return file
    return None
