"""Lungs on CT without a network: thresholds, components and a seam through the mediastinum.

The careful classical method of Hu, Hoffman & Reinhardt (IEEE TMI 2001, doi:10.1109/42.929615): air inside the body,
less the gas of airways and bowel, cut into right and left along the densest path, closed around vessels. It works slice
by slice, so a single slice is as welcome as a stack. It is here to label scans nobody has labelled, with
`threshold_confidence` to say which of those labels to believe.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..volume import LEFT_LUNG, RIGHT_LUNG

# Half-way between aerated lung (about −850 HU) and soft tissue (about 50 HU).
LUNG_BELOW_HU = -400
# Free gas (bowel, trachea) is about −1000 HU; lung, however emphysematous, holds vessels, and is large where it is dark.
GAS_BELOW_HU = -930
SMALL_GAS_BELOW_HU = -900
SMALL_MM2 = 1000.0
LARGEST_GAS_MM2 = 6000.0
SMALLEST_LUNG_MM2 = 150.0
SMALLEST_DOUBT_MM2 = 60.0
LARGEST_AIRWAY_MM2 = 900.0
# One large lung without the other is a collapsed lung, or a chest wall that leaks.
LARGEST_LONE_LUNG_MM2 = 3000.0
CLOSING_MM = 7.0
TABLE_MM = 5.0


@dataclass(frozen=True)
class SliceResult:
    """Labels of one slice, and what made them doubtful.

    Parameters
    ----------
    labels : (y, x) uint8, 1 right lung, 2 left lung
    unsure_mm2 : area of components that may be lung or gas
    """

    labels: np.ndarray
    unsure_mm2: float


def threshold_lungs(
    volume_hu: np.ndarray, spacing: tuple[float, float, float], *, below_hu: float = LUNG_BELOW_HU
) -> np.ndarray:
    """Right and left lung on axial or coronal CT slices.

    Parameters
    ----------
    volume_hu : (z, y, x) Hounsfield units in the standard view: columns run to the patient's left
    spacing : (z, y, x) mm
    below_hu : lung is darker than this

    Returns
    -------
    (z, y, x) uint8; 1 right lung, 2 left lung, 0 neither
    """
    return np.stack([_segment_slice(hu, spacing[1:], below_hu).labels for hu in volume_hu])


def threshold_confidence(volume_hu: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """How far the labels of each slice can be trusted, 0 to 1.

    It is the smallest Dice between the labels at three thresholds, for each lung alone: pneumonia, effusion and a seam
    in the wrong place move with the threshold, healthy lung does not. 0 where a piece may be lung or gas.

    Parameters
    ----------
    volume_hu, spacing : as for `threshold_lungs`

    Returns
    -------
    (z,) float32; above about 0.93 a slice is fit to learn from
    """
    return np.array([_confidence(hu, spacing[1:]) for hu in volume_hu], dtype=np.float32)


def _confidence(hu: np.ndarray, spacing: tuple[float, float]) -> float:
    results = [
        _segment_slice(hu, spacing, below) for below in (LUNG_BELOW_HU - 150, LUNG_BELOW_HU, LUNG_BELOW_HU + 150)
    ]
    if any(result.unsure_mm2 > 0 for result in results):
        return 0.0
    low, middle, high = (result.labels for result in results)
    areas = np.bincount(middle.ravel(), minlength=3)[1:] * spacing[0] * spacing[1]
    if areas.min() == 0 and areas.max() > LARGEST_LONE_LUNG_MM2:
        return 0.0
    return min(_dice(middle == lung, other == lung) for lung in (RIGHT_LUNG, LEFT_LUNG) for other in (low, high))


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    total = int(one.sum()) + int(other.sum())
    return 2.0 * int((one & other).sum()) / total if total else 1.0


def _segment_slice(hu: np.ndarray, spacing: tuple[float, float], below_hu: float) -> SliceResult:
    """Label one slice (y, x)."""
    body = _body(hu, spacing)
    labels = np.zeros(hu.shape, np.uint8)
    if not body.any():
        return SliceResult(labels, 0.0)
    smooth = _smooth(hu)
    air = body & (hu < below_hu)
    air &= ~_airways(smooth, air, body, spacing)
    lungs, unsure = _lung_components(smooth, air, spacing)
    if lungs.any():
        labels = _sides(hu, lungs, body, spacing)
        for lung in (RIGHT_LUNG, LEFT_LUNG):
            _close(labels, lung, body, spacing)
    return SliceResult(labels, unsure)


def _smooth(hu: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    return np.asarray(ndimage.uniform_filter(np.clip(hu, -1024, 600).astype(np.float32), 3))


def _within(mask: np.ndarray, spacing: tuple[float, float], mm: float) -> np.ndarray:
    """The mask, grown by a disc."""
    from scipy import ndimage

    return np.asarray(ndimage.distance_transform_edt(~mask, sampling=spacing) <= mm) if mask.any() else mask


def _eroded(mask: np.ndarray, spacing: tuple[float, float], mm: float) -> np.ndarray:
    """The mask, shrunk by a disc; the edge of the image does not shrink it."""
    from scipy import ndimage

    return np.asarray(ndimage.distance_transform_edt(mask, sampling=spacing) > mm)


def _opened(mask: np.ndarray, spacing: tuple[float, float], mm: float) -> np.ndarray:
    return np.asarray(mask & _within(_eroded(mask, spacing, mm), spacing, mm))


def _largest(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    pieces, count = ndimage.label(mask)
    return np.asarray(pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])) if count else mask


def _body(hu: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """The body with its lungs, without table and clothes: what outside air does not reach, opened, its largest piece."""
    from scipy import ndimage

    tissue = _opened(hu > -300, spacing, TABLE_MM / 2)
    filled = ndimage.binary_fill_holes(_largest(tissue))
    return np.asarray(filled)


def _airways(smooth: np.ndarray, air: np.ndarray, body: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """Trachea and main bronchi: small round gas near the middle of the body, with its wall."""
    from scipy import ndimage

    columns = np.flatnonzero(body.any(0))
    middle, reach = columns.mean(), 0.16 * len(columns)
    rows = np.flatnonzero(body.any(1))
    behind = rows[0] + 0.3 * len(rows)  # what lies in front of it is a bulla, not an airway
    gas = _opened(air & (smooth < GAS_BELOW_HU), spacing, 2.5)
    pieces, count = ndimage.label(gas)
    found = np.zeros(gas.shape, bool)
    for piece in range(1, count + 1):
        mask = pieces == piece
        area = mask.sum() * spacing[0] * spacing[1]
        row, column = (indices.mean() for indices in np.nonzero(mask))
        if area < LARGEST_AIRWAY_MM2 and abs(column - middle) < reach and row > behind:
            found |= mask
    return np.asarray(air & _within(found, spacing, 2.0))


def _lung_components(smooth: np.ndarray, air: np.ndarray, spacing: tuple[float, float]) -> tuple[np.ndarray, float]:
    """Pieces of air that are lung, and the area (mm²) of those that may be lung or gas."""
    from scipy import ndimage

    pieces, _ = ndimage.label(air)
    depth = ndimage.distance_transform_edt(air, sampling=spacing)
    lungs, unsure, slivers = np.zeros(air.shape, bool), 0.0, 0.0
    for piece, box in enumerate(ndimage.find_objects(pieces), start=1):
        mask = pieces[box] == piece
        area = float(mask.sum() * spacing[0] * spacing[1])
        if area < SMALLEST_DOUBT_MM2:
            continue
        within = depth[box] * mask
        values = smooth[box][within > min(within.max() / 2, 3.0)]
        if _is_gas(values, area):
            unsure += area if area > SMALL_MM2 and np.median(values) > GAS_BELOW_HU - 20 else 0.0
            continue
        if area < SMALLEST_LUNG_MM2:
            slivers += area
            continue
        lungs[box] |= mask
        unsure += area if area < SMALL_MM2 and np.percentile(values, 10) < SMALL_GAS_BELOW_HU + 40 else 0.0
    # Beside a lung, slivers are bronchi and bits of its base; alone, they may be all there is to see of it.
    return lungs, unsure if lungs.any() else unsure + slivers


def _is_gas(values: np.ndarray, area: float) -> bool:
    """Whether the inner voxels (HU) of a piece of so many mm² are free gas rather than lung."""
    median = float(np.median(values))
    return median < SMALL_GAS_BELOW_HU if area < SMALL_MM2 else median < GAS_BELOW_HU and area < LARGEST_GAS_MM2


def _sides(hu: np.ndarray, lungs: np.ndarray, body: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """Give each piece to the side that holds most of it; a piece on both sides is cut along the seam."""
    from scipy import ndimage

    left = np.arange(hu.shape[1]) >= _seam(hu, lungs, body, spacing)[:, None]
    pieces, count = ndimage.label(lungs)
    share = ndimage.mean(left, pieces, np.arange(count + 1))
    area = np.bincount(pieces.ravel()) * spacing[0] * spacing[1]
    cut = np.minimum(share, 1 - share) * area > SMALLEST_LUNG_MM2
    is_left = np.where(cut[pieces], left, share[pieces] > 0.5)
    return np.asarray(np.where(lungs, np.where(is_left, LEFT_LUNG, RIGHT_LUNG), 0), dtype=np.uint8)


def _seam(hu: np.ndarray, lungs: np.ndarray, body: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """Column of the densest path from front to back through the middle third of the body, one per row."""
    columns = np.flatnonzero(body.any(0))
    start, stop = (int(columns[0] + share * len(columns)) for share in (0.33, 0.67))
    middle = columns.mean() - start
    # Lung is dear, the darker the dearer; tissue is nearly free but not quite, so that the path stays straight.
    cost = np.where(lungs, 1.0 + np.clip(LUNG_BELOW_HU - hu, 0, 600) / 200, 0.0)[:, start:stop].astype(np.float32)
    cost += 0.02 * np.abs(np.arange(stop - start) - middle) / max(1, stop - start)
    total, steps = cost.copy(), np.zeros(cost.shape, np.int8)
    for row in range(1, len(cost)):
        before = np.pad(total[row - 1], 1, constant_values=np.inf)
        choices = np.stack([before[:-2] + 0.01, before[1:-1], before[2:] + 0.01])
        steps[row] = np.argmin(choices, 0) - 1
        total[row] += np.min(choices, 0)
    path = np.empty(len(cost), int)
    path[-1] = int(np.argmin(total[-1]))
    for row in range(len(cost) - 1, 0, -1):
        path[row - 1] = path[row] + steps[row, path[row]]
    return path + start


def _close(labels: np.ndarray, lung: int, body: np.ndarray, spacing: tuple[float, float]) -> None:
    """Close vessels and dents at the wall, fill holes; never over the other lung or out of the body. In place."""
    from scipy import ndimage

    mask = labels == lung
    if not mask.any():
        return
    closed = _within(mask, spacing, CLOSING_MM)
    closed = ndimage.binary_fill_holes(_eroded(closed, spacing, CLOSING_MM) | mask)
    labels[closed & body & (labels == 0)] = lung
