"""What a file is, where it does not say: label map or image, CT or radiograph, Hounsfield units or not."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import InvalidVolumeError, ReadError
from ..findings import Finding
from ..volume import AXIAL, FRONTAL, Geometry, LabelMap, Modality, Unit, Volume
from . import sidecar
from .colour import to_grey
from .decoded import Decoded, signed_for

# Air and lung are below this in every CT in Hounsfield units; radiographs and exported pictures never are.
HU_EVIDENCE = -200
# Unsigned CT is stored with this added (Hounsfield units begin at -1024 in 12-bit scanners): air lies near 0 or 24.
USUAL_OFFSET = 1024
# Fat and soft tissue, HU: the densest part of every body's histogram.
_SOFT_TISSUE_HU = (-130, 120)
# Above every tissue, below metal and artefacts, HU: a plain offset leaves few voxels beyond.
_DENSEST_HU = (200, 4000)
MOST_LABELS = 64
_LABEL_WORDS = frozenset(("mask", "masks", "seg", "segs", "label", "labels", "lm"))
_SAYS = {"ct": "CT", "xray": "X-ray", "photo": "photograph"}


def settle(decoded: Decoded, modality: Modality | None = None, labels: bool | None = None) -> Volume | LabelMap:
    """Decide what a file is and make it a `Volume` or a `LabelMap` that says why.

    Parameters
    ----------
    decoded : what the file holds
    modality, labels : the caller's word, which is final

    Raises
    ------
    ReadError
        For voxels that are neither, or that cannot be labels although the caller wants them to be.
    """
    decoded = to_grey(decoded, modality)
    labelled, said = sidecar.read(decoded.path, "labels"), sidecar.read(decoded.path, "volume")
    decoded = dataclasses.replace(decoded, findings=(*decoded.findings, *labelled.findings, *said.findings))
    because = "it was asked for" if labels else _labels_because(decoded, bool(labelled.entry))
    if because and labels is not False:
        keep_values = bool(labelled.entry or decoded.labels_because)
        return _label_map(sidecar.apply(decoded, labelled.entry), because, keep_values)
    known = sidecar.apply(decoded, said.entry or labelled.entry)
    return _volume(known, modality or said.entry.get("modality"), said.entry.get("unit"), said.entry.get("window"))


def as_labels(item: Volume | LabelMap) -> LabelMap:
    """The item as a label map: the other side of `as_volume`.

    Raises
    ------
    ReadError
        When the voxels are negative, in colour, or not whole numbers.
    """
    if isinstance(item, LabelMap):
        return item
    if item.unit == "rgb":
        raise ReadError("This is a colour picture, and labels are whole numbers; open the label map it belongs to.")
    array, findings = _unsigned(np.asarray(item.array), item.source, keep_values=False)
    findings = [Finding("labels-inferred", "Opened as a label map because it was asked for."), *findings]
    return LabelMap(array, item.geometry, findings=tuple(findings), source=item.source)


def as_volume(item: Volume | LabelMap, modality: Modality | None = None) -> Volume:
    """The item as an image, its voxels unchanged: the other side of `as_labels`."""
    if isinstance(item, Volume):
        return item
    kind = modality or ("ct" if item.geometry.shape[0] > 1 and not item.geometry.frames else "xray")
    return Volume(item.array, item.geometry, kind, "a.u.", source=item.source, name=_SAYS[kind])


def hu_offset(volume: Volume) -> float | None:
    """What to add to a CT's voxels so that they become Hounsfield units, or None where nothing speaks for an offset.

    The sign of an unsigned export: nothing below 0, most of the body within fat and soft tissue after the usual
    offset, air and lung below, bone above.
    """
    if volume.modality != "ct" or volume.unit != "a.u.":
        return None
    sample = _sample(np.asarray(volume.array)).astype(np.float64) - USUAL_OFFSET
    body = sample[sample > HU_EVIDENCE]
    if sample.min() < -USUAL_OFFSET or body.size < 0.02 * sample.size or np.mean(sample <= HU_EVIDENCE) < 0.02:
        return None
    soft = np.mean((body >= _SOFT_TISSUE_HU[0]) & (body <= _SOFT_TISSUE_HU[1]))
    densest = sample.max()
    plausible = soft > 0.4 and _DENSEST_HU[0] <= densest <= _DENSEST_HU[1]
    return -float(USUAL_OFFSET) if plausible else None


def apply_offset(volume: Volume, offset: float | None = None) -> Volume:
    """The CT in Hounsfield units, after adding ``offset`` (None: the one that `hu_offset` finds).

    Raises
    ------
    InvalidVolumeError
        When no offset is given and none is found.
    """
    offset = hu_offset(volume) if offset is None else offset
    if offset is None:
        raise InvalidVolumeError(
            f"No offset is apparent in this image (unit {volume.unit!r}); give the number that makes air -1000."
        )
    array = np.asarray(volume.array)
    low, high = float(array.min()), float(array.max())
    fitting = signed_for(low, high, offset, low + offset, high + offset) if array.dtype.kind in "iu" else None
    shifted = array.astype(np.float32) + np.float32(offset) if fitting is None else array.astype(fitting) + int(offset)
    told = Finding("offset-applied", f"{offset:+.0f} was added to every voxel to reach Hounsfield units.")
    kept = tuple(finding for finding in volume.findings if finding.code not in ("offset-hu", "no-hu"))
    return dataclasses.replace(volume, array=shifted, unit="HU", findings=(*kept, told), window=None)


def words(name: str) -> list[str]:
    """Whole words of a file name, in lower case: ``"ct_labelsTr-3"`` → ct, labels, tr."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def _labels_because(decoded: Decoded, has_sidecar: bool) -> str:
    """Why the file is a label map, or "" for an image; the order is that of the trust it deserves."""
    if decoded.array.ndim == 4:
        return ""
    if has_sidecar:
        return "a .labels.json lies beside it"
    if decoded.labels_because:
        return decoded.labels_because
    if decoded.lossy or not _may_be_labels(decoded.array):
        return ""
    looks = _looks_like_labels(decoded.array)
    stem = _LABEL_WORDS.intersection(words(decoded.path.name.split(".")[0]))
    if stem:
        return f"its name says {min(stem)!r} and its values are whole numbers"
    folder = _LABEL_WORDS.intersection(words(decoded.path.absolute().parent.name))
    # A folder's name ("lung seg") may name the project; the voxels must not speak against it.
    if folder and (looks or decoded.array.max() <= MOST_LABELS or _is_binary(decoded.array)):
        return f"its folder's name says {min(folder)!r} and its values are whole numbers"
    if decoded.judge_values and looks:
        return f"its values are whole numbers from 0 to {decoded.array.max():g}, mostly 0"
    return ""


def _may_be_labels(array: np.ndarray) -> bool:
    """Whether all values are whole numbers and none is negative (masks saved as floats count)."""
    if array.dtype.kind in "ub":
        return True
    if not array.min() >= 0:  # also false for NaN
        return False
    return array.dtype.kind == "i" or bool(np.isfinite(array.max()) and np.array_equal(array, np.rint(array)))


def _looks_like_labels(array: np.ndarray) -> bool:
    """Whether the values are 0…n, n ≤ 64 (or just 0 and 255), and at least half of them 0."""
    top = array.max()
    if not (1 <= top <= MOST_LABELS or top == 255) or array.min() != 0:
        return False
    few_zeros = np.count_nonzero(array) > array.size / 2
    return not few_zeros and (top <= MOST_LABELS or _is_binary(array))


def _is_binary(array: np.ndarray) -> bool:
    """Whether the only values are 0 and 255."""
    return bool(array.max() == 255 and np.all((array == 0) | (array == 255)))


def _unsigned(array: np.ndarray, source: str | Path, keep_values: bool) -> tuple[np.ndarray, list[Finding]]:
    """Voxels as the smallest fitting unsigned integers; a 0/255 mask becomes 0/1 unless its values mean something."""
    if not _may_be_labels(array):
        raise ReadError(
            f"{Path(source).name or 'The image'} is no label map: its values run from {np.min(array):g} to {np.max(array):g}, "
            "and labels are whole numbers from 0."
        )
    if array.dtype.kind == "i":
        array = array.view(f"u{array.dtype.itemsize}")  # none is negative: the same bits
    elif array.dtype.kind != "u":
        array = array.astype(np.min_scalar_type(int(array.max())))
    if not keep_values and _is_binary(array):
        told = Finding("mask-255", "The values 0 and 255 were taken as 0 and 1.")
        return (array != 0).astype(np.uint8), [told]
    return array, []


def _label_map(decoded: Decoded, because: str, keep_values: bool) -> LabelMap:
    array, findings = _unsigned(decoded.array, decoded.path, keep_values)
    told = Finding("labels-inferred", f"Opened as a label map because {because}.")
    return LabelMap(
        array,
        _in_display(decoded, "xray" if decoded.geometry.shape[0] == 1 or decoded.geometry.frames else "ct"),
        names=decoded.names,
        colours=decoded.colours,
        findings=(told, *findings, *decoded.findings),
        source=str(decoded.path),
        name=decoded.name or "labels",
        record=decoded.record,
    )


def _volume(decoded: Decoded, modality: Modality | None, unit: Unit | None, window: Sequence[float] | None) -> Volume:
    array, findings = _finite(decoded.array)
    if modality == "photo" and array.ndim == 3:
        array = np.repeat(array[..., None], 3, axis=3)
    kind = modality or _modality(array, decoded.geometry)
    if kind == "photo":
        settled: Unit = "rgb"
    else:
        settled = unit or ("HU" if kind == "ct" and array.min() <= HU_EVIDENCE else "a.u.")
    geometry = _in_display(decoded, kind)
    if kind == "ct" and geometry.frames:
        geometry = dataclasses.replace(geometry, frames=False)
    limits = (float(window[0]), float(window[1])) if window else None
    volume = Volume(array, geometry, kind, settled, limits, source=str(decoded.path), name=decoded.name or _SAYS[kind])
    if modality is None:
        findings.append(Finding("modality-inferred", _why(volume)))
    if kind == "ct" and settled == "a.u.":
        findings.append(_about_units(volume))
    if not decoded.placed and kind != "photo":
        findings.append(_about_sides(kind))
    if not geometry.is_mm:
        findings.append(
            Finding("no-spacing", "The file does not say how large its pixels are: lengths are in pixels, not mm.")
        )
    return dataclasses.replace(volume, findings=(*decoded.findings, *findings))


def _modality(array: np.ndarray, geometry: Geometry) -> Modality:
    if array.ndim == 4:
        return "photo"
    if array.min() <= HU_EVIDENCE or (array.shape[0] > 1 and not geometry.frames):
        return "ct"
    return "xray"


def _why(volume: Volume) -> str:
    low = np.min(volume.array)
    if volume.modality == "photo":
        return "Taken as a photograph, because it is in colour."
    if volume.unit == "HU":
        return f"Taken as CT in Hounsfield units, because its lowest value is {low:g}."
    if volume.modality == "ct":
        return "Taken as CT, because it is a stack of slices; the file does not say what it is."
    return "Taken as X-ray, because it is a grey picture without negative values; the file does not say what it is."


def _about_units(volume: Volume) -> Finding:
    offset = hu_offset(volume)
    if offset is None:
        told = "No Hounsfield units are apparent in this CT; values are taken as they are, and a CT model may fail."
        return Finding("no-hu", told)
    told = f"The values look like Hounsfield units stored with an offset: adding {offset:+.0f} would restore them."
    return Finding("offset-hu", told)


def _about_sides(kind: Modality) -> Finding:
    shown = "frontal radiograph (patient's right at the viewer's left, head up)"
    if kind == "ct":
        shown = "axial CT (patient's right at the viewer's left, front up)"
    return Finding(
        "assumed-display", f"The file does not say which side is which; taken in the usual display of a {shown}."
    )


def _in_display(decoded: Decoded, kind: Modality) -> Geometry:
    """The geometry, with the usual display's direction where the file gives none."""
    if decoded.placed:
        return decoded.geometry
    return dataclasses.replace(decoded.geometry, direction=AXIAL if kind == "ct" else FRONTAL)


def _finite(array: np.ndarray) -> tuple[np.ndarray, list[Finding]]:
    """Voxels without NaN and infinity, which become the lowest number there is."""
    if array.dtype.kind != "f" or bool(np.isfinite(array.min()) and np.isfinite(array.max())):
        return array, []
    good = np.isfinite(array)
    if not good.any():
        raise ReadError("Not one voxel is a finite number; the file is damaged. Export it again.")
    told = f"{array.size - np.count_nonzero(good)} voxel(s) are not finite numbers and were set to the lowest value."
    return np.where(good, array, array[good].min()), [Finding("not-finite", told)]


def _sample(array: np.ndarray, most: int = 500_000) -> np.ndarray:
    """Evenly spread voxels, few enough to be looked at quickly."""
    flat = array.reshape(-1)
    return flat[:: max(1, flat.size // most)]
