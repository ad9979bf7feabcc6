"""Masks to polygons and back: outlines along the edges of pixels, and filling by the rule of even and odd.

Points are (row, column), in pixels; the centre of pixel ``[0, 0]`` is ``(0, 0)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_Point = tuple[int, int]
# Steps (row, column) along the edges of pixels, clockwise on the screen from "up".
_UP, _RIGHT, _DOWN, _LEFT = (-1, 0), (0, 1), (1, 0), (0, -1)
_CLOCKWISE = (_UP, _RIGHT, _DOWN, _LEFT)


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Closed polygons around a mask, exactly along the edges of its pixels.

    A hole is joined to the polygon around it by a channel of no width (the keyhole of DICOM PS3.3 C.8.8.6.3), so that
    programs which fill each polygon by itself leave it open too. Pixels that touch at a corner only are apart.

    Parameters
    ----------
    mask : (rows, columns) of bool

    Returns
    -------
    (n, 2) points of each polygon; the last is joined to the first
    """
    loops = _loops(mask)
    outer = [loop for loop in loops if _turns(loop) > 0]
    holes = sorted((min((column, row) for row, column in loop), loop) for loop in loops if _turns(loop) < 0)
    owner = {point: number for number, loop in enumerate(outer) for point in loop}
    for (column, row), hole in holes:
        # To the left of its leftmost point a hole lies within what surrounds it, up to an edge that is known by now.
        channel = [(row, column)]
        while channel[-1] not in owner:
            channel.append((row, channel[-1][1] - 1))
        number = owner[channel[-1]]
        at, begin = outer[number].index(channel[-1]), hole.index((row, column))
        around = hole[begin:] + hole[:begin]
        outer[number][at:at] = [*channel[:0:-1], *around, *channel[:-1]]
        owner |= dict.fromkeys([*hole, *channel], number)
    return [np.array(_corners(loop), float) - 0.5 for loop in outer]


def fill(polygons: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centres lie within an odd number of polygons, so that an inner polygon is a hole.

    Parameters
    ----------
    polygons : (n, 2) points of each, closed or not
    shape : (rows, columns)

    Returns
    -------
    (rows, columns) of bool
    """
    rows, columns = shape
    starts = np.concatenate(polygons)
    ends = np.concatenate([np.roll(points, -1, axis=0) for points in polygons])
    low, high = np.minimum(starts[:, 0], ends[:, 0]), np.maximum(starts[:, 0], ends[:, 0])
    # Each edge crosses the lines through the centres of the rows in low ≤ row < high.
    first, last = np.clip(np.ceil(low), 0, rows).astype(int), np.clip(np.ceil(high), 0, rows).astype(int)
    counts = last - first
    edge = np.repeat(np.arange(len(starts)), counts)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    slope = (ends[edge, 1] - starts[edge, 1]) / (ends[edge, 0] - starts[edge, 0])
    crossing = starts[edge, 1] + (row - starts[edge, 0]) * slope
    toggles = np.zeros((rows, columns + 1), np.intp)
    np.add.at(toggles, (row, np.clip(np.ceil(crossing), 0, columns).astype(int)), 1)
    return np.asarray(np.cumsum(toggles[:, :-1], axis=1) & 1, bool)


def _loops(mask: np.ndarray) -> list[list[_Point]]:
    """Every boundary as lattice points, clockwise around pixels, counter-clockwise around holes.

    Lattice point ``(r, c)`` is the upper left corner of pixel ``[r, c]``.
    """
    inside = np.pad(np.asarray(mask, bool), 1)
    here = inside[1:-1, 1:-1]
    leaving: dict[_Point, list[_Point]] = {}
    # The four edges of a pixel: where its neighbour is, where the edge begins, and its direction.
    for neighbour, corner, step in (
        (inside[:-2, 1:-1], (0, 0), _RIGHT),
        (inside[1:-1, 2:], (0, 1), _DOWN),
        (inside[2:, 1:-1], (1, 1), _LEFT),
        (inside[1:-1, :-2], (1, 0), _UP),
    ):
        for r, c in (np.argwhere(here & ~neighbour) + corner).tolist():
            leaving.setdefault((r, c), []).append(step)
    loops = []
    while leaving:
        start = next(iter(leaving))
        loops.append(_walk(leaving, start))
    return loops


def _walk(leaving: dict[_Point, list[_Point]], start: _Point) -> list[_Point]:
    """Follow edges until they close, turning right where pixels touch at a corner; takes the edges out."""
    point, step = start, leaving[start][0]
    loop: list[_Point] = []
    while True:
        steps = leaving.get(point, [])
        right = _CLOCKWISE[(_CLOCKWISE.index(step) + 1) % 4]
        if loop:
            if point == start and (len(steps) == 0 or right not in steps):
                return loop
            step = right if right in steps else steps[0]
        steps.remove(step)
        if not steps:
            del leaving[point]
        loop.append(point)
        point = (point[0] + step[0], point[1] + step[1])


def _turns(loop: Sequence[_Point]) -> float:
    """Area within, positive for a loop that runs clockwise on the screen."""
    points = np.array(loop)
    after = np.roll(points, -1, axis=0)
    return float(np.sum(points[:, 1] * after[:, 0] - after[:, 1] * points[:, 0])) / 2


def _corners(loop: Sequence[_Point]) -> list[_Point]:
    """Only the points at which a loop turns."""
    points = np.array(loop)
    steps = np.roll(points, -1, axis=0) - points
    turning = np.any(steps != np.roll(steps, 1, axis=0), axis=1)
    return [loop[i] for i in np.flatnonzero(turning).tolist()]
