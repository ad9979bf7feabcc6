"""What it costs to disagree with paint: scribbles, slices painted whole, and where what was known no longer holds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from .losses import IGNORE, Loss

# Around paint that contradicts the start, so many network pixels are free to follow the paint.
_CONTESTED = 12
# A pixel whose new class the network is this sure of is no longer pulled to the background.
_SURE = 0.7
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


class HoldingOn:
    """What it costs to say of unpainted pixels something else than the start said of them.

    Parameters
    ----------
    classes : of the network, background included
    shared : classes that the start knows
    new : classes that it does not know
    keep : how much holding on counts
    """

    def __init__(self, classes: int, shared: frozenset[int], new: Sequence[int], keep: float) -> None:
        self._shared, self._new, self._keep = sorted(shared), list(new), keep
        self._others = [label for label in range(classes) if label not in shared]
        """Classes that the start does not tell from the background, and the background."""

    def __call__(
        self, scores: torch.Tensor, known: torch.Tensor | None, labels: torch.Tensor, *, lean: float
    ) -> torch.Tensor:
        """The cost.

        Parameters
        ----------
        scores : (n, classes, rows, columns)
        known : chances that the start gave, of the same shape; None where it knows none of the classes
        labels : (n, rows, columns), `IGNORE` where nothing is painted
        lean : how strongly pixels count as background where a new class is neither painted nor found
        """
        logs, free = scores.log_softmax(1), labels == IGNORE
        cost = logs.new_zeros(())
        if known is not None:
            free = free & (known.sum(1) > 0.5)  # beyond the image's edge nothing is known
            cost = cost + self._keep * self._kept(logs, known, free & ~contested(known, labels))
            free = free & (known[:, self._others].sum(1) > 0.5)
        if self._new and lean:
            free = free & (logs.detach()[:, self._new].logsumexp(1).exp() < _SURE)
            cost = cost - lean * mean_where(logs[:, 0], free)
        return cost

    def _kept(self, logs: torch.Tensor, known: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """Cross-entropy with what the start said, classes new to it counted as background (arXiv 2002.03718)."""
        grouped = torch.cat([logs[:, self._others].logsumexp(1, keepdim=True), logs[:, self._shared]], 1)
        wanted = torch.cat([known[:, self._others].sum(1, keepdim=True), known[:, self._shared]], 1)
        return mean_where(-(wanted * grouped).sum(1), where)


def contested(known: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(n, rows, columns) bool: pixels near paint that says something else than the start did."""
    wrong = (known.argmax(1) != labels) & (labels != IGNORE)
    size = 2 * _CONTESTED + 1
    return functional.max_pool2d(wrong.float()[:, None], size, stride=1, padding=_CONTESTED)[:, 0] > 0


def mean_where(values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Mean of the values where they count; 0 where none does."""
    return (values * where).sum() / where.sum().clamp(min=1)
