"""Measurements on drawn chest X-rays whose answers are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from napari_lungseg.analysis.measure import measure
from napari_lungseg.analysis.radiomics import radiomics
from napari_lungseg.errors import InvalidVolumeError, LungSegError
from napari_lungseg.volume import FRONTAL, LUNG_NAMES, Geometry, LabelMap, Volume

NAMES = {**LUNG_NAMES, 3: "heart"}


def chest(**geometry):
    """A right lung of 12 × 4 pixels, a left one of 9 × 6 and a heart of 5 × 7, on 20 × 26 pixels of 0.5 × 2 mm."""
    labels = np.zeros((1, 20, 26), np.uint8)
    labels[0, 3:15, 2:6], labels[0, 3:12, 16:22], labels[0, 9:14, 8:15] = 1, 2, 3
    grid = Geometry(labels.shape, **{"spacing": (1.0, 0.5, 2.0), "direction": FRONTAL, **geometry})
    rows = np.broadcast_to(np.arange(20)[:, None] * 10, labels.shape).astype(np.uint16)
    return Volume(rows.copy(), grid, "xray", "a.u."), LabelMap(labels, grid, NAMES)


def test_extents_areas_and_ratios_by_hand():
    right, left, heart, both = measure(*chest())
    assert [row["name"] for row in (right, left, heart, both)] == ["right lung", "left lung", "heart", "both"]
    assert [(row["width"], row["height"], row["area"]) for row in (right, left, heart, both)] == [
        (8, 6, 48), (12, 4.5, 54), (14, 2.5, 35), (40, 6, 102),
    ]  # fmt: skip
    assert both["right_left_ratio"] == pytest.approx(48 / 54)
    assert both["cardiothoracic_ratio"] == pytest.approx(7 / 20)
    # Mirrored within columns 2 to 21 the left lung takes 2 to 7, so 9 × 4 pixels meet the right one.
    assert both["symmetry"] == pytest.approx(2 * 36 / (48 + 54))
    assert {row["symmetry"] for row in (right, left, heart)} == {None}


def test_opacity_grows_from_dark_to_bright_in_thirds_of_the_height():
    volume, labels = chest()
    right = next(iter(measure(volume, labels)))
    low, high = np.percentile(volume.array[0, 3:15, 2:22], (1, 99))
    expected = [(10 * row - low) / (high - low) for row in (4.5, 8.5, 12.5)]
    assert [right[f"opacity_{zone}"] for zone in ("upper", "middle", "lower")] == pytest.approx(expected)
    brighter = dataclasses.replace(volume, array=volume.array * 7 + 100)
    assert next(iter(measure(brighter, labels)))["opacity_lower"] == pytest.approx(expected[2])
    plain = dataclasses.replace(volume, array=np.full_like(volume.array, 9))
    assert next(iter(measure(plain, labels)))["opacity_lower"] is None


def test_an_image_stored_upside_down_is_measured_in_the_patient():
    volume, labels = chest()
    grid = dataclasses.replace(volume.geometry, direction=tuple((-a if a else a, -b, c) for a, b, c in FRONTAL))
    flipped = [dataclasses.replace(item, array=item.array[:, ::-1].copy(), geometry=grid) for item in (volume, labels)]
    for one, other in zip(measure(volume, labels), measure(*flipped), strict=True):
        for name in ("height", "width", "opacity_upper", "opacity_lower", "symmetry", "cardiothoracic_ratio"):
            assert other[name] == (one[name] if one[name] is None else pytest.approx(one[name])), name


def test_without_spacing_lengths_and_areas_are_pixels():
    table = measure(*chest(units="pixel", spacing=(1, 1, 1)))
    assert {table.units[name] for name in ("area", "width", "height")} == {"pixel"}
    assert next(iter(table))["width"] == 4


def test_a_missing_lung_or_heart_leaves_ratios_undefined():
    volume, labels = chest()
    alone = np.where(labels.array == 1, 1, 0).astype(np.uint8)
    both = list(measure(volume, dataclasses.replace(labels, array=alone, names=LUNG_NAMES)))[-1]
    assert (both["right_left_ratio"], both["symmetry"], both["cardiothoracic_ratio"]) == (None, None, None)
    empty = measure(volume, dataclasses.replace(labels, array=np.zeros_like(alone)))
    assert {row["width"] for row in empty} == {0}
    assert {row["opacity_upper"] for row in empty} == {None}


def test_radiomics_are_pyradiomics_own(rng):
    pytest.importorskip("radiomics")
    labels = np.zeros((9, 12, 14), np.uint8)
    labels[1:8, 2:10, 1:6], labels[3, 4, 9] = 1, 2
    grid = Geometry(labels.shape, (3.0, 0.7, 1.3))
    volume = Volume(rng.integers(-1020, 120, labels.shape).astype(np.int16), grid)
    right, left, both = radiomics(volume, LabelMap(labels, grid, LUNG_NAMES))
    assert right["shape_VoxelVolume"] == pytest.approx(7 * 8 * 5 * 3.0 * 0.7 * 1.3)
    assert right["firstorder_Mean"] == pytest.approx(volume.array[labels == 1].mean())
    assert right["glcm_JointEntropy"] > 0
    assert left["glcm_JointEntropy"] is None or left["firstorder_Mean"] == volume.array[3, 4, 9]
    assert both["firstorder_Mean"] == pytest.approx(volume.array[labels > 0].mean())
    flat = radiomics(*chest())
    assert flat.column("shape2D_PixelSurface")[0] == 48
    absent = radiomics(volume, LabelMap(np.zeros_like(labels), grid, LUNG_NAMES))
    assert absent.columns == ("label", "name")


def test_radiomics_refuse_what_they_cannot_do(monkeypatch):
    volume, labels = chest()
    colours = Volume(np.zeros((1, 20, 26, 3), np.uint8), volume.geometry, "photo", "rgb")
    with pytest.raises(InvalidVolumeError, match="in colours"):
        radiomics(colours, labels)
    monkeypatch.setitem(__import__("sys").modules, "radiomics", None)
    with pytest.raises(LungSegError, match="pip install --no-build-isolation pyradiomics"):
        radiomics(volume, labels)
