"""Connected pieces of a label array, and which of them touch.

The array is taken apart in slabs, whose pieces are joined where they meet: cc3d holds Python's lock while it works, and
a window whose worker held the lock for a whole scan would freeze.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..volume import Geometry

OUTSIDE = 1  # id of the background that the margin reaches: it holds the first voxel
SLAB_VOXELS = 2_000_000  # some 50 ms of cc3d


@dataclass
class Pieces:
    """Connected pieces of a label array, background included; ids run from 1.

    Parameters
    ----------
    ids : (z, y, x) id of each voxel's piece
    labels, sizes : per id (entry 0 unused), the label and number of voxels
    low, high : (n, 3) half-open bounding boxes
    lateral, reach : (n,) and (n, 2): centroid and extent towards the patient's left, in the geometry's unit
    margin : voxels of background added on each side of each axis
    """

    ids: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray
    low: np.ndarray
    high: np.ndarray
    lateral: np.ndarray
    reach: np.ndarray
    margin: tuple[int, int, int]

    def largest(self, label: int) -> int:
        """Id of the label's largest piece; 0 where it has none."""
        sizes = np.where(self.labels == label, self.sizes, 0)
        return int(sizes.argmax()) if sizes.any() else 0

    def crop(self, piece: int) -> tuple[slice, ...]:
        """The piece's box with a margin of one voxel."""
        return tuple(
            slice(max(0, int(a) - 1), int(b) + 1) for a, b in zip(self.low[piece], self.high[piece], strict=True)
        )

    def contacts(self, piece: int) -> dict[int, int]:
        """Neighbours' ids with the number of voxel faces shared."""
        ids = self.ids[self.crop(piece)]
        mask = ids == piece
        faces = [neighbours[m] for axis in range(3) for m, neighbours in _facing(mask, ids, axis)]
        touched, counts = np.unique(np.concatenate(faces), return_counts=True)
        return {int(i): int(n) for i, n in zip(touched, counts, strict=True) if i != piece}

    def give(self, piece: int, target: int) -> None:
        """Merge a piece into another."""
        ids = self.ids[self.crop(piece)]
        ids[ids == piece] = target
        self.sizes[target] += self.sizes[piece]
        self.sizes[piece] = 0
        self.low[target] = np.minimum(self.low[target], self.low[piece])
        self.high[target] = np.maximum(self.high[target], self.high[piece])


def _facing(mask: np.ndarray, ids: np.ndarray, axis: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of views along an axis: a voxel's mask beside its neighbour's id, in both senses."""
    before = tuple(slice(None, -1) if a == axis else slice(None) for a in range(3))
    after = tuple(slice(1, None) if a == axis else slice(None) for a in range(3))
    return [(mask[before], ids[after]), (mask[after], ids[before])]


@dataclass(frozen=True)
class _Table:
    """Per piece, in rows: its label, voxels, box, and the sums of its voxels' indices."""

    labels: np.ndarray
    sizes: np.ndarray
    low: np.ndarray
    high: np.ndarray
    sums: np.ndarray


def find_pieces(labels: np.ndarray, start: np.ndarray, geometry: Geometry) -> Pieces:
    """Connected pieces of the labels with a margin of background around.

    Parameters
    ----------
    labels : (z, y, x) uint8
    start : index of the first voxel on the grid of ``geometry``
    geometry : of the whole grid

    Returns
    -------
    pieces, numbered in the order of their first voxels
    """
    # A hole in one slice must not drain through a margin above it.
    margin = (int(len(labels) > 1), 1, 1)
    # cc3d leaves zeros out, so labels are counted from 1 and background becomes a piece like any other.
    padded = np.pad(labels, [(width, width) for width in margin])
    padded += 1
    ids, table = _connected(padded)
    step = np.asarray(geometry.direction)[2] * np.asarray(geometry.spacing)
    offset = geometry.origin[2] + step @ (start - margin)
    corners = np.stack([table.low * step, (table.high - 1) * step])
    return Pieces(
        ids=ids,
        labels=table.labels,
        sizes=table.sizes,
        low=table.low,
        high=table.high,
        lateral=offset + table.sums / np.maximum(table.sizes, 1)[:, None] @ step,
        reach=np.stack([corners.min(0).sum(1), corners.max(0).sum(1)], axis=1) + offset,
        margin=margin,
    )


def _connected(padded: np.ndarray) -> tuple[np.ndarray, _Table]:
    """Id of each voxel's piece, and the table of pieces with an empty row 0."""
    ids = np.empty(padded.shape, np.uint32)
    tables: list[_Table] = []
    pairs: list[np.ndarray] = []
    count = 0
    for slab in _slabs(padded.shape):
        table = _label_slab(padded, ids, slab, count)
        count += len(table.sizes)
        tables.append(table)
        pairs.append(_pairs(padded, ids, slab))
    parts = _Table(*(np.concatenate([getattr(t, name) for t in tables]) for name in _Table.__annotations__))
    if len(tables) == 1:
        return ids, _merged(parts, np.arange(1, count + 1))
    joined = _joined(np.concatenate(pairs), count)
    names = np.concatenate([[0], joined]).astype(np.uint32)
    for slab in _slabs(padded.shape):
        ids[slab] = names[ids[slab]]
    return ids, _merged(parts, joined)


def _slabs(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Slabs of a stack along z, of a single image along y; at least one plane each."""
    axis = 0 if shape[0] > 1 else 1
    thick = max(1, SLAB_VOXELS * shape[axis] // int(np.prod(shape)))
    for first in range(0, shape[axis], thick):
        yield (slice(None),) * axis + (slice(first, min(first + thick, shape[axis])),)


def _label_slab(padded: np.ndarray, ids: np.ndarray, slab: tuple[slice, ...], count: int) -> _Table:
    """Number one slab's pieces in ``ids``, from ``count`` + 1 on."""
    import cc3d

    part = padded[slab]
    found = cc3d.connected_components(part, connectivity=6)
    table = cc3d.statistics(found, no_slice_conversion=True)
    boxes = np.asarray(table["bounding_boxes"], dtype=np.int64).reshape(-1, 6)[1:]
    low, high = boxes[:, ::2], boxes[:, 1::2] + 1
    np.add(found, np.uint32(count), out=ids[slab])
    sizes = np.asarray(table["voxel_counts"], dtype=np.int64)[1:]
    first = np.array([axis.start or 0 for axis in slab] + [0] * (3 - len(slab)))
    # The sums are whole numbers, so that what is added up over slabs is exact.
    sums = np.rint(np.asarray(table["centroids"])[1:] * sizes[:, None]) + first * sizes[:, None]
    return _Table(_labels_of(found, part, low, high), sizes, low + first, high + first, sums)


def _labels_of(found: np.ndarray, part: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Label of each piece, read at one of its voxels: in the first plane of its box it has one."""
    labels = np.zeros(len(low), np.int64)
    for row in range(OUTSIDE, len(low)):  # a slab's first piece is background, as its first voxel belongs to the margin
        plane = (low[row, 0], slice(low[row, 1], high[row, 1]), slice(low[row, 2], high[row, 2]))
        labels[row] = part[plane].flat[np.argmax(found[plane] == row + 1)] - 1
    return labels


def _pairs(padded: np.ndarray, ids: np.ndarray, slab: tuple[slice, ...]) -> np.ndarray:
    """(n, 2) ids that are one piece across a slab's first face."""
    *before, cut = slab
    if cut.start == 0:
        return np.empty((0, 2), np.uint32)
    here, there = (*before, cut.start), (*before, cut.start - 1)
    same = padded[here] == padded[there]
    keys = np.unique(ids[there][same].astype(np.uint64) << np.uint64(32) | ids[here][same])
    return np.stack([keys >> np.uint64(32), keys & np.uint64(0xFFFFFFFF)], axis=1).astype(np.uint32)


def _joined(pairs: np.ndarray, count: int) -> np.ndarray:
    """(count,) number of the whole piece, from 1, that each slab's piece is part of."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, columns = (pairs - 1).astype(np.int32).T
    graph = coo_array((np.ones(len(pairs), bool), (rows, columns)), shape=(count, count))
    _, group = connected_components(graph, directed=False)
    _, firsts = np.unique(group, return_index=True)
    # Numbered by their first parts, as they would be in one go.
    return np.asarray(np.unique(firsts[group], return_inverse=True)[1]) + 1


def _merged(parts: _Table, joined: np.ndarray) -> _Table:
    """Rows of one piece become one row; row 0 stays empty."""
    count = int(joined.max()) + 1
    sizes, sums = np.zeros(count, np.int64), np.zeros((count, 3))
    low, high = np.full((count, 3), np.iinfo(np.int64).max), np.zeros((count, 3), np.int64)
    labels = np.zeros(count, np.int64)
    low[0] = 0
    labels[joined] = parts.labels
    np.add.at(sizes, joined, parts.sizes)
    np.add.at(sums, joined, parts.sums)
    np.minimum.at(low, joined, parts.low)
    np.maximum.at(high, joined, parts.high)
    return _Table(labels, sizes, low, high, sums)
