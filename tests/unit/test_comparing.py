"""Slice by slice on a small anisotropic grid, where every figure is known by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from command_line import SHAPE

from napari_lungseg.analysis.comparing import (
    ONLY_PREDICTED,
    ONLY_REFERENCE,
    OTHER_LABEL,
    compare_slices,
    disagreement,
    iter_compare,
    whole_slices,
    worst_slices,
)
from napari_lungseg.analysis.evaluation import EvaluateSettings
from napari_lungseg.analysis.metrics import evaluate
from napari_lungseg.analysis.observers import OBSERVER_STUDIES, studies_for, told
from napari_lungseg.errors import InvalidVolumeError
from napari_lungseg.phantom import thorax_ct
from napari_lungseg.progress import drain
from napari_lungseg.volume import FRONTAL, LUNG_NAMES, Geometry, LabelMap

GRID = Geometry((4, 6, 5), (3.0, 0.5, 0.8), (-20.0, 7.0, 31.0))
PIXEL_MM2 = 0.5 * 0.8
FEET_LAST = ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def label_map(grid=GRID, *boxes):
    """A label map of (label, slices, rows, columns) boxes."""
    array = np.zeros(grid.shape, np.uint8)
    for label, *box in boxes:
        array[tuple(slice(*ends) for ends in box)] = label
    return LabelMap(array, grid, LUNG_NAMES)


@pytest.fixture
def two():
    """Slice 1: half of the right lung is missed. Slice 2: the left lung is called right, and a pixel is too much."""
    reference = label_map(GRID, (1, (1, 2), (0, 4), (0, 2)), (2, (2, 3), (0, 3), (0, 1)))
    predicted = label_map(GRID, (1, (1, 2), (0, 2), (0, 2)), (1, (2, 3), (0, 3), (0, 1)), (2, (2, 3), (5, 6), (4, 5)))
    return predicted, reference


def row_of(table, number, name):
    (row,) = [row for row in table if row["slice"] == number and row["name"] == name]
    return row


def test_every_slice_has_its_dice_and_areas(two):
    table = compare_slices(*two)
    assert len(table) == 4 * 3 and table.units["differing"] == "mm2" and table.units["position"] == "mm"
    assert table.column("position")[::3] == (0.0, 3.0, 6.0, 9.0)
    right = row_of(table, 1, "right lung")
    assert right["dice"] == pytest.approx(2 * 4 / (4 + 8))
    assert (right["predicted"], right["reference"]) == pytest.approx((4 * PIXEL_MM2, 8 * PIXEL_MM2))
    assert row_of(table, 2, "both")["dice"] == pytest.approx(2 * 3 / (4 + 3))
    # Of the union what counts is where the labels are not the same: three swapped pixels and one too many.
    assert row_of(table, 2, "both")["differing"] == pytest.approx(4 * PIXEL_MM2)
    assert row_of(table, 2, "left lung")["dice"] == 0.0
    assert row_of(table, 0, "both")["dice"] is None and row_of(table, 0, "both")["differing"] == 0


def test_the_worst_slice_is_the_one_with_most_that_differs(two):
    table = compare_slices(*two)
    assert worst_slices(table) == [1, 2]  # 4 pixels each: the lower one first
    predicted, reference = two
    predicted.array[2, :3, 3] = 1
    assert worst_slices(compare_slices(predicted, reference)) == [2, 1]
    assert worst_slices(compare_slices(reference, reference)) == []


def test_the_slices_add_up_to_the_whole(two):
    predicted, reference = thorax_ct(SHAPE, seed=1)[1], thorax_ct(SHAPE, seed=2)[1]
    slices, whole = compare_slices(predicted, reference), evaluate(predicted, reference)
    thickness = reference.geometry.spacing[0]
    for row in whole:
        of = [each for each in slices if each["label"] == row["label"]]
        for area, volume in (("predicted", "predicted_volume"), ("reference", "reference_volume")):
            assert sum(each[area] for each in of) * thickness / 1000 == pytest.approx(row[volume])
        both = sum(each["predicted"] + each["reference"] for each in of)
        shared = sum((each["dice"] or 0) * (each["predicted"] + each["reference"]) for each in of)
        assert shared / both == pytest.approx(row["dice"])


def test_slices_count_from_the_feet_however_the_file_is_ordered(two):
    flipped = [
        dataclasses.replace(
            item, array=item.array[::-1].copy(), geometry=dataclasses.replace(GRID, direction=FEET_LAST)
        )
        for item in two
    ]
    assert [row["differing"] for row in whole_slices(compare_slices(*flipped))] == [
        row["differing"] for row in whole_slices(compare_slices(*two))
    ]


def test_uneven_slices_keep_their_positions(two):
    grid = dataclasses.replace(GRID, slice_positions=(0.0, 2.0, 7.0, 8.0))
    table = compare_slices(*(dataclasses.replace(item, geometry=grid) for item in two))
    assert table.column("position")[::3] == (0.0, 2.0, 7.0, 8.0)


def test_pixels_and_frames_have_no_position(two):
    grid = dataclasses.replace(GRID, units="pixel")
    table = compare_slices(*(dataclasses.replace(item, geometry=grid) for item in two))
    assert "position" not in table.columns and table.units["differing"] == "pixel"
    assert row_of(table, 1, "right lung")["differing"] == 4
    frames = Geometry(GRID.shape, (1.0, 0.5, 0.8), (0.0, 0.0, 0.0), FRONTAL, frames=True)
    table = compare_slices(*(dataclasses.replace(item, geometry=frames) for item in two))
    assert "position" not in table.columns and table.units["differing"] == "mm2" and len(table) == 12


def test_the_disagreement_lies_on_the_grid_and_says_what_kind(two):
    found = disagreement(*two)
    assert found.geometry == GRID and found.array.dtype == np.uint8
    expected = np.zeros(GRID.shape, np.uint8)
    expected[1, 2:4, 0:2] = ONLY_REFERENCE
    expected[2, 0:3, 0:1] = OTHER_LABEL
    expected[2, 5, 4] = ONLY_PREDICTED
    assert np.array_equal(found.array, expected)
    assert set(found.names) == {ONLY_PREDICTED, ONLY_REFERENCE, OTHER_LABEL} and found.colours[1] != found.colours[2]


def test_empty_maps_and_one_voxel():
    empty, voxel = label_map(), label_map(GRID, (1, (2, 3), (1, 2), (4, 5)))
    table = compare_slices(empty, empty)
    assert {row["dice"] for row in table} == {None} and worst_slices(table) == []
    assert not disagreement(empty, empty).array.any()
    table = compare_slices(voxel, empty)
    assert worst_slices(table) == [2] and row_of(table, 2, "right lung")["dice"] == 0.0
    assert row_of(compare_slices(voxel, voxel), 2, "both")["dice"] == 1.0
    nameless = dataclasses.replace(empty, names={})
    assert len(compare_slices(nameless, nameless)) == 0 and worst_slices(compare_slices(nameless, nameless)) == []


def test_other_grids_are_refused_or_resampled(two):
    predicted, reference = two
    moved = dataclasses.replace(predicted, geometry=dataclasses.replace(GRID, origin=(-17.0, 7.0, 31.0)))
    for refuse in (compare_slices, disagreement):
        with pytest.raises(InvalidVolumeError, match="different grids"):
            refuse(moved, reference)
    with pytest.raises(InvalidVolumeError, match="different grids"):
        drain(iter_compare(moved, reference))
    result = drain(iter_compare(moved, reference, EvaluateSettings(resample=True)))
    # Moved up by one slice: what was in slice 1 is now in slice 2.
    assert result.disagreement.array[1, :4, :2].tolist() == [[ONLY_REFERENCE] * 2] * 4


def test_labels_are_matched_by_name(two):
    _, reference = two
    swapped = LabelMap(
        np.array([0, 2, 1], np.uint8)[reference.array], GRID, {1: "left lung", 2: "right lung"}, name="swapped"
    )
    result = drain(iter_compare(swapped, reference))
    assert set(result.table.column("dice")) == {1.0} and not result.disagreement.array.any() and not result.note


def test_published_figures_stand_beside_lungs_of_their_modality(two):
    ct = evaluate(*two)
    (study,) = studies_for(ct, GRID)
    assert study.modality == "ct" and study.source in told(study) and f"{study.mean:g}" in told(study)
    flat = Geometry((1, 6, 5), (1.0, 0.5, 0.8), (0.0, 0.0, 0.0), FRONTAL)
    xray = label_map(flat, (1, (0, 1), (0, 4), (0, 2)))
    assert [found.modality for found in studies_for(evaluate(xray, xray), flat)] == ["xray"]
    slice_of_ct = dataclasses.replace(xray, geometry=dataclasses.replace(flat, direction=GRID.direction))
    assert studies_for(evaluate(slice_of_ct, slice_of_ct), slice_of_ct.geometry) == [study]
    heart = dataclasses.replace(xray, names={1: "heart"})
    assert studies_for(evaluate(heart, heart), flat) == []
    assert all(found.url.startswith("https://") and 0 < found.mean < 1 for found in OBSERVER_STUDIES)
