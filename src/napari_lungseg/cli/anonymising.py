"""``lungseg anonymise``: copies of DICOM files that name nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from . import show


def anonymise(path: Path, /, *paths: Path, out: Annotated[Path, Parameter(name=("--out", "-o"))]) -> int:
    """Copy DICOM files without the patient, by the standard's basic profile (PS3.15 Annex E).

    Pixels and geometry are kept; what segmentations refer to is followed when both are named together.

    Parameters
    ----------
    path : Path
        File or folder.
    paths : Path
        More of them.
    out : Path
        Folder to be made; one subfolder per series.
    """
    from ..io.anonymise import anonymise as steps

    left = show.drained(steps((path, *paths), out), "anonymise")
    show.line(str(out))
    show.findings(left)
    return 0
