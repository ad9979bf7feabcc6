"""Measurements on images whose answers are known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from napari_lungseg.analysis.measure import MEASURES, measure
from napari_lungseg.analysis.quantity import Quantity
from napari_lungseg.errors import InvalidVolumeError
from napari_lungseg.phantom import thorax_ct, thorax_xray
from napari_lungseg.volume import FRONTAL, LUNG_NAMES, Geometry, LabelMap, Volume


def case(array, labels, modality="ct", unit="HU", **geometry):
    grid = Geometry(np.shape(labels), **{"spacing": (2.0, 0.5, 4.0), "origin": (5.0, -6.0, 7.0), **geometry})
    return Volume(np.asarray(array), grid, modality, unit), LabelMap(np.asarray(labels, np.uint8), grid, LUNG_NAMES)


def test_volume_mean_and_median_by_hand():
    labels = np.zeros((2, 3, 4), np.uint8)
    labels[0, 0, :3], labels[1, 2, 3] = 1, 2
    array = np.full((2, 3, 4), 50, np.int16)
    array[0, 0, :3] = (-900, -800, -100)
    table = measure(*case(array, labels))
    right, left, both = table
    assert (right["name"], left["name"], both["name"]) == ("right lung", "left lung", "both")
    assert right["voxels"] == 3
    assert right["volume"] == pytest.approx(3 * 4.0 / 1000)
    assert (right["mean"], right["median"]) == (-600, -800)
    assert (left["mean"], both["voxels"], both["mean"]) == (50, 4, pytest.approx(-437.5))
    assert [table.units[name] for name in ("volume", "mass", "mean", "laa950")] == ["ml", "g", "HU", "percent"]
    assert "area" not in table.columns


def test_uneven_slices_count_with_their_own_thickness():
    labels = np.zeros((3, 2, 2), np.uint8)
    labels[2] = 1
    table = measure(*case(np.zeros((3, 2, 2)), labels, slice_positions=(0.0, 1.0, 9.0)))
    assert table.column("volume")[0] == pytest.approx(4 * 8.0 * 0.5 * 4.0 / 1000)


def test_an_empty_label_has_no_mean():
    table = measure(*case(np.zeros((2, 2, 2)), np.zeros((2, 2, 2), np.uint8)))
    assert table.column("mean") == (None, None, None)
    assert table.column("volume") == (0, 0, 0)


def test_a_radiograph_has_areas_and_no_hounsfield_units():
    volume, labels = thorax_xray((64, 72))
    table = measure(volume, labels)
    assert table.units == {"area": "mm2", "width": "mm", "height": "mm", "mean": "au", "median": "au", "sd": "au"}
    assert not {"volume", "mass", "laa950", "mean_upper"} & set(table.columns)
    pixel = volume.geometry.spacing[1] * volume.geometry.spacing[2]
    assert table.column("area")[0] == pytest.approx((labels.array == 1).sum() * pixel)


def test_a_picture_without_spacing_is_measured_in_pixels():
    labels = np.ones((1, 3, 3), np.uint8)
    table = measure(
        *case(np.zeros((1, 3, 3)), labels, "xray", "a.u.", units="pixel", spacing=(1, 1, 1), direction=FRONTAL)
    )
    assert table.units["area"] == "pixel"
    assert table.column("area")[0] == 9


def test_each_frame_is_measured_by_itself():
    labels = np.zeros((2, 3, 3), np.uint8)
    labels[0], labels[1, 0, 0] = 1, 1
    table = measure(*case(np.zeros((2, 3, 3)), labels, "xray", "a.u.", frames=True))
    right = [row for row in table if row["label"] == 1]
    assert [(row["frame"], row["voxels"]) for row in right] == [(0, 9), (1, 1)]


def test_a_colour_picture_has_an_area_and_no_mean():
    labels = np.ones((1, 3, 3), np.uint8)
    table = measure(*case(np.zeros((1, 3, 3, 3)), labels, "photo", "rgb"))
    assert table.columns == ("label", "name", "voxels", "area")


def test_the_phantoms_lungs_have_their_density():
    volume, labels = thorax_ct((12, 128, 160), seed=2, lung_hu=-840.0)
    assert measure(volume, labels).column("median")[2] == pytest.approx(-840, abs=40)


def test_labels_of_another_grid_are_refused():
    volume, _ = case(np.zeros((2, 3, 4)), np.zeros((2, 3, 4), np.uint8))
    _, labels = case(np.zeros((2, 3, 4)), np.zeros((2, 3, 4), np.uint8), origin=(0.0, 0.0, 0.0))
    with pytest.raises(InvalidVolumeError, match="do not lie on the image's grid"):
        measure(volume, labels)


def test_a_label_map_is_no_image_nor_an_image_a_label_map():
    volume, labels = case(np.zeros((2, 3, 4)), np.zeros((2, 3, 4), np.uint8))
    volume, labels = dataclasses.replace(volume, source="a/scan.nii"), dataclasses.replace(labels, source="a/marks.nii")
    for image, marks, said in ((labels, labels, "marks.nii is no image"), (volume, volume, "scan.nii is no label map")):
        with pytest.raises(InvalidVolumeError, match=said):
            measure(image, marks)


def test_every_measure_resolves_and_is_described():
    page = (Path(__file__).parents[2] / "docs/reference/measurements.md").read_text(encoding="utf-8")
    for name in MEASURES:
        entry = MEASURES.resolve(name)
        assert isinstance(entry, Quantity)
        assert len(entry.compute.__doc__ or "") > 15, name
        stem, _, third = name.rpartition("_")
        assert f"`{name}`" in page or (f"`{stem}_" in page and f"_{third}`" in page) or f"`{stem}_…`" in page, name
