"""Layers that are painted on: on their image's grid, with what a correction began from, and every kind of change noticed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from napari.layers import Image, Labels, Layer

from napari_lungseg.errors import InvalidVolumeError, TrainingDataError
from napari_lungseg.plugin.edits import changed_slices, look_at, slice_versions, strokes_since
from napari_lungseg.plugin.layers import KEY, labels_to_layer, layer_facts, same_grid, volume_to_layer
from napari_lungseg.plugin.painting import (
    BACKGROUND_COLOUR,
    begin_painting,
    image_of,
    name_classes,
    painted_layers,
    painting_of,
    snapshot,
    to_painted,
)
from napari_lungseg.plugin.segmenting import Request, result_layer
from napari_lungseg.training.losses import IGNORE
from napari_lungseg.volume import FRONTAL, Geometry, Volume

from .conftest import DIRECTIONS, make_labels, make_volume


def scan(direction: str = "axial") -> Image:
    return Layer.create(*volume_to_layer(make_volume(direction)))


def radiograph() -> Image:
    geometry = Geometry((1, 30, 20), (1.0, 0.2, 0.3), (5.0, 6.0, 7.0), FRONTAL)
    volume = Volume(np.arange(600, dtype=np.uint16).reshape(1, 30, 20), geometry, "xray", "a.u.", name="CR 1")
    return Layer.create(*volume_to_layer(volume))


def result(image: Image, direction: str = "axial") -> Labels:
    return result_layer(Request(layer_facts(image), image.unique_id), make_labels(make_volume(direction)))


# Beginning


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_new_layer_lies_on_its_image(direction: str) -> None:
    image = scan(direction)
    layer = begin_painting(image, names={1: "nodule"}, colours={1: "#112233"})
    assert layer.data.dtype == np.uint8 and not layer.data.any()
    assert same_grid(layer_facts(image), layer_facts(layer))
    assert layer.axis_labels == image.axis_labels and layer.units == image.units
    assert layer.metadata[KEY]["geometry"] == make_volume(direction).geometry
    painting = painting_of(layer)
    assert painting is not None and painting.background == 100
    assert painting.complete == set() and painting.untouched is None
    assert np.allclose(layer.get_color(1)[:3], (0x11 / 255, 0x22 / 255, 0x33 / 255), atol=0.01)
    assert np.allclose(layer.get_color(100)[:3], 1) and BACKGROUND_COLOUR == "#FFFFFF"
    assert dict(zip(layer.features["index"], layer.features["name"], strict=True))[1] == "nodule"


def test_a_new_layer_on_a_moved_or_bare_image_lies_there_too() -> None:
    moved = scan()
    moved.translate = (5.0, 6.0, 7.0)
    for image in (moved, Image(np.zeros((4, 5, 6)), scale=(3, 2, 1)), Image(np.zeros((8, 9, 3), np.uint8), rgb=True)):
        assert same_grid(layer_facts(image), layer_facts(begin_painting(image)))


def test_the_background_takes_a_label_that_nobody_uses() -> None:
    image = scan()
    named = begin_painting(image, names={100: "heart", 101: "aorta"})
    assert painting_of(named).background == 102
    mine = Labels(np.full(image.data.shape, 100, np.uint8))
    assert painting_of(begin_painting(image, mine)).background == 101


def test_strokes_made_before_are_strokes_and_a_result_is_a_correction() -> None:
    image = scan()
    mine = Labels(np.ones(image.data.shape, np.uint8))
    assert painting_of(begin_painting(image, mine)).untouched is None
    shown = result(image)
    before = shown.data.copy()
    shown.paint((2, 10, 10), 7)
    painting = painting_of(begin_painting(image, shown))
    assert np.array_equal(painting.untouched, before)
    assert shown.metadata[KEY]["names"] == {1: "right lung", 2: "left lung", 100: "painted background"}


def test_what_is_a_correction_can_be_said() -> None:
    image = scan()
    opened = Layer.create(*labels_to_layer(make_labels(make_volume())))
    before = opened.data.copy()
    begin_painting(image, opened, correct=True)
    opened.paint((2, 10, 10), 7)
    assert np.array_equal(painting_of(opened).untouched, before)
    again = begin_painting(image, opened, names={1: "lung"})
    assert np.array_equal(painting_of(again).untouched, before) and painting_of(again).background == 100
    assert painting_of(begin_painting(image, result(image), correct=False)).untouched is None


def test_beginning_again_keeps_what_is_complete() -> None:
    image = scan()
    layer = begin_painting(image)
    painting_of(layer).complete.add(3)
    begin_painting(image, layer, names={4: "effusion"})
    assert painting_of(layer).complete == {3} and layer.metadata[KEY]["names"][4] == "effusion"


def test_a_layer_of_another_size_or_a_stack_in_time_is_refused() -> None:
    image = scan()
    with pytest.raises(TrainingDataError, match=r"has 4 × 5 × 6 voxels, but 'CT 3' 6 × 40 × 48"):
        begin_painting(image, Labels(np.zeros((4, 5, 6), int), name="mine"))
    with pytest.raises(InvalidVolumeError, match="Split Stack"):
        begin_painting(Image(np.zeros((2, 3, 8, 8))))


def test_a_layer_that_is_painted_on_is_not_taken_for_an_untouched_result(model_viewer: Any) -> None:
    from napari_lungseg.plugin.segmenting import show_result

    image = model_viewer.add_layer(scan())
    first, second = result(image), result(image)
    show_result(model_viewer, first)
    begin_painting(image, first)
    show_result(model_viewer, second)
    assert first in model_viewer.layers and second in model_viewer.layers


def test_the_viewer_knows_what_is_painted_on_what(model_viewer: Any) -> None:
    image, other = model_viewer.add_layer(scan()), model_viewer.add_layer(scan("RAS"))
    layer = model_viewer.add_layer(begin_painting(other))
    model_viewer.add_labels(np.zeros((6, 40, 48), int))
    assert painted_layers(model_viewer) == [layer] and image_of(model_viewer, layer) is other
    model_viewer.layers.remove(other)
    assert image_of(model_viewer, layer) is None and painting_of(image) is None


def test_classes_are_renamed_without_losing_the_background() -> None:
    layer = begin_painting(scan(), names={1: "nodule", 2: "heart"})
    name_classes(layer, {2: "effusion"}, {2: "#112233", 9: "#000000"})
    assert layer.metadata[KEY]["names"] == {2: "effusion", 100: "painted background"}
    assert layer.metadata[KEY]["colours"] == {2: "#112233", 100: BACKGROUND_COLOUR}


# What was painted


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_paint_is_learned_from_where_it_was_painted(direction: str) -> None:
    image = scan(direction)
    shown = begin_painting(image, result(image, direction))
    untouched = shown.data.copy()
    shown.data[4, 3:6, 7:9], shown.data[0, 0, 0] = 2, 100
    painting_of(shown).complete.add(1)
    painted = to_painted(image, shown)
    assert painted.volume.geometry == painted.labels.geometry == make_volume(direction).geometry
    standard = painted.standard()
    assert np.array_equal(standard.volume.array, image.data) and np.array_equal(standard.labels.array, shown.data)
    assert np.array_equal(standard.edited_from, untouched)
    known = standard.known()
    assert known[0, 0, 0] == 0 and known[0, 0, 1] == IGNORE and (known[1] != IGNORE).all()
    assert np.array_equal(known[4] != IGNORE, shown.data[4] != untouched[4])


def test_a_radiograph_is_one_slice() -> None:
    image = radiograph()
    layer = begin_painting(image)
    layer.data[3:5, 4] = 1
    painted = to_painted(image, layer)
    assert painted.labels.array.shape == (1, 30, 20) and painted.painted_slices() == [0]


def test_a_snapshot_stays_as_it_was() -> None:
    image = scan()
    layer = begin_painting(image, names={1: "nodule"})
    assert not snapshot(image, layer).has_paint()
    layer.data[2, 3, 4] = 1
    taken = snapshot(image, layer)
    layer.data[...] = 5
    painting_of(layer).complete.add(0)
    name_classes(layer, {1: "other"}, {})
    painted = taken.painted()
    assert painted.labels.array.sum() == 1 and painted.complete == frozenset()
    assert painted.labels.names[1] == "nodule" and taken.has_paint()
    unchanged = begin_painting(image, result(image))
    assert not snapshot(image, unchanged).has_paint()
    painting_of(unchanged).complete.add(0)
    assert snapshot(image, unchanged).has_paint()


def test_a_layer_that_is_not_painted_on_says_so() -> None:
    image = scan()
    for ask in (lambda layer: snapshot(image, layer), look_at):
        with pytest.raises(TrainingDataError, match="Nothing is painted in layer 'mine'"):
            ask(Labels(np.zeros((6, 40, 48), int), name="mine"))


def test_a_layer_whose_data_became_another_size_says_so() -> None:
    image = scan()
    layer = begin_painting(image)
    layer.data = np.zeros((2, 3, 4), np.uint8)
    with pytest.raises(TrainingDataError, match="but its image 6 × 40 × 48"):
        to_painted(image, layer)


# What changed


def fill(layer: Labels) -> None:
    layer.fill((3, 0, 0), 2)


def paint_in_three_dimensions(layer: Labels) -> None:
    layer.n_edit_dimensions = 3
    layer.brush_size = 2
    layer.paint((3, 10, 10), 2)


def outline(layer: Labels) -> None:
    layer.paint_polygon([(3, 2, 2), (3, 9, 2), (3, 9, 9)], 2)


def undo_elsewhere(layer: Labels) -> None:
    layer.visible = False  # nothing is redrawn, no event is sent
    layer.undo()


def undo_and_redo(layer: Labels) -> None:
    layer.undo()
    slice_versions(layer)
    layer.redo()


def replace(layer: Labels) -> None:
    array = layer.data.copy()
    array[3, 0, 0] = 9
    layer.data = array


def change_in_place(layer: Labels) -> None:
    layer.data[3, 0, 0] = 9


CHANGES: dict[Callable[[Labels], object], set[int]] = {
    lambda layer: layer.paint((3, 10, 10), 2): {3},
    lambda layer: layer.paint((1, 10, 10), 0): {1},
    lambda layer: layer.data_setitem((np.array([2, 5]), np.array([0, 0]), np.array([0, 0])), 4): {2, 5},
    fill: {3},
    outline: {3},
    paint_in_three_dimensions: {3},
    lambda layer: layer.undo(): {1},
    undo_elsewhere: {1},
    undo_and_redo: {1},
    replace: {3},
    change_in_place: {3},
}


@pytest.mark.parametrize(("change", "slices"), CHANGES.items(), ids=range(len(CHANGES)))
def test_every_change_is_noticed_once(model_viewer: Any, change: Callable[[Labels], object], slices: set[int]) -> None:
    image = model_viewer.add_layer(scan())
    layer = model_viewer.add_layer(begin_painting(image))
    model_viewer.dims.set_point(0, layer.data_to_world((3, 0, 0))[0])
    layer.paint((1, 10, 10), 1)
    first, seen = changed_slices(layer, None)
    assert first == tuple(range(6))
    assert changed_slices(layer, seen)[0] == ()
    change(layer)
    found, seen = changed_slices(layer, seen)
    assert set(found) == slices
    assert changed_slices(layer, seen)[0] == ()


def test_a_stroke_is_noticed_while_the_mouse_is_down(model_viewer: Any) -> None:
    layer = model_viewer.add_layer(begin_painting(model_viewer.add_layer(scan())))
    seen = look_at(layer)
    with layer.block_history():
        layer.paint((2, 10, 10), 1)
        found, seen = changed_slices(layer, seen)
        assert found == (2,)
        layer.paint((2, 20, 20), 1)
    assert changed_slices(layer, seen)[0] == (2,)


def test_two_readers_are_told_each_for_itself() -> None:
    layer = begin_painting(scan())
    one = other = look_at(layer)
    layer.data[1, 0, 0] = 1
    found, one = changed_slices(layer, one)
    layer.data[4, 0, 0] = 1
    assert found == (1,) and changed_slices(layer, one)[0] == (4,)
    assert changed_slices(layer, other)[0] == (1, 4)


def test_data_of_another_size_or_type_is_all_new() -> None:
    layer = begin_painting(scan())
    seen = look_at(layer)
    layer.data = layer.data.astype(np.uint16)
    found, seen = changed_slices(layer, seen)
    assert found == tuple(range(6))
    layer.data = np.zeros((3, 4, 5), np.uint16)
    assert changed_slices(layer, seen)[0] == (0, 1, 2)


def test_a_flat_layer_has_one_slice() -> None:
    layer = begin_painting(radiograph())
    seen = look_at(layer)
    layer.data[3, 4] = 1
    strokes, seen = strokes_since(layer, seen, 0)
    assert strokes is not None and strokes.slices == (0,) and strokes.labels.shape == (1, 30, 20)
    assert strokes_since(layer, seen, 0)[0] is None


def test_strokes_bring_a_training_up_to_date() -> None:
    image = scan()
    layer = begin_painting(image, names={1: "nodule"})
    painted, seen = to_painted(image, layer).standard(), look_at(layer)
    layer.data[1, 2, 3], layer.data[4, 5, 6] = 1, 2
    painting_of(layer).complete.add(4)
    strokes, seen = strokes_since(layer, seen, 0)
    assert strokes is not None and strokes.slices == (1, 4) and strokes.names is None
    painted = painted.with_strokes(strokes)
    name_classes(layer, {1: "nodule", 2: "heart"}, {})
    strokes, seen = strokes_since(layer, seen, 7)
    assert strokes is not None and strokes.slices == () and strokes.image == 7
    painted = painted.with_strokes(strokes)
    now = to_painted(image, layer).standard()
    assert np.array_equal(painted.labels.array, now.labels.array)
    assert painted.complete == now.complete == {4} and painted.labels.names == now.labels.names


def test_a_copy_of_a_layer_is_painted_by_itself() -> None:
    layer = begin_painting(scan())
    data, attributes, kind = copy.deepcopy(layer.as_layer_data_tuple())
    twin = Layer.create(data, attributes, kind)
    painting_of(twin).complete.add(1)
    twin.data[0, 0, 0] = 1
    assert painting_of(layer).complete == set() and not layer.data.any()
    assert painting_of(twin).image_id == painting_of(layer).image_id
