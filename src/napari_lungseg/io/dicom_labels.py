"""DICOM objects that hold labels: which they are, and what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..registry import Table
from ..volume import LabelMap
from .dicom_source import Grid

# SOP class UID → reader, called ``reader(path, grids)``; it returns label maps on one of the grids where they fit.
LABEL_OBJECTS = Table(
    "kind of DICOM labels",
    {
        "1.2.840.10008.5.1.4.1.1.66.4": "napari_lungseg.io.dicom_seg:read_seg",
        "1.2.840.10008.5.1.4.1.1.66.7": "napari_lungseg.io.dicom_seg:read_seg",
        "1.2.840.10008.5.1.4.1.1.481.3": "napari_lungseg.io.rtstruct:read_rtstruct",
    },
)


def read_labels(path: Path, sop_class: str, grids: Sequence[Grid]) -> list[LabelMap]:
    """Read one segmentation or structure set.

    Parameters
    ----------
    path : the file
    sop_class : a key of `LABEL_OBJECTS`
    grids : of the scans at hand

    Raises
    ------
    ReadError
        Where it is damaged, or nothing tells which grid it lies on.
    """
    found: list[LabelMap] = LABEL_OBJECTS.resolve(sop_class)(path, grids)
    return found
