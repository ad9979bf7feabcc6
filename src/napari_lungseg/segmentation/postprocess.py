"""From a network's labels to lungs: connected pieces, then a few rules about each.

Background counts as pieces too, so a hole is a piece of background that reaches no edge, and a fragment of the right lung
inside the left is a piece of the right lung: both are given to the neighbour they touch. Only the table of pieces is
looked at and changed; the voxels are read once and written once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..findings import Finding
from ..volume import LUNG_NAMES, Geometry
from .pieces import OUTSIDE, Pieces, find_pieces

# A lung may come in two pieces (a band of consolidation, a tumour); smaller ones are bowel, stomach or noise. Shares of
# the label's largest piece: in a stack, in one slice (where a lung's base often shows as islands), in a radiograph.
KEEP_SHARE_STACK = 0.05
KEEP_SHARE_SLICE = 0.01
KEEP_SHARE_FRAME = 0.15
KEEP_SHARE_OTHER = 0.01
THIN_STACK_MM = 25.0
# A piece belongs to the neighbour that covers this share of its surface …
TOUCHING = 0.1
# … and does so even where it is large, if it is nearly wrapped up.
WRAPPED = 0.5
# Two pieces this much alike in size are taken for two lungs when the network gave both one name.
COMPARABLE = 0.2
GAS_BELOW_HU = -925
LARGEST_GAS_ML = 300.0
# So many pieces, each of at least this share of all that was marked, and the model saw no lungs but their crumbs.
MANY_PIECES = 10
CRUMB_SHARE = 0.005
MUCH = 0.1  # removing a larger share than this is told


@dataclass(frozen=True)
class _Rules:
    """What `postprocess` was asked for.

    Parameters
    ----------
    geometry : of the whole grid, standard view
    right, left : labels of the lungs, 0 where the model has none
    keep_share : smallest piece of a lung to keep, as a share of its largest
    image : HU on the same grid, or None
    """

    geometry: Geometry
    right: int
    left: int
    keep_share: float
    keep_largest: bool
    fill_holes: bool
    image: Any

    def keeps(self, label: int) -> float:
        return self.keep_share if label in (self.right, self.left) else KEEP_SHARE_OTHER


def postprocess(
    labels: np.ndarray,
    geometry: Geometry,
    *,
    frames: bool,
    names: Mapping[int, str] = LUNG_NAMES,
    image: Any = None,
    keep_largest: bool = True,
    fill_holes: bool = True,
) -> tuple[np.ndarray, list[Finding]]:
    """Clean up a network's labels, in place where the array allows it.

    Pieces that touch another label are given to it, other small ones removed, holes filled. The labels named "right lung"
    and "left lung" are also held against patient coordinates: two lungs under one name are told apart by position, and
    lungs on each other's side are swapped, with a finding.

    Parameters
    ----------
    labels : (z, y, x) uint8, standard view
    geometry : of ``labels``
    frames : whether each slice is an image of its own, so that nothing is connected across z
    names : label → name
    image : (z, y, x) HU on the same grid, or None. With it, free gas (stomach, bowel) is told from lung
    keep_largest : remove pieces that are small beside their label's largest and touch nothing
    fill_holes : fill background that a label encloses

    Returns
    -------
    the labels, and what was noticed
    """
    by_name = {name.lower(): label for label, name in names.items()}
    right, left = by_name.get("right lung", 0), by_name.get("left lung", 0)
    share = _keep_share(geometry, frames)
    rules = _Rules(geometry, right, left, share, keep_largest, fill_holes, image)
    labels = labels if labels.flags.writeable else labels.copy()
    findings: list[Finding] = []
    for start, stop in [(z, z + 1) for z in range(len(labels))] if frames else [(0, len(labels))]:
        where = f" in image {start + 1}" if frames and len(labels) > 1 else ""
        findings += _clean(labels[start:stop], start, rules, where)
    return labels, findings


def _keep_share(geometry: Geometry, frames: bool) -> float:
    if frames:
        return KEEP_SHARE_FRAME
    thin = geometry.shape[0] * geometry.spacing[0] <= THIN_STACK_MM or geometry.shape[0] == 1
    return KEEP_SHARE_SLICE if thin else KEEP_SHARE_STACK


def _clean(labels: np.ndarray, first: int, rules: _Rules, where: str) -> list[Finding]:
    """Apply the rules to slices that are connected, the first of which is slice ``first``. Changes ``labels``."""
    box = _box(labels)
    if box is None:
        return []
    start = np.array([first + box[0].start, box[1].start, box[2].start])
    pieces = find_pieces(labels[box], start, rules.geometry)
    found = _labelled(pieces)
    findings = _check_fragments(pieces, rules, where) + _check_sides(pieces, rules, where)
    _remove_gas(pieces, start, rules)
    removed = _settle(pieces, rules)
    if removed > MUCH * found:
        message = f"{removed / found:.0%} of what the model marked{where} was not connected to a lung and was removed."
        findings.append(Finding("much-removed", message))
    ids = pieces.ids[tuple(slice(m, size - m) for m, size in zip(pieces.margin, pieces.ids.shape, strict=True))]
    labels[box] = pieces.labels.astype(np.uint8)[ids]
    return findings


def _labelled(pieces: Pieces) -> int:
    return int(pieces.sizes[pieces.labels > 0].sum())


def _box(labels: np.ndarray) -> tuple[slice, slice, slice] | None:
    """Box of everything that is not background."""
    plane = np.bitwise_or.reduce(labels, axis=0)
    lines = [np.asarray(line) for line in (labels.any(axis=(1, 2)), plane.any(axis=1), plane.any(axis=0))]
    if not plane.any():
        return None
    z, y, x = (slice(int(line.argmax()), len(line) - int(line[::-1].argmax())) for line in lines)
    return z, y, x


def _check_fragments(pieces: Pieces, rules: _Rules, where: str) -> list[Finding]:
    """What came out in crumbs is told, whether or not they can be put together."""
    count = int(np.count_nonzero((pieces.labels > 0) & (pieces.sizes >= max(2.0, CRUMB_SHARE * _labelled(pieces)))))
    if count < MANY_PIECES or not (rules.right and rules.left):
        return []
    return [
        Finding(
            "many-fragments", f"What the model marked{where} came in {count} pieces, where two lungs were expected."
        )
    ]


def _check_sides(pieces: Pieces, rules: _Rules, where: str) -> list[Finding]:
    """Hold right and left against patient coordinates; renames pieces."""
    if not (rules.right and rules.left):
        return []
    return _tell_apart(pieces, rules, where) or _swap_back(pieces, rules, where)


def _tell_apart(pieces: Pieces, rules: _Rules, where: str) -> list[Finding]:
    """Two lungs under one name, one on each side of the image, get the names of their sides."""
    lungs = np.flatnonzero(np.isin(pieces.labels, (rules.right, rules.left)))
    big = lungs[pieces.sizes[lungs] >= COMPARABLE * pieces.sizes[lungs].max(initial=0)]
    if len(big) < 2 or len(set(pieces.labels[big])) > 1:
        return []
    middle = rules.geometry.position([(size - 1) / 2 for size in rules.geometry.shape])[2]
    on_left, on_right = pieces.reach[big, 0] > middle, pieces.reach[big, 1] < middle
    if not (on_left.any() and on_right.any() and (on_left | on_right).all()):
        return []
    pieces.labels[big] = np.where(on_left, rules.left, rules.right)
    return [
        Finding(
            "sides-by-position", f"Both lungs{where} came out under one name; they were told apart by their position."
        )
    ]


def _swap_back(pieces: Pieces, rules: _Rules, where: str) -> list[Finding]:
    """A right lung that lies wholly to the left of the left lung: the names are exchanged."""
    right, left = pieces.largest(rules.right), pieces.largest(rules.left)
    smaller = min(pieces.sizes[right], pieces.sizes[left]) if right and left else 0
    if smaller < COMPARABLE * max(pieces.sizes[right], pieces.sizes[left]) or smaller == 0:
        return []
    crossed = pieces.lateral[right] > pieces.lateral[left] and pieces.reach[right, 0] > pieces.lateral[left]
    if not crossed or pieces.reach[left, 1] > pieces.lateral[right]:
        return []
    names = np.arange(256)
    names[[rules.right, rules.left]] = rules.left, rules.right
    pieces.labels = names[pieces.labels]
    return [
        Finding(
            "sides-swapped",
            f"The model took the sides{where} for each other; right and left now follow the image's coordinates. "
            "Check that the image is not mirrored, and think of organs on the other side (situs inversus).",
        )
    ]


def _remove_gas(pieces: Pieces, start: np.ndarray, rules: _Rules) -> None:
    """Take free gas for background, where the image can tell."""
    if rules.image is None:
        return
    largest = LARGEST_GAS_ML * 1000 / rules.geometry.voxel_volume_mm3
    for piece in np.flatnonzero((pieces.labels > 0) & (pieces.sizes < largest)):
        box = tuple(slice(int(a), int(b)) for a, b in zip(pieces.low[piece], pieces.high[piece], strict=True))
        shifts = (start - pieces.margin).tolist()
        there = tuple(slice(a.start + shift, a.stop + shift) for a, shift in zip(box, shifts, strict=True))
        values = np.asarray(rules.image[there])[pieces.ids[box] == piece]
        if np.percentile(values, 75) < GAS_BELOW_HU:
            pieces.give(int(piece), OUTSIDE)


def _settle(pieces: Pieces, rules: _Rules) -> int:
    """Give every piece that cannot stay to a neighbour, small ones first, so that nested ones end in the right place.

    Returns
    -------
    voxels that became background
    """
    removed = 0
    mains = {int(label): pieces.largest(int(label)) for label in np.unique(pieces.labels) if label}
    for piece in np.argsort(pieces.sizes, kind="stable"):
        if piece <= OUTSIDE or pieces.sizes[piece] == 0 or piece in mains.values():
            continue
        label = int(pieces.labels[piece])
        if label == 0 and not rules.fill_holes:
            continue
        touched = pieces.contacts(int(piece))
        target = _target(pieces, int(piece), label, touched, mains, rules)
        if target:
            removed += int(pieces.sizes[piece]) if label and not pieces.labels[target] else 0
            pieces.give(int(piece), target)
    return removed


def _target(
    pieces: Pieces, piece: int, label: int, touched: dict[int, int], mains: dict[int, int], rules: _Rules
) -> int:
    """Id of the neighbour that a piece goes to, or 0 where it stays."""
    lungs = {other: faces for other, faces in touched.items() if pieces.labels[other]}
    nearest = max(lungs, key=lungs.__getitem__, default=0)
    covered = lungs.get(nearest, 0) / max(1, sum(touched.values()))
    if label == 0:  # a hole
        return nearest
    stays = pieces.sizes[piece] >= rules.keeps(label) * pieces.sizes[mains[label]]
    stays = (stays or not rules.keep_largest) and _on_own_side(pieces, piece, label, mains, rules)
    if nearest and (covered > WRAPPED or (covered > TOUCHING and not stays)):
        return nearest
    outside = {other: faces for other, faces in touched.items() if not pieces.labels[other]}
    return 0 if stays else max(outside, key=outside.__getitem__, default=nearest)


def _on_own_side(pieces: Pieces, piece: int, label: int, mains: dict[int, int], rules: _Rules) -> bool:
    """Whether a piece of a lung lies nearer to its own lung than to the other, across the body."""
    if label not in (rules.right, rules.left):
        return True
    other = mains.get(rules.left if label == rules.right else rules.right, 0)
    own = abs(pieces.lateral[piece] - pieces.lateral[mains[label]])
    return not other or bool(own < abs(pieces.lateral[piece] - pieces.lateral[other]))
