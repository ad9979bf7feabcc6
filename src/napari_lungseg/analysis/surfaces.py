"""Where the surfaces of two masks lie, and how far each is from the other.

A surface is made of the voxels of a mask that have a face outside it or at the image's edge; a distance runs from the centre
of such a voxel to the nearest one of the other mask, in patient coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..volume import Geometry


@dataclass(frozen=True, eq=False)
class Surfaces:
    """The surfaces of a predicted and a reference mask.

    Parameters
    ----------
    predicted, reference : (n, 3) positions of their voxels, mm
    there, back : (n,) distance from each predicted voxel to the reference, and from each of the reference to the
        prediction; infinite where the other is empty
    """

    predicted: np.ndarray
    reference: np.ndarray
    there: np.ndarray
    back: np.ndarray

    @classmethod
    def of(
        cls,
        predicted: np.ndarray,
        reference: np.ndarray,
        geometry: Geometry,
        offset: Sequence[int],
        parts: Sequence[Surfaces] = (),
    ) -> Surfaces:
        """Those of two masks of one shape.

        Parameters
        ----------
        predicted, reference : (z, y, x) bool, a crop of the grid
        geometry : of the whole grid; of a single slice the outline counts
        offset : index in the whole grid of the crop's first voxel
        parts : the surfaces of labels that the masks are the union of; where these do not touch, most is known already
        """
        one, other = (_rim(mask, flat=geometry.shape[0] == 1) for mask in (predicted, reference))
        here, beyond = (positions_of(np.argwhere(rim) + offset, geometry) for rim in (one, other))
        if (
            parts
            and len(here) == sum(len(p.predicted) for p in parts)
            and len(beyond) == sum(len(p.reference) for p in parts)
        ):
            return cls._joined(parts)
        return cls(here, beyond, _distances(here, beyond, other[one]), _distances(beyond, here, one[other]))

    @classmethod
    def _joined(cls, parts: Sequence[Surfaces]) -> Surfaces:
        """Those of labels that do not touch: a voxel may yet lie nearer to another label's surface than to its own's."""
        there, back = [], []
        for part in parts:
            others = [other for other in parts if other is not part]
            there.append(_shortened(part.predicted, part.there, [other.reference for other in others]))
            back.append(_shortened(part.reference, part.back, [other.predicted for other in others]))
        predicted, reference = ([getattr(part, name) for part in parts] for name in ("predicted", "reference"))
        return cls(*(np.concatenate(each) for each in (predicted, reference, there, back)))


def positions_of(index: np.ndarray, geometry: Geometry) -> np.ndarray:
    """(n, 3) positions in mm of (n, 3) indices, on uneven slices too."""
    steps = index.astype(np.float64)
    if geometry.slice_positions is not None:
        steps[:, 0] = np.asarray(geometry.slice_positions)[index[:, 0]] / geometry.spacing[0]
    return np.asarray(steps @ geometry.affine[:3, :3].T)


def _rim(mask: np.ndarray, *, flat: bool) -> np.ndarray:
    inner = mask.copy()
    for axis in (1, 2) if flat else (0, 1, 2):
        along, found = np.moveaxis(inner, axis, 0), np.moveaxis(mask, axis, 0)
        along[1:] &= found[:-1]
        along[:-1] &= found[1:]
        along[:1], along[-1:] = False, False
    inner ^= mask
    return inner


def _distances(points: np.ndarray, others: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """(n,) distance from each of (n, 3) points to the nearest of the others, of which it is one where ``shared``."""
    if not len(others):
        return np.full(len(points), np.inf)
    found = np.zeros(len(points))
    found[~shared] = _nearest(points[~shared], others)
    return found


def _shortened(points: np.ndarray, known: np.ndarray, surfaces: Sequence[np.ndarray]) -> np.ndarray:
    """Known distances, or those to other surfaces where they are shorter; most are seen to be too far by their boxes."""
    found = known.copy()
    for others in surfaces:
        if not len(others):
            continue
        beside = np.maximum(np.maximum(others.min(axis=0) - points, points - others.max(axis=0)), 0)
        near = np.flatnonzero(found > np.linalg.norm(beside, axis=1))
        found[near] = np.minimum(found[near], _nearest(points[near], others))
    return found


def _nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,) distance from each of (n, 3) points to the nearest of the others."""
    from scipy.spatial import cKDTree

    if not len(points):
        return np.empty(0)
    # A tree that is not balanced is built in half the time, and found no slower in the points of a surface.
    tree = cKDTree(others, balanced_tree=False, compact_nodes=False)
    return np.asarray(tree.query(points, workers=-1)[0])
