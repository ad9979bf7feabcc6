"""What it costs to disagree with paint: scribbles, slices painted whole, and where what was known no longer holds."""

from __future__ import annotations

import torch
from torch.nn import functional

from .losses import IGNORE, Loss

# Around paint that contradicts the start, so many network pixels are free to follow the paint.
_CONTESTED = 12
# A slice of which so much is known was painted whole.
_WHOLE = 0.5
# There, how much of the loss is the plain mean over pixels.
_FREQUENCY = 0.8


class ScribbleCrossEntropy(Loss):
    """Cross-entropy in which every class that is painted counts the same, however much of it is.

    Strokes say little of how large a class is, so an overlap measure such as Dice would learn what they do not mean. A
    slice that is known all over does say it: there a pixel counts as much as a class, or a small one is found everywhere.
    """

    def compute(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """See `Loss`."""
        each = functional.cross_entropy(scores, labels, ignore_index=IGNORE, reduction="none")
        known = labels != IGNORE
        whole = (known.flatten(1).float().mean(1) > _WHOLE)[:, None, None] & known
        classes = [labels == label for label in range(scores.shape[1])]
        means = [each[pixels].mean() for pixels in classes if bool(pixels.any())]
        by_class = torch.stack([scores.sum() * 0, *means]).sum() / max(len(means), 1)
        if not bool(whole.any()):
            return by_class
        return torch.lerp(by_class, each[whole].mean(), _FREQUENCY * float(whole.sum() / known.sum()))


def contested(known: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(n, rows, columns) bool: pixels near paint that says something else than the start did."""
    wrong = (known.argmax(1) != labels) & (labels != IGNORE)
    size = 2 * _CONTESTED + 1
    return functional.max_pool2d(wrong.float()[:, None], size, stride=1, padding=_CONTESTED)[:, 0] > 0


def mean_where(values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Mean of the values where they count; 0 where none does."""
    return (values * where).sum() / where.sum().clamp(min=1)
