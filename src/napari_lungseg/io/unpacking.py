"""Reading scans out of a ZIP archive: into memory, for the unpacked files do not stay."""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ReadError
from ..findings import Finding
from . import archive, suffix_of
from .dicom_header import starts_like_dicom
from .discover import named_like_dicom

if TYPE_CHECKING:
    from . import Item


def read_archive(path: Path, **how: Any) -> list[Item]:
    """Read a ZIP file as the folder that it packs: its DICOM series, else its volumes and pictures.

    Parameters
    ----------
    path : the ZIP file
    how : ``modality``, ``labels`` and ``reference``, as `read` takes them

    Raises
    ------
    ReadError
        Where it holds nothing that can be read, or cannot be trusted.
    """
    with archive.opened(path) as opened:
        members, told = archive.members_of(opened)
        dicom = [
            each.filename for each in members if named_like_dicom(each.filename) and _is_dicom(opened, each.filename)
        ]
    others = [each.filename for each in members if suffix_of(each.filename) and each.filename not in set(dicom)]
    if not dicom and not others:
        because = " ".join(finding.message for finding in told)
        raise ReadError(f"{path.name} holds no DICOM series and no volume or picture. {because}".rstrip())
    with archive.unpacked(path, dicom or others) as (files, damaged):
        return read_unpacked(files, path, [*told, *damaged], **how)


def read_unpacked(files: Sequence[Path], zipped: Path, told: Iterable[Finding], **how: Any) -> list[Item]:
    """Read unpacked files into memory, as what the archive holds."""
    from ..volume import Volume
    from . import read

    items = read(files, **how)
    loaded = [item.load() if isinstance(item, Volume) else item for item in items]
    kept = [dataclasses.replace(item, source=str(zipped)) for item in loaded]
    return [dataclasses.replace(kept[0], findings=(*kept[0].findings, *told)), *kept[1:]]


def _is_dicom(opened: zipfile.ZipFile, name: str) -> bool:
    try:
        with opened.open(name) as file:
            return starts_like_dicom(file.read(132))
    except archive.DAMAGE:
        return True  # told when it is unpacked
