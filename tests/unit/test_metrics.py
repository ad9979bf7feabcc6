"""Metrics against figures worked out by hand, against MONAI, and on the grids that break naive ones."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_lungseg.analysis.metrics import METRICS, evaluate
from napari_lungseg.analysis.quantity import Quantity
from napari_lungseg.errors import InvalidVolumeError
from napari_lungseg.phantom import thorax_ct
from napari_lungseg.volume import FRONTAL, LUNG_NAMES, Geometry, LabelMap

SPACING = (3.0, 0.7, 1.3)


def label_map(array, names=LUNG_NAMES, **geometry):
    array = np.asarray(array, np.uint8)
    return LabelMap(
        array, Geometry(array.shape, **{"spacing": SPACING, "origin": (-40.0, 7.0, 90.0), **geometry}), names
    )


def row_of(table, name):
    return next(row for row in table if row["name"] == name)


@pytest.fixture(scope="module")
def two_maps():
    """A reference and a prediction with the left lung moved one voxel on each axis and a stray piece."""
    _, reference = thorax_ct((24, 40, 50), seed=1)
    moved = reference.array.copy()
    moved[moved == 2] = 0
    moved[1:, 1:, 1:][reference.array[:-1, :-1, :-1] == 2] = 2
    moved[2:4, 3:6, 4:9] = 1
    return dataclasses.replace(reference, array=moved), reference


def test_boxes_by_hand():
    reference, predicted = np.zeros((2, 6, 12, 14), np.uint8)
    reference[1:5, 2:8, 3:9] = 1
    predicted[1:5, 2:8, 5:11] = 1  # two voxels to the left: 2.6 mm
    row = row_of(evaluate(label_map(predicted, {1: "box"}), label_map(reference, {1: "box"})), "box")
    assert row["dice"] == pytest.approx(2 * 4 * 6 * 4 / (2 * 4 * 6 * 6))
    assert row["iou"] == pytest.approx(4 / 8)
    assert row["hd95"] == pytest.approx(2.6)
    assert row["predicted_volume"] == row["reference_volume"] == pytest.approx(4 * 6 * 6 * math.prod(SPACING) / 1000)


def test_counts_are_over_the_whole_image_and_differences_have_a_sign():
    reference, predicted = np.zeros((2, 5, 12, 14), np.uint8)
    reference[1:3, 2:8, 3:7] = 1  # 48 voxels
    predicted[1:3, 2:8, 4:7] = 1  # 36 of them
    predicted[4, 0, 0:6] = 1  # and 6 elsewhere
    row = row_of(evaluate(label_map(predicted, {1: "box"}), label_map(reference, {1: "box"})), "box")
    assert row["sensitivity"] == pytest.approx(36 / 48)
    assert row["precision"] == pytest.approx(36 / 42)
    total = 5 * 12 * 14
    assert row["accuracy"] == pytest.approx((total - 12 - 6) / total)
    assert row["background_iou"] == pytest.approx((total - 54) / (total - 36))
    assert row["volume_difference"] == pytest.approx(-6 * math.prod(SPACING) / 1000)
    assert row["relative_difference"] == pytest.approx(-6 / 48)


def test_every_axis_counts_with_its_own_spacing():
    for axis, step in enumerate(SPACING):
        reference = np.zeros((9, 9, 9), np.uint8)
        reference[3:5, 3:5, 3:5] = 1
        predicted = np.roll(reference, 2, axis)
        row = row_of(evaluate(label_map(predicted, {1: "box"}), label_map(reference, {1: "box"})), "box")
        assert row["hd95"] == pytest.approx(min(2 * step, 2 * step))
        # The near face is one step away, the far face two; both faces count alike.
        assert row["assd"] == pytest.approx(1.5 * step)


@pytest.mark.parametrize("flat", [False, True])
def test_agrees_with_monai(two_maps, flat):
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    predicted, reference = two_maps
    if flat:
        cut = {"spacing": (1.0, 1.9, 0.6), "direction": FRONTAL}
        predicted, reference = (label_map(item.array[10:11], **cut) for item in (predicted, reference))
    spacing = list(reference.geometry.spacing[1:] if flat else reference.geometry.spacing)
    tolerance = 4.0
    ours = evaluate(predicted, reference, tolerance=tolerance)
    for label, name in LUNG_NAMES.items():
        one, other = (torch.as_tensor((item.array == label)[None, None]).float() for item in (predicted, reference))
        if flat:
            one, other = one[:, :, 0], other[:, :, 0]
        hd95 = metrics.compute_hausdorff_distance(one, other, include_background=True, percentile=95, spacing=spacing)
        assd = metrics.compute_average_surface_distance(
            one, other, include_background=True, symmetric=True, spacing=spacing
        )
        nsd = metrics.compute_surface_dice(one, other, [tolerance], include_background=True, spacing=spacing)
        row = row_of(ours, name)
        assert row["dice"] == pytest.approx(float(metrics.compute_dice(one, other, include_background=True)), abs=1e-6)
        assert row["iou"] == pytest.approx(float(metrics.compute_iou(one, other, include_background=True)), abs=1e-6)
        assert row["hd95"] == pytest.approx(float(hd95), rel=1e-5, abs=1e-5)
        assert row["assd"] == pytest.approx(float(assd), rel=1e-5, abs=1e-5)
        assert row["nsd"] == pytest.approx(float(nsd), abs=1e-6)
        counts = metrics.get_confusion_matrix(one, other, include_background=True)
        for ours_name, theirs in (("sensitivity", "sensitivity"), ("precision", "precision"), ("accuracy", "accuracy")):
            value = metrics.compute_confusion_matrix_metric(theirs, counts)
            assert row[ours_name] == pytest.approx(float(value), abs=1e-6)
        rest = metrics.compute_iou(1 - one, 1 - other, include_background=True)
        assert row["background_iou"] == pytest.approx(float(rest), abs=1e-6)
    assert flat or max(ours.column("hd95")) > 1  # there was something to measure


def test_distances_agree_with_medpy(two_maps):
    """MedPy's HD95 takes one percentile of both directions together; what it is made of is the same."""
    medpy = pytest.importorskip("medpy.metric.binary")
    predicted, reference = two_maps
    ours = evaluate(predicted, reference)
    for label, name in LUNG_NAMES.items():
        one, other = ((item.array == label) for item in (predicted, reference))
        spacing = reference.geometry.spacing
        there, back = medpy.__surface_distances(one, other, spacing), medpy.__surface_distances(other, one, spacing)
        row = row_of(ours, name)
        assert row["dice"] == pytest.approx(medpy.dc(one, other), rel=1e-6)
        assert row["iou"] == pytest.approx(medpy.jc(one, other), rel=1e-6)
        assert row["hd95"] == pytest.approx(max(np.percentile(side, 95) for side in (there, back)), rel=1e-6)
        assert row["assd"] == pytest.approx(np.concatenate([there, back]).mean(), rel=1e-6)
        assert row["nsd"] == pytest.approx((np.concatenate([there, back]) <= 2.0).mean(), rel=1e-6)


def test_a_perfect_prediction_is_perfect_and_both_is_the_union(two_maps):
    _, reference = two_maps
    for row in evaluate(reference, reference):
        assert (row["dice"], row["iou"], row["nsd"], row["hd95"], row["assd"]) == (1, 1, 1, 0, 0)
    swapped = dataclasses.replace(reference, array=np.array([0, 2, 1], np.uint8)[reference.array])
    table = evaluate(swapped, reference)
    assert [row["dice"] for row in table] == [0, 0, 1]  # right and left swapped, together right
    assert [row["label"] for row in table] == [1, 2, None]  # 0 is background, not a union


def test_empty_labels_are_defined():
    empty = np.zeros((3, 4, 5))
    one = empty.copy()
    one[1, 1, 1:3] = 1
    missing = row_of(evaluate(label_map(empty), label_map(one)), "right lung")
    assert (missing["dice"], missing["iou"], missing["nsd"]) == (0, 0, 0)
    assert (missing["hd95"], missing["assd"]) == (math.inf, math.inf)
    assert (missing["sensitivity"], missing["precision"], missing["relative_difference"]) == (0, 0, -1)
    invented = row_of(evaluate(label_map(one), label_map(empty)), "right lung")
    assert (invented["dice"], invented["hd95"]) == (0, math.inf)
    assert (invented["sensitivity"], invented["precision"], invented["relative_difference"]) == (0, 0, math.inf)
    absent = row_of(evaluate(label_map(one), label_map(one)), "left lung")
    assert (absent["dice"], absent["iou"], absent["nsd"], absent["hd95"], absent["assd"]) == (1, 1, 1, 0, 0)
    assert (absent["sensitivity"], absent["precision"], absent["accuracy"]) == (1, 1, 1)
    assert (absent["relative_difference"], absent["volume_difference"]) == (0, 0)


def test_different_grids_are_refused_with_both_described():
    one = label_map(np.zeros((3, 4, 5)))
    for change in ({"origin": (-40.0, 7.0, 91.0)}, {"spacing": (3.0, 0.7, 1.2)}):
        with pytest.raises(InvalidVolumeError, match=r"3 × 4 × 5 voxels.*3 × 4 × 5 voxels.*different grids"):
            evaluate(label_map(np.zeros((3, 4, 5)), **change), one)
    with pytest.raises(InvalidVolumeError, match=r"3 × 4 × 6 voxels"):
        evaluate(label_map(np.zeros((3, 4, 6))), one)


def test_images_without_spacing_are_measured_in_pixels():
    array = np.zeros((1, 8, 8))
    array[0, 2:6, 2:6] = 1
    plain = label_map(array, units="pixel", spacing=(1, 1, 1))
    table = evaluate(plain, plain)
    assert {table.units[name] for name in ("hd95", "assd", "predicted_area")} == {"pixel"}
    assert row_of(table, "right lung")["predicted_area"] == 16
    # A picture beside its label map that was saved with a spacing: the same pixels, so the same grid.
    assert evaluate(plain, label_map(array)).units["hd95"] == "pixel"


def test_a_flat_map_has_an_area_and_an_outline():
    reference = np.zeros((1, 20, 20))
    reference[0, 4:16, 4:16] = 1
    predicted = reference.copy()
    predicted[0, 8:12, 8:12] = 0  # a hole inside is no part of the outer outline
    table = evaluate(label_map(predicted), label_map(reference))
    assert "predicted_volume" not in table.columns
    assert table.units["reference_area"] == "mm2"
    row = row_of(table, "right lung")
    assert row["reference_area"] == pytest.approx(144 * 0.7 * 1.3)
    assert row["area_difference"] == pytest.approx(-16 * 0.7 * 1.3)
    assert row["relative_difference"] == pytest.approx(-16 / 144)
    assert row["accuracy"] == pytest.approx(1 - 16 / 400)
    assert row["assd"] > 0


def test_each_frame_of_a_stack_of_radiographs_is_a_case():
    reference = np.zeros((2, 9, 9))
    reference[:, 2:6, 2:6] = 1
    predicted = reference.copy()
    predicted[1] = np.roll(predicted[1], 1, axis=1)
    table = evaluate(label_map(predicted, frames=True), label_map(reference, frames=True))
    right = [row for row in table if row["label"] == 1]
    assert [row["frame"] for row in right] == [0, 1]
    assert right[0]["hd95"] == 0
    assert right[1]["hd95"] == pytest.approx(1.3)


def test_uneven_slices_keep_their_distances_and_volumes():
    array = np.zeros((4, 5, 5))
    array[3, 2, 2] = 1
    reference = np.zeros((4, 5, 5))
    reference[1, 2, 2] = 1
    uneven = {"slice_positions": (0.0, 1.0, 2.0, 10.0)}
    row = row_of(evaluate(label_map(array, **uneven), label_map(reference, **uneven)), "right lung")
    assert row["hd95"] == pytest.approx(9.0)
    assert row["predicted_volume"] == pytest.approx(8.0 * 0.7 * 1.3 / 1000)
    assert row["reference_volume"] == pytest.approx(1.0 * 0.7 * 1.3 / 1000)


def test_a_tilted_grid_is_measured_in_the_patient():
    tilt = math.radians(30)
    direction = ((math.cos(tilt), 0.0, 0.0), (math.sin(tilt), 1.0, 0.0), (0.0, 0.0, 1.0))
    reference = np.zeros((5, 9, 9))
    reference[1, 4, 4] = 1
    predicted = np.zeros((5, 9, 9))
    predicted[2, 2, 4] = 1
    grid = {"direction": direction}
    row = row_of(evaluate(label_map(predicted, **grid), label_map(reference, **grid)), "right lung")
    assert row["hd95"] == pytest.approx(math.hypot(3 * math.cos(tilt), 3 * math.sin(tilt) - 1.4))


@given(st.integers(0, 2**32 - 1))
def test_symmetry_and_bounds(seed):
    draw = np.random.default_rng(seed)
    one, other = (label_map(draw.integers(0, 3, (3, 5, 6)) * (draw.random((3, 5, 6)) < 0.5)) for _ in range(2))
    for there, back in zip(evaluate(one, other), evaluate(other, one), strict=True):
        for name in ("dice", "iou", "hd95", "assd", "nsd"):
            assert there[name] == pytest.approx(back[name])
        assert 0 <= there["iou"] <= there["dice"] <= 1
        assert there["dice"] == pytest.approx(2 * there["iou"] / (1 + there["iou"]))
        assert there["assd"] <= there["hd95"] or there["hd95"] == 0 or there["assd"] < 1.2 * there["hd95"]


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_the_union_is_as_far_away_as_if_it_were_one_label(seed, touching):
    """Three labels, apart or touching, some of them missing: the row of all is that of the same voxels with one name."""
    draw = np.random.default_rng(seed)
    maps = draw.integers(0, 4, (2, 5, 9, 8)) * (draw.random((2, 5, 9, 8)) < 0.3)
    if not touching:
        maps[:, :, 2::3], maps[:, :, :, 3::4] = 0, 0
        maps[:, :, 3:6][maps[:, :, 3:6] > 0], maps[:, :, :2][maps[:, :, :2] > 0] = 2, 1
    names = {1: "a", 2: "b", 3: "c"}
    tilted = {"direction": ((math.cos(0.3), 0.0, 0.0), (math.sin(0.3), 1.0, 0.0), (0.0, 0.0, 1.0))}
    several = evaluate(*(label_map(item, names, **tilted) for item in maps))
    one = evaluate(*(label_map(item > 0, {1: "all"}, **tilted) for item in maps))
    for name in ("hd95", "assd", "nsd", "dice", "predicted_volume"):
        assert row_of(several, "all")[name] == pytest.approx(row_of(one, "all")[name], rel=1e-12), name


def test_every_metric_resolves():
    assert all(isinstance(METRICS.resolve(name), Quantity) for name in METRICS)


def test_unnamed_labels_are_reported_too():
    array = np.zeros((2, 4, 4))
    array[0, 0, 0], array[1, 1, 1], array[1, 2, 2] = 1, 3, 4
    names = [row["name"] for row in evaluate(label_map(array, {}), label_map(array, {1: "one"}))]
    assert names == ["one", "label 3", "label 4", "all"]
