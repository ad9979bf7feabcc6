"""What a file holds, before it is decided what it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..findings import Finding
from ..volume import Geometry


def signed_for(*values: float) -> np.dtype[Any] | None:
    """The smaller of 16 and 32 signed bits that holds these whole numbers, or None."""
    if all(float(value).is_integer() for value in values):
        for dtype in (np.dtype(np.int16), np.dtype(np.int32)):
            if np.iinfo(dtype).min <= min(values) and max(values) <= np.iinfo(dtype).max:
                return dtype
    return None


@dataclass(frozen=True, eq=False)
class Decoded:
    """Voxels and facts, as one file states them.

    Parameters
    ----------
    array : (z, y, x) or (z, y, x, channel) numbers
    geometry : where the voxels are; direction and origin count only where ``placed``
    path : the file
    placed : whether the file says where the image lies in the patient (pictures do not)
    labels_because : why the file itself is a label map ("its NIfTI intent is LABEL"), or ""
    lossy : whether the voxels were compressed with loss, which no label survives
    judge_values : whether voxels that look like labels may be taken for labels in this format
    names, colours, record : of a label map that brings them
    findings : what was noticed while decoding
    name : a neutral name, or "" for that of the modality
    """

    array: np.ndarray
    geometry: Geometry
    path: Path
    placed: bool = True
    labels_because: str = ""
    lossy: bool = False
    judge_values: bool = True
    names: Mapping[int, str] = field(default_factory=dict)
    colours: Mapping[int, str] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    name: str = ""
