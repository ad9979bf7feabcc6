"""The front door: `read` opens whatever a path holds, `write` saves a volume or a label map.

A reader or a writer is one function and one line in a table. Readers are called ``reader(paths, modality=…, labels=…)``
and return a list of `Volume` and `LabelMap`; that of DICOM is also given ``reference``. Writers are called
``writer(item, path)`` with a path in a temporary folder, and return what the format holds by itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from ..errors import ReadError, WriteError
from ..registry import Table

if TYPE_CHECKING:
    from ..volume import LabelMap, Modality, Volume
    from .dicom_source import Reference
    from .series_entry import SeriesEntry

    Item: TypeAlias = Volume | LabelMap
    AsLabels: TypeAlias = bool | Literal["skip"] | None

__all__ = ["LARGEST_CT", "READERS", "WRITERS", "read", "suffix_of", "write"]

# The word for the CT series with the most slices, wherever one series is asked for.
LARGEST_CT = "largest-ct"
_DICOM = "napari_lungseg.io.dicom:read_dicom"
_ITK = "napari_lungseg.io.itk:read_itk"
_RASTER = "napari_lungseg.io.raster:read_raster"

READERS = Table(
    "kind of file to read",
    {
        ".dcm": _DICOM,
        ".dicom": _DICOM,
        ".ima": _DICOM,
        ".seg.dcm": _DICOM,
        ".labelmap.dcm": _DICOM,
        ".rtstruct.dcm": _DICOM,
        ".nii": _ITK,
        ".nii.gz": _ITK,
        ".mha": _ITK,
        ".mhd": _ITK,
        ".nrrd": _ITK,
        ".nhdr": _ITK,
        ".seg.nrrd": _ITK,
        ".png": _RASTER,
        ".jpg": _RASTER,
        ".jpeg": _RASTER,
        ".tif": _RASTER,
        ".tiff": _RASTER,
        ".gif": _RASTER,
    },
)

WRITERS = Table(
    "kind of file to write",
    {
        ".nii": "napari_lungseg.io.itk:write_nifti",
        ".nii.gz": "napari_lungseg.io.itk:write_nifti",
        ".mha": "napari_lungseg.io.itk:write_metaimage",
        ".mhd": "napari_lungseg.io.itk:write_metaimage",
        ".nrrd": "napari_lungseg.io.itk:write_nrrd",
        ".seg.nrrd": "napari_lungseg.io.itk:write_nrrd",
        ".png": "napari_lungseg.io.raster:write_png",
        ".tif": "napari_lungseg.io.raster:write_tiff",
        ".tiff": "napari_lungseg.io.raster:write_tiff",
        ".dcm": "napari_lungseg.io.dicom_seg_write:write_seg",
        ".seg.dcm": "napari_lungseg.io.dicom_seg_write:write_seg",
        ".labelmap.dcm": "napari_lungseg.io.dicom_seg_write:write_labelmap_seg",
        ".rtstruct.dcm": "napari_lungseg.io.rtstruct_write:write_rtstruct",
    },
)


def suffix_of(path: str | Path, table: Table = READERS) -> str:
    """The longest suffix of ``path`` that the table knows (``".nii.gz"`` before ``".gz"``), or ``""``."""
    name = Path(path).name.lower()
    return max((suffix for suffix in table if name.endswith(suffix) and name != suffix), key=len, default="")


def read(
    path: str | Path | Iterable[str | Path],
    *,
    modality: Modality | None = None,
    labels: AsLabels = None,
    reference: Reference | None = None,
    series: str | SeriesEntry | None = None,
) -> list[Item]:
    """Read every scan and label map that a path holds.

    Parameters
    ----------
    path : a file; a folder (its DICOM series, searched through all subfolders; where it has none, the volumes and
        pictures directly in it); a ZIP file of such, unpacked in memory; a disc's DICOMDIR; or a list of files
    modality : what the files are, where they do not say it themselves or say it wrongly
    labels : True opens files as label maps, False as images; None decides and says why in a finding; "skip" decides,
        and leaves label maps out (DICOM's unread)
    reference : the scan that DICOM segmentations and structure sets belong to, as a path or as volumes; needed only where
        it is neither among the files nor in the same folder
    series : only this DICOM series: an entry of `list_series`, or what `SeriesList.pick` understands ("largest-ct", "4")

    Returns
    -------
    list of Volume and LabelMap
        One per DICOM series, per volume file, and per picture; pictures of one size in a folder or list are one stack
        of radiographs. Each carries its findings.

    Raises
    ------
    ReadError
        When nothing can be read, with the reason.
    """
    if series is not None:
        from .series_list import read_series

        return read_series(path, series, modality=modality, labels=labels, reference=reference)
    from .archive import is_archive
    from .discover import files_of
    from .unpacking import read_archive

    if isinstance(path, str | Path) and is_archive(Path(path)):
        return read_archive(Path(path), modality=modality, labels=labels, reference=reference)
    paths, findings = files_of(path)
    items: list[Item] = []
    for reader, members in _by_reader(paths).items():
        items += _call(reader, members, modality, labels, reference)
    if not items and labels == "skip":
        raise ReadError(f"{paths[0].name} is a label map, not an image; name the scan that it belongs to.")
    if not items:
        raise ReadError(f"{paths[0].name} holds no image that can be opened.")
    items[0] = dataclasses.replace(items[0], findings=(*items[0].findings, *findings))
    return items


def write(item: Item, path: str | Path, *, reference: str | Path | None = None) -> Path:
    """Write a volume or a label map; the suffix chooses the format.

    The file appears complete or not at all. What a format cannot hold (names, colours, geometry of a picture …) goes
    into ``NAME.labels.json`` (a volume's: ``NAME.volume.json``) beside it, which `read` takes up again.

    Parameters
    ----------
    item : what to write, in the voxel order of the scan it belongs to
    path : of the file; its folder is made where it is missing
    reference : file or folder of the DICOM series that DICOM labels refer to, where ``item.source`` is not it

    Returns
    -------
    Path
        Of the file written.

    Raises
    ------
    WriteError
        When the format cannot hold this item (naming those that can), or the disk refuses.
    """
    from . import atomic, sidecar

    target = Path(path)
    suffix = suffix_of(target, WRITERS)
    if not suffix:
        raise WriteError(f"{target.name!r} names no format that can be written; end it with {', '.join(WRITERS)}.")
    if reference is not None:
        item = dataclasses.replace(item, source=str(reference))
    with atomic.replacing(target) as temporary:
        held = WRITERS.resolve(suffix)(item, temporary)
        sidecar.write(item, target, suffix, temporary.parent, held)
    return target


def _by_reader(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Paths by the suffix whose reader takes them; files of one reader stay together, in order."""
    from .dicom_header import is_dicom

    groups: dict[str, list[Path]] = {}
    for path in paths:
        suffix = suffix_of(path) or (".dcm" if is_dicom(path) else "")
        if not suffix:
            raise ReadError(f"{path.name} is of no kind that can be read here: expected DICOM, {', '.join(READERS)}.")
        groups.setdefault(READERS[suffix], []).append(path)
    return {next(suffix for suffix in READERS if READERS[suffix] == reader): group for reader, group in groups.items()}


def _call(
    suffix: str,
    paths: Sequence[Path],
    modality: Modality | None,
    labels: AsLabels,
    reference: Reference | None,
) -> list[Item]:
    """Run one reader; DICOM says itself what is a label map, so a wish is fulfilled afterwards."""
    from ..volume import Volume

    reader, skip = READERS.resolve(suffix), labels == "skip"
    items: list[Item]
    if READERS[suffix] != _DICOM:
        items = reader(paths, modality=modality, labels=None if skip else labels)
        return [item for item in items if isinstance(item, Volume)] if skip else items
    from .infer import as_labels, as_volume

    items = reader(paths, modality=modality, labels=False if skip else labels, reference=reference)
    if skip:
        return [item for item in items if isinstance(item, Volume)]
    if labels is None:
        return items
    return [as_labels(item) if labels else as_volume(item, modality) for item in items]
