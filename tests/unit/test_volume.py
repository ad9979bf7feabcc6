"""Voxels, geometry and labels agree or are refused; positions stay what they are under every turn."""

from __future__ import annotations

import itertools
from dataclasses import replace

import dask.array
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_lungseg.errors import InvalidVolumeError
from napari_lungseg.findings import Finding
from napari_lungseg.volume import AXIAL, FRONTAL, PALETTE, Geometry, LabelMap, Matrix, Volume, label_colour

CORONAL: Matrix = ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
SAGITTAL: Matrix = ((0.0, -1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))
ORTHOGONAL = [
    tuple(
        tuple(float(sign) if world == axis else 0.0 for axis, sign in zip(axes, signs, strict=True))
        for world in range(3)
    )
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((-1, 1), repeat=3)
]


def rotation(axis: int, degrees: float) -> np.ndarray:
    first, second = (other for other in range(3) if other != axis)
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(3)
    matrix[[first, first, second, second], [first, second, first, second]] = cosine, -sine, sine, cosine
    return matrix


@st.composite
def directions(draw: st.DrawFn) -> Matrix:
    """All 48 orthogonal directions, tilted a little, and sheared as by a gantry."""
    matrix = np.asarray(draw(st.sampled_from(ORTHOGONAL)))
    matrix = rotation(draw(st.integers(0, 2)), draw(st.floats(-25, 25))) @ matrix
    matrix[:, 0] += draw(st.floats(-0.3, 0.3)) * matrix[:, 1]
    matrix[:, 0] /= np.linalg.norm(matrix[:, 0])
    return tuple(tuple(row) for row in matrix.tolist())


@st.composite
def geometries(draw: st.DrawFn, min_slices: int = 1) -> Geometry:
    shape = (draw(st.integers(min_slices, 5)), draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    spacing = tuple(draw(st.floats(0.2, 6)) for _ in range(3))
    origin = tuple(draw(st.floats(-400, 400)) for _ in range(3))
    positions = None
    if draw(st.booleans()):
        gaps = [draw(st.floats(0.3, 9)) for _ in range(shape[0] - 1)]
        positions = tuple(itertools.accumulate(gaps, initial=0.0))
    return Geometry(shape, spacing, origin, draw(directions()), slice_positions=positions, frames=draw(st.booleans()))


def indices(shape: tuple[int, ...]) -> np.ndarray:
    """Array of each voxel's own index, (z, y, x, 3)."""
    return np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)


@given(geometries())
def test_voxels_stay_where_they_are_when_turned(geometry: Geometry) -> None:
    turn = geometry.reorientation()
    turned = geometry.reoriented(turn)
    sources = turn.apply(indices(geometry.shape))
    assert sources.shape[:3] == turned.shape
    for index in np.ndindex(turned.shape):
        assert np.allclose(turned.position(index), geometry.position(sources[index]), atol=1e-9)


@given(geometries())
def test_turning_back_gives_the_same_array(geometry: Geometry) -> None:
    turn = geometry.reorientation()
    array = indices(geometry.shape)
    assert np.array_equal(turn.undo(turn.apply(array)), array)
    assert np.array_equal(turn.undo(turn.apply(array[..., 0])), array[..., 0])


@given(geometries())
def test_the_standard_view_is_its_own_standard_view(geometry: Geometry) -> None:
    assert geometry.reoriented(geometry.reorientation()).reorientation().is_identity


@given(geometries())
def test_turning_keeps_the_size_of_voxels_and_slices(geometry: Geometry) -> None:
    turned = geometry.reoriented(geometry.reorientation())
    assert turned.voxel_volume_mm3 == pytest.approx(geometry.voxel_volume_mm3)
    if turned.slice_positions is not None:
        assert turned.slice_positions[0] == 0
        assert sorted(turned.slice_thicknesses_mm) == pytest.approx(sorted(geometry.slice_thicknesses_mm))


@given(geometries(min_slices=2))
def test_an_even_stack_becomes_axial(geometry: Geometry) -> None:
    stack = replace(geometry, slice_positions=None, frames=False)
    assert stack.reoriented(stack.reorientation()).axis_letters() == ("H", "P", "L")


@given(geometries())
def test_slices_and_frames_stay_slices(geometry: Geometry) -> None:
    frames = replace(geometry, frames=True)
    turn = frames.reorientation()
    assert turn.order[0] == 0
    assert not turn.flips[0]


@given(geometries())
def test_a_position_is_the_affine_times_the_index_on_even_slices(geometry: Geometry) -> None:
    even = replace(geometry, slice_positions=None)
    last = np.asarray(even.shape) - 1
    expected = np.asarray(even.origin) + np.asarray(even.direction) @ (np.asarray(even.spacing) * last)
    assert np.allclose(even.position(last), expected)


@given(geometries(), st.floats(0.01, 5), st.integers(0, 2))
def test_a_moved_grid_is_another_grid(geometry: Geometry, shift: float, axis: int) -> None:
    origin = list(geometry.origin)
    origin[axis] += shift
    assert geometry.same_grid(replace(geometry))
    assert not geometry.same_grid(replace(geometry, origin=tuple(origin)))


@pytest.mark.parametrize(
    ("direction", "letters", "standard"),
    [
        (AXIAL, ("H", "P", "L"), ("H", "P", "L")),
        (CORONAL, ("P", "F", "L"), ("P", "F", "L")),
        (SAGITTAL, ("L", "F", "P"), ("L", "F", "P")),
        (((1, 0, 0), (0, -1, 0), (0, 0, -1)), ("H", "A", "R"), ("H", "P", "L")),
        (((0, 1, 0), (1, 0, 0), (0, 0, -1)), ("P", "H", "R"), ("P", "F", "L")),
        (((-1, 0, 0), (0, 0, 1), (0, 1, 0)), ("F", "L", "P"), ("F", "P", "L")),
    ],
)
def test_one_slice_is_turned_within_its_plane(
    direction: Matrix, letters: tuple[str, ...], standard: tuple[str, ...]
) -> None:
    slice_ = Geometry((1, 3, 4), (2.0, 1.0, 0.5), direction=direction)
    assert slice_.axis_letters() == letters
    assert slice_.reoriented(slice_.reorientation()).axis_letters() == standard


def test_the_patients_right_comes_to_the_viewers_left() -> None:
    """A bright voxel put at the patient's right stands in the first columns, whatever the file's order."""
    for direction in ORTHOGONAL:
        geometry = Geometry((4, 4, 4), (3.0, 1.0, 0.5), (10.0, -20.0, 30.0), direction)
        array = np.zeros((4, 4, 4), np.float32)
        index = min(np.ndindex(4, 4, 4), key=lambda voxel: geometry.position(voxel)[2])
        array[index] = 1
        turned, _ = Volume(array, geometry).reoriented()
        assert np.argwhere(turned.array)[0][2] == 0


def test_the_frontal_view_has_head_up_and_right_at_the_left() -> None:
    frontal = Geometry((1, 2, 2), direction=FRONTAL)
    assert frontal.reorientation().is_identity
    assert frontal.axis_letters() == ("P", "F", "L")


def test_a_sheared_voxel_is_smaller_than_the_product_of_its_spacings() -> None:
    tilt = np.radians(20)
    sheared = ((float(np.cos(tilt)), 0.0, 0.0), (float(np.sin(tilt)), 1.0, 0.0), (0.0, 0.0, 1.0))
    geometry = Geometry((2, 2, 2), (3.0, 2.0, 1.0), direction=sheared)
    assert geometry.voxel_volume_mm3 == pytest.approx(6 * np.cos(tilt))


def test_uneven_slices_keep_their_positions() -> None:
    geometry = Geometry((4, 2, 2), (2.0, 1.0, 1.0), (100.0, 0.0, 0.0), slice_positions=(0, 2, 7, 9))
    assert [geometry.position((z, 0, 0))[0] for z in range(4)] == [100, 102, 107, 109]
    assert geometry.position((1.5, 0, 0))[0] == 104.5
    assert geometry.slice_thicknesses_mm.tolist() == [2, 3.5, 3.5, 2]
    assert Geometry((3, 2, 2), (2.0, 1.0, 1.0)).slice_thicknesses_mm.tolist() == [2, 2, 2]


def test_uneven_slices_stored_head_first_are_turned_with_their_positions() -> None:
    down = ((-1, 0, 0), (0, 1, 0), (0, 0, 1))
    geometry = Geometry((4, 2, 2), (2.0, 1.0, 1.0), (100.0, 0.0, 0.0), down, slice_positions=(0, 2, 7, 9.5))
    turned = geometry.reoriented(geometry.reorientation())
    assert turned.slice_positions == (0, 2.5, 7.5, 9.5)
    assert [turned.position((z, 0, 0))[0] for z in range(4)] == [90.5, 93, 98, 100]


def test_grids_differ_by_units_frames_and_shape() -> None:
    geometry = Geometry((2, 3, 4))
    assert not geometry.same_grid(replace(geometry, units="pixel"))
    assert not geometry.same_grid(replace(geometry, frames=True))
    assert not geometry.same_grid(replace(geometry, shape=(2, 3, 5)))
    assert not replace(geometry, units="pixel").is_mm


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shape": (0, 3, 4)}, "at least one voxel"),
        ({"spacing": (1, float("nan"), 1)}, "finite and positive"),
        ({"spacing": (1, 0, 1)}, "finite and positive"),
        ({"spacing": (1, -2, 1)}, "finite and positive"),
        ({"origin": (0, float("inf"), 0)}, "not a finite number"),
        ({"direction": ((float("nan"), 0, 0), (0, 1, 0), (0, 0, 1))}, "not a finite number"),
        ({"direction": ((2, 0, 0), (0, 1, 0), (0, 0, 1))}, "independent unit vectors"),
        ({"direction": ((1, 1, 0), (0, 0, 0), (0, 0, 1))}, "independent unit vectors"),
        ({"slice_positions": (0, 1, 2)}, "3 slice positions for 2 slices"),
        ({"slice_positions": (5, 8)}, "count from the first slice"),
        ({"slice_positions": (0, 0)}, "must grow"),
        ({"slice_positions": (0, float("nan"))}, "must grow"),
    ],
)
def test_a_damaged_geometry_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidVolumeError, match=message):
        Geometry(**{"shape": (2, 3, 4), **values})


GRID = Geometry((2, 3, 4), (3.0, 1.0, 0.5))


@pytest.mark.parametrize(
    ("array", "values", "message"),
    [
        (np.zeros((2, 3, 5)), {}, "has shape"),
        (np.zeros((3, 4)), {}, "does not fit unit"),
        (np.zeros((2, 3, 4, 3)), {}, "does not fit unit 'HU'"),
        (np.zeros((2, 3, 4)), {"unit": "rgb"}, "does not fit unit 'rgb'"),
        (np.zeros((2, 3, 4)), {"modality": "mri"}, "must be one of ct, xray, photo"),
        (np.zeros((2, 3, 4), complex), {}, "expected integers or floating-point"),
        (np.zeros((2, 3, 4), str), {}, "expected integers or floating-point"),
        (np.zeros((2, 3, 4)), {"window": (5, 5)}, "from low to high"),
    ],
)
def test_voxels_that_contradict_themselves_are_refused(array: np.ndarray, values: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidVolumeError, match=message):
        Volume(array, GRID, **values)


def test_radiographs_are_frames_and_ct_slices_are_neighbours() -> None:
    array = np.zeros((2, 3, 4), np.float32)
    assert not Volume(array, GRID).is_frames
    stack = Volume(array, GRID, "xray", "a.u.")
    assert stack.is_frames
    assert stack.geometry.frames


def test_a_lazy_volume_turns_without_being_read_and_loads_to_the_same() -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    geometry = replace(GRID, direction=((-1, 0, 0), (0, -1, 0), (0, 0, 1)))
    lazy = Volume(dask.array.from_array(array), geometry, window=(-5, 5), findings=[Finding("a", "A.")])
    turned, turn = lazy.reoriented()
    assert turned.is_lazy
    assert turned.findings == (Finding("a", "A."),)
    assert turned.window == (-5.0, 5.0)
    loaded = turned.load()
    assert not loaded.is_lazy
    assert np.array_equal(turn.undo(loaded.array), array)
    assert loaded.load() is loaded


@pytest.mark.parametrize("dtype", [np.int16, np.float32, bool])
def test_labels_are_unsigned_integers(dtype: type) -> None:
    with pytest.raises(InvalidVolumeError, match="unsigned integers"):
        LabelMap(np.zeros((2, 3, 4), dtype), GRID)


def test_labels_on_another_grid_are_refused() -> None:
    with pytest.raises(InvalidVolumeError, match="label map has shape"):
        LabelMap(np.zeros((2, 3, 5), np.uint8), GRID)


def test_named_labels_get_a_colour_each_unless_they_bring_one() -> None:
    labels = LabelMap(np.zeros((2, 3, 4), np.uint8), GRID, {1: "right lung", "2": "left lung"}, {2: "#000000"})
    assert labels.names == {1: "right lung", 2: "left lung"}
    assert labels.colours == {1: label_colour(1), 2: "#000000"}


def test_label_maps_turn_as_their_volumes_do() -> None:
    geometry = replace(GRID, direction=((0, 1, 0), (0, 0, -1), (-1, 0, 0)))
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    labels, _ = LabelMap(array, geometry).reoriented()
    volume, _ = Volume(array, geometry).reoriented()
    assert labels.geometry == volume.geometry
    assert np.array_equal(labels.array, volume.array)


def test_colours_repeat_after_the_palette() -> None:
    assert len({label_colour(label) for label in range(1, len(PALETTE) + 1)}) == len(PALETTE)
    assert label_colour(len(PALETTE) + 1) == label_colour(1)
