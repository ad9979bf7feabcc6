"""Volumes and label maps become layers and come back unchanged, in every orientation."""

from __future__ import annotations

import dataclasses

import dask.array
import numpy as np
import pytest
from napari.layers import Image, Labels, Layer

from napari_lungseg.errors import InvalidVolumeError
from napari_lungseg.plugin.layers import (
    KEY,
    axis_letters,
    label_colormap,
    labels_to_layer,
    layer_facts,
    layer_to_labels,
    layer_to_volume,
    same_grid,
    volume_to_layer,
)
from napari_lungseg.volume import FRONTAL, PALETTE, Geometry, LabelMap, Volume, label_colour

from .conftest import DIRECTIONS, make_labels, make_volume


def to_layer(item: Volume | LabelMap) -> Layer:
    return Layer.create(*(labels_to_layer(item) if isinstance(item, LabelMap) else volume_to_layer(item)))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_volume_comes_back(direction: str) -> None:
    volume = make_volume(direction, window=(-900.0, 200.0))
    back = layer_to_volume(to_layer(volume))
    assert back.geometry == volume.geometry
    assert np.array_equal(back.array, volume.array)
    assert (back.modality, back.unit, back.window, back.name) == ("ct", "HU", (-900.0, 200.0), "CT 3")


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_labels_come_back(direction: str) -> None:
    labels = make_labels(make_volume(direction))
    back = layer_to_labels(to_layer(labels))
    assert back.geometry == labels.geometry
    assert np.array_equal(back.array, labels.array)
    assert back.names == labels.names and back.colours == labels.colours


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_voxel_lies_in_the_world_where_the_patient_says(direction: str) -> None:
    """World coordinates are patient coordinates along the axes of the view, for every voxel."""
    volume = make_volume(direction)
    layer = to_layer(volume)
    standard, _ = volume.reoriented()
    turn = np.linalg.inv(np.asarray(standard.geometry.direction))
    for index in ((0, 0, 0), (2, 7, 11), tuple(size - 1 for size in standard.geometry.shape)):
        assert np.allclose(layer.data_to_world(index), turn @ standard.geometry.position(index), atol=1e-4)


def test_an_axial_scan_lies_at_its_patient_coordinates() -> None:
    layer = to_layer(make_volume("RAS"))
    assert axis_letters(layer_facts(layer)) == ("H", "P", "L")
    assert np.allclose(layer.scale, (3.0, 0.7, 0.9))
    # Stored towards front and right: the first voxel of the view is the last of the file.
    assert np.allclose(layer.translate, (-120.5, 33.25 - 39 * 0.7, -81.0 - 47 * 0.9))
    assert {str(unit) for unit in layer.units} == {"millimeter"}
    assert tuple(layer.axis_labels) == ("z", "y", "x")


def test_a_part_of_an_oblique_scan_overlays_the_whole() -> None:
    whole = make_volume("oblique")
    geometry = dataclasses.replace(
        whole.geometry, shape=(3, 40, 48), origin=tuple(whole.geometry.position((2, 0, 0)).tolist())
    )
    part = dataclasses.replace(whole, array=whole.array[2:5], geometry=geometry)
    shown, shown_part = to_layer(whole), to_layer(part)
    assert np.allclose(shown_part.data_to_world((0, 0, 0)), shown.data_to_world((2, 0, 0)))


def test_radiograph_is_two_dimensional() -> None:
    array = np.arange(30 * 20, dtype=np.uint16).reshape(1, 30, 20)
    geometry = Geometry((1, 30, 20), (1.0, 0.2, 0.3), (5.0, 6.0, 7.0), FRONTAL)
    volume = Volume(array, geometry, "xray", "a.u.")
    layer = to_layer(volume)
    assert layer.data.shape == (30, 20) and np.allclose(layer.scale, (0.2, 0.3))
    assert axis_letters(layer_facts(layer)) == ("F", "L")
    back = layer_to_volume(layer)
    assert back.geometry == geometry and np.array_equal(back.array, array)


def test_a_mirrored_radiograph_is_shown_as_usual_and_saved_as_it_was() -> None:
    mirrored = tuple(tuple(-value if column == 2 else value for column, value in enumerate(row)) for row in FRONTAL)
    geometry = Geometry((1, 4, 5), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), mirrored)
    volume = Volume(np.arange(20, dtype=np.uint8).reshape(1, 4, 5), geometry, "xray", "a.u.")
    layer = to_layer(volume)
    assert np.array_equal(layer.data, volume.array[0, :, ::-1])
    assert np.array_equal(layer_to_volume(layer).array, volume.array)


def test_lazy_voxels_stay_on_disk() -> None:
    volume = make_volume("feet first")
    touched: list[int] = []

    def load(block: np.ndarray) -> np.ndarray:
        touched.append(block.size)
        return block

    array = dask.array.from_array(volume.array, chunks=(1, 40, 48)).map_blocks(load, meta=volume.array[:0])
    data, attributes, kind = volume_to_layer(dataclasses.replace(volume, array=array))
    assert kind == "image" and not touched
    assert attributes["multiscale"] is False and attributes["contrast_limits"] == (-1350.0, 150.0)
    Image(data, **attributes)
    assert sum(touched) < volume.array.size


def test_uneven_slices_and_frames_come_back() -> None:
    volume = make_volume()
    positions = (0.0, 3.0, 6.5, 9.0, 15.0, 18.0)
    uneven = dataclasses.replace(volume, geometry=dataclasses.replace(volume.geometry, slice_positions=positions))
    assert layer_to_volume(to_layer(uneven)).geometry.slice_positions == positions
    frames = dataclasses.replace(volume, modality="xray", unit="a.u.")
    assert frames.geometry.frames and layer_to_volume(to_layer(frames)).geometry == frames.geometry


def test_a_layer_that_was_moved_or_scaled_is_believed() -> None:
    layer = to_layer(make_volume("oblique"))
    layer.scale = (2.0, 0.7, 0.9)
    geometry = layer_to_volume(layer).geometry
    assert geometry.spacing == pytest.approx((2.0, 0.7, 0.9))
    before = layer_to_volume(to_layer(make_volume("oblique"))).geometry
    layer = to_layer(make_volume("oblique"))
    layer.translate = np.add(layer.translate, (10.0, 0.0, 0.0))
    moved = layer_to_volume(layer).geometry
    along = np.asarray(before.direction)[:, 0]
    assert np.allclose(np.asarray(moved.origin) - before.origin, 10 * along)


def test_every_label_has_a_colour() -> None:
    layer = to_layer(make_labels(make_volume()))
    for label in (1, 2, 3, 9, 200, 255):
        expected = [int(label_colour(label)[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        assert np.allclose(layer.get_color(label)[:3], expected, atol=0.01)
    own = Labels(np.ones((3, 3), np.uint16), colormap=label_colormap({1: "#112233"}, np.dtype(np.uint16)))
    assert np.allclose(own.get_color(1)[:3], (0x11 / 255, 0x22 / 255, 0x33 / 255), atol=0.01)
    assert own.get_color(2)[3] == 1 and own.get_color(60_000)[3] == 1
    assert len(set(PALETTE)) == len(PALETTE)


def test_names_are_shown_under_the_cursor() -> None:
    layer = to_layer(make_labels(make_volume()))
    assert list(layer.features["name"]) == ["background", "right lung", "left lung"]


def test_bare_stack_is_taken_for_what_it_looks_like() -> None:
    volume = layer_to_volume(Image(make_volume().array, name="mine"))
    assert (volume.modality, volume.unit, volume.geometry.units) == ("ct", "HU", "pixel")
    assert {"modality-inferred", "no-spacing"} <= {finding.code for finding in volume.findings}
    assert volume.source == "" and volume.name == "mine"


def test_bare_picture_and_grey_colours() -> None:
    grey = np.random.default_rng(0).integers(0, 255, (40, 50), np.uint8)
    volume = layer_to_volume(Image(grey, scale=(0.2, 0.3), units="mm"))
    assert volume.modality == "xray" and volume.geometry.spacing == (1.0, 0.2, 0.3) and volume.geometry.is_mm
    assert volume.geometry.direction == FRONTAL
    stacked = layer_to_volume(Image(np.stack([grey] * 3, axis=-1), rgb=True))
    assert stacked.modality == "xray" and np.array_equal(stacked.array[0], grey)
    colour = np.stack([grey, grey.T[:40, :40].repeat(2, 1)[:, :50], 255 - grey], axis=-1)
    assert layer_to_volume(Image(colour, rgb=True)).modality == "photo"


def test_kind_can_be_overruled() -> None:
    volume = layer_to_volume(to_layer(make_volume()), "xray")
    assert volume.modality == "xray" and volume.geometry.frames


def test_units_are_turned_into_mm() -> None:
    volume = layer_to_volume(Image(np.zeros((4, 5, 6), np.int16) - 500, scale=(0.003, 0.001, 0.002), units="m"))
    assert volume.geometry.spacing == pytest.approx((3.0, 1.0, 2.0))


@pytest.mark.parametrize(
    ("shape", "labels", "named"),
    [((2, 3, 8, 8), ("t", "z", "y", "x"), "'t' (time)"), ((3, 8, 8), ("c", "y", "x"), "'c' (channel)")],
)
def test_time_and_channel_axes_are_refused_by_name(shape: tuple[int, ...], labels: tuple[str, ...], named: str) -> None:
    with pytest.raises(InvalidVolumeError, match="Split Stack") as caught:
        layer_to_volume(Image(np.zeros(shape), axis_labels=labels, rgb=False))
    assert named in str(caught.value)


def test_four_axes_are_refused_without_labels() -> None:
    with pytest.raises(InvalidVolumeError, match="4 axes"):
        layer_to_volume(Image(np.zeros((2, 3, 8, 8)), rgb=False))


def test_labels_must_be_what_labels_are() -> None:
    layer = Labels(np.full((4, 5, 6), -1, np.int32))
    with pytest.raises(InvalidVolumeError, match="negative"):
        layer_to_labels(layer)
    layer.data = np.full((4, 5, 6), 300, np.int32)
    assert layer_to_labels(layer).array.dtype == np.uint16


def test_grids_are_compared_in_mm() -> None:
    first = layer_facts(Image(np.zeros((4, 5)), scale=(1, 2), units="mm"))
    assert same_grid(first, layer_facts(Labels(np.zeros((4, 5), int), scale=(0.001, 0.002), units="m")))
    assert not same_grid(first, layer_facts(Labels(np.zeros((4, 5), int), scale=(1, 1), units="mm")))
    assert not same_grid(first, layer_facts(Labels(np.zeros((5, 4), int), scale=(1, 2), units="mm")))


def test_metadata_holds_no_second_copy_of_the_voxels() -> None:
    stored = to_layer(make_volume()).metadata[KEY]
    assert not any(isinstance(value, np.ndarray) for value in stored.values())
