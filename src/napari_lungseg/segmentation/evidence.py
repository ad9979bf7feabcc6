"""What a network gives away about its own labels while it makes them.

Its soft-max says how torn it was; the same picture seen a little differently (mirrored, darker, lighter, turned) says how
much its labels hang on accidents. Both are kept as sums per slice, so that nothing of the size of a scan is held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

# What each view is called among a result's statistics.
VIEWS = ("mirrored", "darker", "lighter", "turned")
_GAMMA = {"darker": 1.5, "lighter": 0.67}
# Turned by eight degrees and shrunk by as much as keeps every corner in the picture.
_TURN, _SHRINK = np.deg2rad(8.0), 1.14
# Slices of a stack that are looked at again, evenly spread; each costs a pass through the network per view.
_LOOKED_AT = 6


@dataclass(frozen=True)
class Evidence:
    """Sums per slice.

    Parameters
    ----------
    sums : (z, classes, 3) of p·y, p and y: p is the soft-max of a class, y where that class is the best one. Twice the
        first over the other two is the Dice that the network itself expects
    pixels : (z, classes) with each label on the image's grid, before anything is tidied up
    agreement : (z, views, 2) twice the pixels with the same label in both views, and the labelled pixels of both; NaN for
        slices that were not looked at again
    """

    sums: np.ndarray
    pixels: np.ndarray
    agreement: np.ndarray

    @classmethod
    def empty(cls, slices: int, classes: int) -> Evidence:
        """To be filled, slice by slice."""
        return cls(
            np.zeros((slices, classes, 3), np.float32),
            np.zeros((slices, classes), np.int64),
            np.full((slices, len(VIEWS), 2), np.nan, np.float32),
        )

    def __getitem__(self, part: slice) -> Evidence:
        return Evidence(self.sums[part], self.pixels[part], self.agreement[part])


def looked_at(slices: int, *, each: bool) -> np.ndarray:
    """(z,) bool: which slices are looked at again; ``each`` where every slice is judged alone."""
    chosen = np.zeros(slices, bool)
    count = slices if each else min(slices, _LOOKED_AT)
    chosen[((np.arange(count) + 0.5) * slices / count).astype(int)] = True
    return chosen


def counts_of(labels: np.ndarray, classes: int) -> np.ndarray:
    """(classes,) pixels with each label; comparing class by class is quicker than counting bytes."""
    return np.array([np.count_nonzero(labels == number) for number in range(classes)])


def sums_of(scores: torch.Tensor) -> torch.Tensor:
    """(n, classes, 3) from class scores (n, classes, rows, columns); see `Evidence`."""
    import torch

    from .preprocess import best_class

    chance, best = scores.softmax(dim=1), best_class(scores)
    sums = []
    for number in range(scores.shape[1]):
        p, y = chance[:, number], (best == number).float()
        sums.append(torch.stack([(p * y).sum((1, 2)), p.sum((1, 2)), y.sum((1, 2))], dim=-1))
    return torch.stack(sums, dim=1)


def agreement_of(
    score: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, scores: torch.Tensor, mirrored: Sequence[int]
) -> torch.Tensor:
    """Compare labels with those of the same images seen differently.

    Parameters
    ----------
    score : the network, (n, channels, rows, columns) 0…1 → (n, classes, rows, columns)
    images, scores : what it was given and what it said
    mirrored : which class each class becomes in a mirrored image

    Returns
    -------
    (n, views, 2); see `Evidence`
    """
    import torch

    from .preprocess import best_class

    found = []
    for image, best in zip(torch.split(images, 1), torch.split(best_class(scores), 1), strict=True):
        labels = best_class(_undone(score(_views(image)), mirrored))
        same = ((labels == best) & (best > 0)).sum((1, 2))
        found.append(torch.stack([2 * same, (labels > 0).sum((1, 2)) + (best > 0).sum()], dim=-1))
    return torch.stack(found).float()


def _views(image: torch.Tensor) -> torch.Tensor:
    """One image in every view, for one pass through the network: (1, channels, rows, columns) → (views, …)."""
    import torch

    views = {"mirrored": image.flip(-1), "turned": _turned(image, 1)}
    views |= {name: image**gamma for name, gamma in _GAMMA.items()}
    return torch.cat([views[name] for name in VIEWS]).contiguous(memory_format=torch.channels_last)


def _undone(scores: torch.Tensor, mirrored: Sequence[int]) -> torch.Tensor:
    """Scores of every view as they lie on the image itself."""
    import torch

    parts = dict(zip(VIEWS, torch.split(scores, 1), strict=True))
    parts["mirrored"] = parts["mirrored"].flip(-1)[:, list(mirrored)]
    parts["turned"] = _turned(parts["turned"], -1)
    return torch.cat([parts[name] for name in VIEWS])


def _turned(images: torch.Tensor, sense: int) -> torch.Tensor:
    """Images turned and shrunk (``sense`` 1) or put back (-1)."""
    import torch
    from torch.nn import functional

    cosine, sine, scale = np.cos(_TURN), sense * np.sin(_TURN), _SHRINK**sense
    matrix = torch.tensor([[cosine, -sine, 0], [sine, cosine, 0]], dtype=images.dtype, device=images.device) * scale
    grid = functional.affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def doubt_of(scores: torch.Tensor) -> torch.Tensor:
    """Entropy of the soft-max, per cent of the largest there can be: (n, classes, rows, columns) → (n, rows, columns)."""
    logarithms = scores.log_softmax(dim=1)
    entropy = -(logarithms.exp() * logarithms).sum(dim=1)
    return entropy * (100 / float(np.log(scores.shape[1])))
