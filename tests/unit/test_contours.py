"""Outlines run along the edges of pixels, and filling gives the same pixels back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_lungseg.io.contours import fill, outlines


def area(polygon: np.ndarray) -> float:
    after = np.roll(polygon, -1, axis=0)
    return abs(float(np.sum(polygon[:, 1] * after[:, 0] - after[:, 1] * polygon[:, 0])) / 2)


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_masks_come_back(mask: np.ndarray) -> None:
    found = outlines(mask)
    if not found:
        assert not mask.any()
        return
    np.testing.assert_array_equal(fill(found, mask.shape), mask)
    # Programs that fill each polygon by itself, and join them, see the same: holes are keyholes.
    joined = np.any([fill([polygon], mask.shape) for polygon in found], axis=0)
    np.testing.assert_array_equal(joined, mask)
    assert sum(map(area, found)) == pytest.approx(mask.sum())


@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_outlines_run_along_pixel_edges_without_idle_points(mask: np.ndarray) -> None:
    for polygon in outlines(mask):
        steps = np.roll(polygon, -1, axis=0) - polygon
        assert np.all(polygon % 1 == 0.5)
        assert np.all(np.count_nonzero(steps, axis=1) == 1)
        signs = np.sign(steps)
        assert np.all(np.any(signs != np.roll(signs, 1, axis=0), axis=1))


def test_an_inner_polygon_is_a_hole_whichever_way_it_runs() -> None:
    outer = np.array([(0.5, 0.5), (0.5, 8.5), (8.5, 8.5), (8.5, 0.5)])
    inner = np.array([(2.5, 3.5), (2.5, 5.5), (5.5, 5.5), (5.5, 3.5)])
    wanted = np.zeros((10, 11), bool)
    wanted[1:9, 1:9] = True
    wanted[3:6, 4:6] = False
    for hole in (inner, inner[::-1]):
        np.testing.assert_array_equal(fill([outer, hole], (10, 11)), wanted)


def test_a_slanted_polygon_takes_the_pixels_whose_centres_lie_within() -> None:
    triangle = np.array([(0.2, 0.1), (0.2, 9.3), (7.4, 4.4)])
    found = fill([triangle], (9, 10))
    for row in range(9):
        for column in range(10):
            edges = zip(triangle, np.roll(triangle, -1, axis=0), strict=True)
            sides = [(b[0] - a[0]) * (column - a[1]) - (b[1] - a[1]) * (row - a[0]) for a, b in edges]
            assert found[row, column] == (min(sides) > 0 or max(sides) < 0)


def test_what_runs_over_the_border_is_cut_off() -> None:
    around = np.array([(-5.0, -5.0), (-5.0, 50.0), (50.0, 50.0), (50.0, -5.0)])
    assert fill([around], (4, 6)).all()
    assert not fill([around + 100], (4, 6)).any()
