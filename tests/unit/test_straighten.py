"""Tilted and uneven slices on a straight, even grid: every value stays where it lies in the patient."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from dicom_phantom import ct_series, voxels

from napari_lungseg.analysis.resample import resample_labels
from napari_lungseg.analysis.straighten import is_straight, straightened
from napari_lungseg.findings import has_finding
from napari_lungseg.io.dicom import read_dicom
from napari_lungseg.volume import Geometry, LabelMap, Matrix, Volume

SHAPE, SPACING, ORIGIN = (5, 16, 14), (3.0, 0.7, 1.3), (-40.0, 7.0, 90.0)
GRADIENT = np.array([3.0, -5.0, 2.0])
TILT = math.radians(20)


def turned(step: tuple[float, float, float]) -> Matrix:
    """Axes of a stack that runs along ``step``, in a patient who lies aslant."""
    aslant = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]]) @ np.array(
        [[0.96, 0, 0.28], [0, 1, 0], [-0.28, 0, 0.96]]
    )
    axes = np.column_stack([np.array(step) / np.linalg.norm(step), (0, 1, 0), (0, 0, 1)])
    z, y, x = (tuple(row) for row in (aslant @ axes).tolist())
    return z, y, x


TILTED = turned((math.cos(TILT), math.sin(TILT), 0))
BOTH_WAYS = turned((math.cos(TILT), math.sin(TILT), -0.3))


def linear(geometry: Geometry) -> np.ndarray:
    """A value that grows evenly through the patient, so that linear interpolation is exact."""
    return np.array([GRADIENT @ geometry.position(index) for index in np.ndindex(geometry.shape)]).reshape(
        geometry.shape
    )


def volume_on(**changes: object) -> Volume:
    geometry = Geometry(SHAPE, SPACING, ORIGIN, **changes)  # type: ignore[arg-type]
    return Volume(linear(geometry), geometry, "ct", "a.u.")


UNEVEN = {"slice_positions": (0.0, 2.0, 6.0, 9.0, 13.0)}


@pytest.mark.parametrize(
    "changes",
    [
        {"direction": TILTED},
        {"direction": BOTH_WAYS},
        UNEVEN,
        {"direction": turned((1, 0, 0))} | UNEVEN,
        {"direction": BOTH_WAYS} | UNEVEN,
    ],
    ids=["tilted", "tilted both ways", "uneven", "uneven and oblique", "tilted and uneven"],
)
def test_every_value_stays_where_it_was(changes):
    volume = volume_on(**changes)
    straight = straightened(volume)
    assert is_straight(straight.geometry) and not is_straight(volume.geometry)
    axes = np.array(straight.geometry.direction)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    inside = well_inside(volume.geometry, straight.geometry)
    assert np.count_nonzero(inside) > 50
    np.testing.assert_allclose(straight.array[inside], linear(straight.geometry)[inside], atol=1e-3)
    assert has_finding(straight.findings, "straightened")


def well_inside(scanned: Geometry, straight: Geometry) -> np.ndarray:
    """Voxels of the straight grid that lie three pixels and more within the slices that were scanned."""
    into = np.linalg.inv(np.asarray(scanned.direction) * np.asarray((1.0, *scanned.spacing[1:])))
    last = (scanned.slice_positions or (0.0, 12.0))[-1]
    low, high = np.array([-1e-6, 3, 3]), np.array([last + 1e-6, SHAPE[1] - 4, SHAPE[2] - 4])
    places = np.array([into @ (straight.position(index) - scanned.origin) for index in np.ndindex(straight.shape)])
    return ((places >= low) & (places <= high)).all(axis=1).reshape(straight.shape)


def test_a_shift_of_whole_pixels_changes_no_voxel(tmp_path: Path):
    """Slices 2.5 mm apart that slip by 1.4 mm each: two rows of 0.7 mm."""
    stored = voxels()
    positions = np.array([-120.5, -80.25, 33.0]) + np.outer(np.arange(5), [0, 1.4, 2.5])
    (volume,) = read_dicom(ct_series(tmp_path, stored, positions))
    straight = straightened(volume)
    assert straight.geometry.shape == (5, stored.shape[1] + 8, stored.shape[2])
    for index, (plane, slice_) in enumerate(zip(straight.array, stored.astype(int) - 1024, strict=True)):
        np.testing.assert_array_equal(plane[2 * index : 2 * index + len(slice_)], slice_)
        outside = np.delete(plane, range(2 * index, 2 * index + len(slice_)), axis=0)
        assert (outside == -1000).all()
    assert straight.array.dtype == volume.array.dtype
    assert straight.geometry.spacing == pytest.approx((2.5, 0.7, 0.9))
    np.testing.assert_allclose(straight.geometry.direction, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(straight.geometry.origin, volume.geometry.origin)


def test_slices_that_are_there_are_kept_where_others_are_missing(tmp_path: Path):
    stored, places = voxels(), np.outer([0, 1, 2, 4, 5], [0, 0, 2.5])
    (volume,) = read_dicom(ct_series(tmp_path, stored, places))
    straight = straightened(volume)
    np.testing.assert_array_equal(straight.array[[0, 1, 2, 4, 5]], volume.array)
    between = (volume.array[2].astype(float) + volume.array[3]) / 2
    np.testing.assert_allclose(straight.array[3], between, atol=0.5)
    assert straight.geometry.spacing[0] == pytest.approx(2.5)


@pytest.mark.parametrize(
    "changes", [{}, {"direction": turned((1, 0, 0))}, {"units": "pixel"} | UNEVEN, {"frames": True}]
)
def test_what_is_straight_comes_back_as_it_is(changes):
    volume = volume_on(**changes)
    assert straightened(volume) is volume


@pytest.mark.parametrize("changes", [{"direction": BOTH_WAYS}, UNEVEN, {"direction": TILTED} | UNEVEN])
def test_labels_come_back_to_the_grid_of_the_scan(changes):
    """A ball, labelled on the straightened grid, is the same ball on the tilted, uneven one, but for its surface."""
    volume = volume_on(**changes)
    straight = straightened(volume).geometry
    centre = volume.geometry.position((2, 8, 7))
    inside = lambda geometry: np.array(  # noqa: E731
        [np.linalg.norm(geometry.position(index) - centre) for index in np.ndindex(geometry.shape)]
    ).reshape(geometry.shape)
    found = resample_labels(LabelMap((inside(straight) < 3).astype(np.uint8), straight), volume.geometry)
    assert found.geometry == volume.geometry
    distance = inside(volume.geometry)
    assert (found.array[distance < 1] == 1).all() and (found.array[distance > 5.5] == 0).all()
    assert np.count_nonzero(distance < 1) > 0


def test_the_command_line_brings_labels_back(tmp_path: Path, capsys, monkeypatch):
    from command_line import quick_runner

    from napari_lungseg.io import read

    stored = np.full((6, 40, 50), 1060, np.uint16)
    stored[:, 12:28, 8:40] = 200
    positions = np.outer([0, 1, 2, 4, 5, 6], [0, 0.9, 2.5])
    ct_series(tmp_path / "in", stored, positions)
    lungseg = quick_runner(capsys, monkeypatch)
    done = lungseg("segment", tmp_path / "in", "-o", tmp_path / "out.mha", "--straighten")
    assert done.code == 0, done.err
    assert "resampled to a straight and even grid" in done.out
    (labels,) = read(tmp_path / "out.mha", labels=True)
    (scan,) = read(tmp_path / "in")
    assert labels.geometry.shape == scan.geometry.shape
    overlap = np.mean((labels.array > 0) == (stored < 700))
    assert overlap > 0.97
