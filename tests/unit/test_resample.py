"""Labels on another grid, in the patient: anisotropic, offset, flipped, tilted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from napari_lungseg.analysis.resample import resample_labels
from napari_lungseg.errors import InvalidVolumeError
from napari_lungseg.volume import Geometry, LabelMap

SPACING, ORIGIN = (3.0, 0.7, 1.3), (-40.0, 7.0, 90.0)
TILT = math.radians(20)
TILTED = ((math.cos(TILT), 0.0, 0.0), (math.sin(TILT), 1.0, 0.0), (0.0, 0.0, 1.0))


def labels_on(geometry: Geometry) -> LabelMap:
    array = np.random.default_rng(3).integers(0, 4, geometry.shape).astype(np.uint8)
    return LabelMap(array, geometry, {1: "one", 2: "two", 3: "three"})


def by_hand(labels: LabelMap, geometry: Geometry) -> np.ndarray:
    """The same, voxel by voxel: position of each voxel, its index in the other grid, rounded."""
    into = np.linalg.inv(labels.geometry.affine)
    result = np.zeros(geometry.shape, np.uint8)
    for index in np.ndindex(geometry.shape):
        place = np.round((into @ (*geometry.position(index), 1.0))[:3]).astype(int)
        if all(place >= 0) and all(place < labels.geometry.shape):
            result[index] = labels.array[tuple(place)]
    return result


@pytest.mark.parametrize("direction", [((1, 0, 0), (0, 1, 0), (0, 0, 1)), ((-1, 0, 0), (0, 0, 1), (0, 1, 0)), TILTED])
def test_agrees_with_a_loop_over_voxels(direction):
    source = labels_on(Geometry((6, 9, 7), SPACING, ORIGIN, direction))
    target = Geometry((5, 8, 10), (2.2, 0.93, 0.81), (-38.3, 8.17, 89.4), direction)
    moved = resample_labels(source, target)
    assert moved.geometry == target
    assert moved.names == source.names
    wanted = by_hand(source, target)
    assert np.count_nonzero(wanted) > 20
    assert np.array_equal(moved.array, wanted)


def test_the_same_grid_gives_the_same_labels():
    source = labels_on(Geometry((4, 6, 5), SPACING, ORIGIN, TILTED))
    assert np.array_equal(resample_labels(source, source.geometry).array, source.array)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"units": "pixel"}, "pixels"),
        ({"slice_positions": (0.0, 1.0, 5.0, 6.0)}, "unevenly"),
        ({"frames": True}, "radiographs"),
    ],
)
def test_grids_that_share_no_space_are_refused(change, says):
    plain = Geometry((4, 6, 5), SPACING, ORIGIN)
    with pytest.raises(InvalidVolumeError, match=says):
        resample_labels(labels_on(Geometry((4, 6, 5), SPACING, **change)), plain)
    if says != "unevenly":
        with pytest.raises(InvalidVolumeError, match=says):
            resample_labels(labels_on(plain), Geometry((4, 6, 5), SPACING, **change))


def test_labels_go_to_slices_at_uneven_places():
    source = labels_on(Geometry((6, 9, 7), SPACING, ORIGIN, TILTED))
    target = Geometry((4, 8, 6), (3.0, 0.9, 1.1), (-38.5, 7.6, 89.9), TILTED, slice_positions=(0.0, 2.0, 8.5, 12.5))
    moved = resample_labels(source, target)
    assert moved.geometry == target
    assert np.array_equal(moved.array, by_hand(source, target))
