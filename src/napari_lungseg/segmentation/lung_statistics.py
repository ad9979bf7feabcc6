"""What a result is judged by: sizes, outlines, HU, the network's own doubt, and how its labels fared in other views.

The best single sign is the Dice that a network expects of itself: with p the soft-max of a class and y where that class
wins, 2·Σp·y / (Σp + Σy). Where a network is torn, p is torn too (Kushibar et al., "Layer ensembles", MICCAI 2022, compare
such scores).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from ..models.spec import ModelSpec
from ..volume import Volume
from .evidence import VIEWS, Evidence, counts_of


@dataclass(frozen=True)
class LungStatistics:
    """What `check` looks at, for one stack or one radiograph.

    Parameters
    ----------
    right, left : size in ml, or as a share of the image for a radiograph or where no spacing is known
    expected_dice_right, expected_dice_left : the Dice that the network expects of itself
    roughness : outline of the worse lung, as a multiple of its box's outline
    cut_off : largest share of a lung's widest section that lies on an edge of the image
    lung_hu, air_hu : median HU of the lungs, and HU of the darkest hundredth of the scan; NaN for a radiograph
    agreement : Dice with the labels of each of `VIEWS`; empty where nothing was looked at again
    changed : share of the labelled pixels that tidying up took away or added
    hollow : largest share of a lung's convex hull, in its widest slice, that it does not fill
    uneven : how far apart the lungs' upper and lower ends lie, as a share of their height
    width_mm, height_mm : of the box that holds both lungs; NaN where no spacing is known or one end is not shown
    """

    right: float
    left: float
    expected_dice_right: float
    expected_dice_left: float
    roughness: float
    cut_off: float
    lung_hu: float = float("nan")
    air_hu: float = float("nan")
    agreement: tuple[float, ...] = ()
    changed: float = 0.0
    hollow: float = 0.0
    uneven: float = 0.0
    width_mm: float = float("nan")
    height_mm: float = float("nan")

    @property
    def expected_dice(self) -> float:
        """Of the worse lung that is there."""
        pairs = ((self.right, self.expected_dice_right), (self.left, self.expected_dice_left))
        return min((dice for size, dice in pairs if size > 0), default=0.0)

    @property
    def balance(self) -> float:
        """Size of the smaller lung over that of the larger."""
        return min(self.right, self.left) / max(self.right, self.left, 1e-9)

    def as_record(self) -> dict[str, float]:
        """All of it as JSON-ready numbers."""
        values = asdict(self) | {"expected_dice": self.expected_dice, "balance": self.balance}
        values |= dict(zip(VIEWS, values.pop("agreement"), strict=False))
        return {name: round(float(value), 5) for name, value in values.items() if np.isfinite(value)}


def statistics(labels: np.ndarray, view: Volume, evidence: Evidence, spec: ModelSpec) -> list[LungStatistics]:
    """Measure what `check` judges: one entry for a stack, one per radiograph.

    Parameters
    ----------
    labels : (z, y, x) uint8 on the grid of ``view``
    view : the scan in the standard view
    evidence : (z, classes, 3) per slice and class the sums of p·y, p and y (see the module)
    spec : of the model that made the labels
    """
    right, left = lungs_of(spec)
    return [_measure(labels[part], evidence[part], view, part, right, left) for part in _parts(view)]


def _parts(view: Volume) -> list[slice]:
    """Slices that are judged together."""
    depth = view.geometry.shape[0]
    return [slice(z, z + 1) for z in range(depth)] if view.is_frames else [slice(0, depth)]


def lungs_of(spec: ModelSpec) -> tuple[int, int]:
    """Labels of the right and left lung, 0 where the model has none."""
    by_name: Mapping[str, int] = {name.lower(): label for label, name in spec.names.items()}
    return by_name.get("right lung", 0), by_name.get("left lung", 0)


def _measure(
    labels: np.ndarray, evidence: Evidence, view: Volume, part: slice, right: int, left: int
) -> LungStatistics:
    sums = evidence.sums.sum(axis=0, dtype=np.float64)
    dice = 2 * sums[:, 0] / np.maximum(sums[:, 1] + sums[:, 2], 1e-9)
    classes = (right, left) if right and left else (0, int(1 + sums[1:, 2].argmax()) if len(sums) > 1 else 0)
    profiles = [_profile(labels, label) if label else np.zeros(len(labels)) for label in classes]
    in_ml = view.modality == "ct" and view.geometry.is_mm
    scale = view.geometry.voxel_volume_mm3 / 1000 if in_ml else 1 / labels.size
    hu = _hounsfield(labels, view, part) if view.unit == "HU" else (float("nan"), float("nan"))
    extent = _extent_mm(labels, view)
    return LungStatistics(
        right=float(profiles[0].sum() * scale),
        left=float(profiles[1].sum() * scale),
        expected_dice_right=float(dice[classes[0]]),
        expected_dice_left=float(dice[classes[1]]),
        roughness=max(_roughness(labels, label, profile) for label, profile in zip(classes, profiles, strict=True)),
        cut_off=max(_cut_off(labels, label, profile) for label, profile in zip(classes, profiles, strict=True)),
        lung_hu=hu[0],
        air_hu=hu[1],
        agreement=_agreement(evidence),
        changed=_changed(labels, evidence.pixels),
        hollow=max(_hollow(labels, label, profile) for label, profile in zip(classes, profiles, strict=True)),
        uneven=_uneven(labels, classes),
        width_mm=extent[0],
        height_mm=extent[1],
    )


def _agreement(evidence: Evidence) -> tuple[float, ...]:
    """Dice between the labels and those of each view, over the slices that were looked at again."""
    looked = evidence.agreement[~np.isnan(evidence.agreement[:, 0, 0])]
    sums = looked.sum(axis=0, dtype=np.float64) if len(looked) else ()
    return tuple(float(same / total) if total else 1.0 for same, total in sums)


def _changed(labels: np.ndarray, pixels: np.ndarray) -> float:
    """Share of the pixels that tidying up gave another label, at least: what it took away here and added there."""
    now = np.array([counts_of(plane, pixels.shape[1]) for plane in labels])
    return float(np.abs(now - pixels)[:, 1:].sum() / max(1, now[:, 1:].sum() + pixels[:, 1:].sum()))


def _hollow(labels: np.ndarray, label: int, profile: np.ndarray) -> float:
    """Share of the convex hull that the label does not fill, in the slice that shows most of it."""
    from scipy.spatial import ConvexHull

    if not profile.any():
        return 0.0
    mask = labels[int(profile.argmax())] == label
    rows = np.flatnonzero(mask.any(1))
    left, right = mask[rows].argmax(1), mask.shape[1] - mask[rows, ::-1].argmax(1)
    points = np.concatenate([np.stack([r, c], 1) for r in (rows, rows + 1) for c in (left, right)])
    return float(1 - np.count_nonzero(mask) / ConvexHull(points).volume)


def _uneven(labels: np.ndarray, classes: tuple[int, int]) -> float:
    """How far apart the lungs' tops and bottoms lie, as a share of their height; 0 where there are not two."""
    spans = [np.flatnonzero((labels == label).any(axis=(0, 2))) for label in classes if label]
    if len(spans) < 2 or not all(len(span) for span in spans):
        return 0.0
    (a, b), (c, d) = ((span[0], span[-1]) for span in spans)
    return float((abs(a - c) + abs(b - d)) / (b - a + d - c + 2))


def _extent_mm(labels: np.ndarray, view: Volume) -> tuple[float, float]:
    """Width and height of all that is labelled, as the patient stands; NaN for one axial slice."""
    upright, height_axis = view.modality != "ct", 0 if view.modality == "ct" else 1
    if not view.geometry.is_mm or not labels.any() or (len(labels) == 1 and not upright):
        return float("nan"), float("nan")
    sizes = []
    for axis in (2, height_axis):
        seen = np.flatnonzero(labels.any(axis=tuple(other for other in range(3) if other != axis)))
        sizes.append(float(seen[-1] - seen[0] + 1) * view.geometry.spacing[axis])
    return sizes[0], sizes[1]


def _profile(labels: np.ndarray, label: int) -> np.ndarray:
    """(z,) pixels with the label."""
    return np.array([np.count_nonzero(plane == label) for plane in labels])


def _roughness(labels: np.ndarray, label: int, profile: np.ndarray) -> float:
    """Length of the outline over that of its box, in the slice that shows most of the label; 0 where there is none."""
    if not profile.any():
        return 0.0
    mask = labels[int(profile.argmax())] == label
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    padded = np.pad(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1)
    faces = sum(int(np.count_nonzero(np.diff(padded, axis=axis))) for axis in (0, 1))
    return faces / float(2 * (rows[-1] - rows[0] + columns[-1] - columns[0] + 2))


def _cut_off(labels: np.ndarray, label: int, profile: np.ndarray) -> float:
    """Share of the label's widest section (in a stack) or height (in one image) that lies on an edge of the image."""
    if not profile.any():
        return 0.0
    ends = max(profile[0], profile[-1]) / profile.max() if len(profile) > 1 else 0.0
    mask = labels[int(profile.argmax())] == label
    edges = max(int(np.count_nonzero(edge)) for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))
    return float(max(ends, edges / np.count_nonzero(mask.any(1))))


def _hounsfield(labels: np.ndarray, view: Volume, part: slice) -> tuple[float, float]:
    """Median HU of what is labelled and HU of the darkest hundredth of the scan, from every fourth voxel a side."""
    thin = (slice(None, None, max(1, len(labels) // 40)), slice(None, None, 4), slice(None, None, 4))
    values, chosen = np.asarray(view.array[part][thin]), labels[thin] > 0
    lung = float(np.median(values[chosen])) if chosen.any() else float("nan")
    inside = values[values > -1100]  # scanners fill what lies outside their circle with −2000 and the like
    return lung, float(np.percentile(inside, 1)) if inside.size else float("nan")
