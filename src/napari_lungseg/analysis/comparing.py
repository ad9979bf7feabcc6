"""Two label maps slice by slice: where they differ, how much, and where most."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..progress import Progress
from ..volume import Geometry, LabelMap
from .evaluation import EvaluateSettings, on_one_grid
from .metrics import common_grid, evaluate
from .pairs import Both, by_name, note_about
from .regions import labels_of, name_of, pixel_area, region_of
from .table import Table

ONLY_PREDICTED, ONLY_REFERENCE, OTHER_LABEL = 1, 2, 3
DISAGREEMENT_NAMES: Mapping[int, str] = {
    ONLY_PREDICTED: "only in the prediction",
    ONLY_REFERENCE: "only in the reference",
    OTHER_LABEL: "another label",
}
# Told apart from each other and from orange and blue lungs under the common colour blindnesses, by lightness if not by hue.
DISAGREEMENT_COLOURS: Mapping[int, str] = {ONLY_PREDICTED: "#DC267F", ONLY_REFERENCE: "#FFF04D", OTHER_LABEL: "#785EF0"}
SLICE, POSITION = "slice", "position"
_AREAS = ("differing", "predicted", "reference")


@dataclass(frozen=True, eq=False)
class LabelComparison:
    """A prediction beside its reference.

    Parameters
    ----------
    table : from `evaluate`
    slices : from `compare_slices`
    disagreement : from `disagreement`
    note : what is doubtful about how the labels were matched, or ""
    """

    table: Table
    slices: Table
    disagreement: LabelMap
    note: str = ""


def iter_compare(
    predicted: LabelMap, reference: LabelMap, settings: EvaluateSettings | None = None
) -> Generator[Progress, None, LabelComparison]:
    """Compare two label maps whole, slice by slice and voxel by voxel; yields `Progress`, returns a `LabelComparison`.

    Labels are matched by name where both maps have the same names, else by number.

    Raises
    ------
    InvalidVolumeError
        When the grids differ and are not to be resampled, or cannot be.
    """
    settings = settings or EvaluateSettings()
    yield Progress(0, 4, "Matching labels and grids …")
    note = note_about(predicted, reference)
    both = on_one_grid(Both(by_name(predicted, reference), reference), settings)
    yield Progress(1, 4, "Measuring distances between surfaces …")
    table = evaluate(both.predicted, both.reference, tolerance=settings.tolerance)
    yield Progress(2, 4, "Comparing slices …")
    slices = compare_slices(both.predicted, both.reference)
    yield Progress(3, 4, "Drawing the disagreement …")
    return LabelComparison(table, slices, disagreement(both.predicted, both.reference), note)


def compare_slices(predicted: LabelMap, reference: LabelMap) -> Table:
    """Dice and areas slice by slice, in the standard view (`Geometry.reorientation`): slice 0 of a CT is nearest the feet.

    Parameters
    ----------
    predicted, reference : on one grid

    Returns
    -------
    Table
        One row per slice (or frame) and label, and one for the union of several labels (its label is None). ``position``
        is in mm along the slices from the first one, absent for frames and pixels; ``differing`` is the area in which only one
        of the two has the label (for the union: in which they are not the same). Dice is None where neither has it.

    Raises
    ------
    InvalidVolumeError
        When the grids differ.
    """
    grid = common_grid(predicted, reference)
    turn = grid.reorientation()
    standard = grid.reoriented(turn)
    names = {**predicted.names, **reference.names}
    one, other = (np.asarray(item.array) for item in (predicted, reference))
    labels = labels_of(names, one, other)
    regions = [*labels, None] if len(labels) > 1 else labels
    positions = _positions(standard)
    columns = (SLICE, *((POSITION,) if positions is not None else ()), "label", "name", "dice", *_AREAS)
    area = pixel_area(standard)
    rows: list[tuple[Any, ...]] = []
    for number, (ours, theirs) in enumerate(zip(turn.apply(one), turn.apply(other), strict=True)):
        place = (number,) if positions is None else (number, float(positions[number]))
        for label in regions:
            rows.append((*place, label, name_of(label, names, len(labels)), *_figures(ours, theirs, label, area)))
    unit = "mm2" if standard.is_mm else "pixel"
    units = dict.fromkeys(_AREAS, unit) | ({POSITION: "mm"} if positions is not None else {})
    return Table(columns, tuple(rows), units)


def disagreement(predicted: LabelMap, reference: LabelMap) -> LabelMap:
    """Where two label maps are not the same: `ONLY_PREDICTED`, `ONLY_REFERENCE`, `OTHER_LABEL`; 0 where they agree.

    Raises
    ------
    InvalidVolumeError
        When the grids differ.
    """
    grid = common_grid(predicted, reference)
    array = np.zeros(grid.shape, np.uint8)
    for target, ours, theirs in zip(array, np.asarray(predicted.array), np.asarray(reference.array), strict=True):
        differs = ours != theirs
        target[differs] = OTHER_LABEL
        target[differs & (theirs == 0)] = ONLY_PREDICTED
        target[differs & (ours == 0)] = ONLY_REFERENCE
    return LabelMap(array, grid, DISAGREEMENT_NAMES, DISAGREEMENT_COLOURS, name="disagreement")


def whole_slices(slices: Table, name: str | None = None) -> list[dict[str, Any]]:
    """One row per slice: of the label (or union) with this name; None: of all labels together, or of the only one."""
    wanted = [row for row in slices if name is None or row["name"] == name]
    return list({row[SLICE]: row for row in wanted}.values())  # the union stands last


def worst_slices(slices: Table, name: str | None = None) -> list[int]:
    """Slices that differ at all, the one with the largest differing area first.

    Area rather than Dice: at the tips of a lung a few voxels make a low Dice, and nobody corrects those first.

    Parameters
    ----------
    slices : from `compare_slices`
    name : of a label; None for all together
    """
    differing = [row for row in whole_slices(slices, name) if row["differing"] > 0]
    return [row[SLICE] for row in sorted(differing, key=lambda row: -row["differing"])]


def _figures(ours: np.ndarray, theirs: np.ndarray, label: int | None, area: float) -> Iterator[float | None]:
    """Dice, and the areas in the order of `_AREAS`, with that of a pixel."""
    one, other = region_of(ours, label), region_of(theirs, label)
    common, predicted, reference = (int(np.count_nonzero(mask)) for mask in (one & other, one, other))
    differing = int(np.count_nonzero(ours != theirs)) if label is None else predicted + reference - 2 * common
    yield 2 * common / (predicted + reference) if predicted + reference else None
    for count in (differing, predicted, reference):
        yield count * area


def _positions(grid: Geometry) -> np.ndarray | None:
    if grid.frames or not grid.is_mm:
        return None
    if grid.slice_positions is not None:
        return np.asarray(grid.slice_positions)
    return np.arange(grid.shape[0]) * grid.spacing[0]
