"""What training minimises: each loss takes scores (n, classes, y, x) and labels (n, y, x).

Scores are logits of a soft-max; class 0 is background. Labels are int64, and pixels labelled `IGNORE` count for nothing:
their gradient is exactly 0, and a batch of nothing else has loss 0. Sums over pixels run over the whole batch, so that
images without a class do not decide alone; losses per class are averaged over the foreground classes.

Losses are computed in float32 whatever the scores are. Most are a few lines of our own, because the libraries' leave a
class that a batch lacks unpunished, return no scalar where all is ignored, or take scores for independent sigmoids; tests
hold them to segmentation-models-pytorch and MONAI where these mean the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from ..registry import Table
from .unknown import IGNORE as IGNORE

LOSSES = Table(
    "loss",
    {
        "bce-log-dice": "napari_lungseg.training.losses:LogDice",
        "border-ce": "napari_lungseg.training.distance_losses:BorderCrossEntropy",
        "boundary": "napari_lungseg.training.distance_losses:Boundary",
        "dice": "napari_lungseg.training.losses:Dice",
        "dice-ce": "napari_lungseg.training.losses:DiceCrossEntropy",
        "focal": "napari_lungseg.training.losses:Focal",
        "lovasz": "napari_lungseg.training.losses:Lovasz",
        "tversky": "napari_lungseg.training.losses:Tversky",
    },
)
"""Name → `Loss`; the parameters of each have the defaults of its source."""


class Loss(nn.Module, ABC):
    """What all losses share: numbers in float32, and which pixels are known."""

    def forward(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Loss of a batch, a scalar.

        Parameters
        ----------
        scores : (n, classes, y, x) logits, of any floating-point type
        labels : (n, y, x) integers, `IGNORE` where unknown
        """
        with torch.autocast(scores.device.type, enabled=False):
            # A product with 0 would let infinities and NaN of unknown pixels through.
            scores = torch.where((labels != IGNORE)[:, None], scores.float(), 0.0)
            return self.compute(scores, labels.long())

    @abstractmethod
    def compute(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss itself: float32 scores, int64 labels."""


def cross_entropy(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the known pixels."""
    total = functional.cross_entropy(scores, labels, ignore_index=IGNORE, reduction="sum")
    return total / count_known(labels)


def count_known(labels: torch.Tensor) -> torch.Tensor:
    """How many pixels are known; 1 where none is, as a divisor."""
    return (labels != IGNORE).sum().clamp(min=1)


def one_hot(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """(n, classes - 1, y, x) float32: 1 where a pixel is of a foreground class; unknown pixels are of none."""
    known = torch.where(labels == IGNORE, 0, labels)
    return functional.one_hot(known, classes).movedim(-1, 1)[:, 1:].float()


def foreground(scores: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Chances of the foreground classes and what they should be, (n, classes - 1, y, x) each; 0 where unknown."""
    chances = scores.softmax(dim=1)[:, 1:] * (labels != IGNORE)[:, None]
    return chances, one_hot(labels, scores.shape[1])


def overlap(
    scores: torch.Tensor, labels: torch.Tensor, false_found: float, missed: float, smooth: float
) -> torch.Tensor:
    """Tversky index of each foreground class over a batch (Salehi et al. 2017, arXiv 1706.05721).

    Parameters
    ----------
    false_found, missed : weights of false positives and of false negatives; ½ and ½ give the soft Dice
    smooth : added above and below the fraction

    Returns
    -------
    (classes - 1,), 1 for perfect
    """
    chances, truth = foreground(scores, labels)
    both = (chances * truth).sum((0, 2, 3))
    extra = (chances * (1 - truth)).sum((0, 2, 3))
    lacking = truth.sum((0, 2, 3)) - both
    return (both + smooth) / (both + false_found * extra + missed * lacking + smooth)


class Dice(Loss):
    """1 − soft Dice (Milletari et al. 2016, arXiv 1606.04797).

    Parameters
    ----------
    smooth : added to numerator and denominator of 2·|A∩B| / (|A| + |B|)
    """

    def __init__(self, smooth: float = 1.0) -> None:
        super().__init__()
        self.smooth = smooth

    def score(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Soft Dice of each foreground class."""
        return overlap(scores, labels, 0.5, 0.5, self.smooth / 2)

    def compute(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """See `Loss`."""
        return (1 - self.score(scores, labels)).mean()


class DiceCrossEntropy(Dice):
    """1 − soft Dice, plus cross-entropy (Isensee et al. 2021, doi 10.1038/s41592-020-01008-z)."""

    def compute(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """See `Loss`."""
        return super().compute(scores, labels) + cross_entropy(scores, labels)


class LogDice(Dice):
    """Binary cross-entropy of each foreground class against all others, minus the logarithm of its soft Dice.

    With one foreground class the binary cross-entropy is the cross-entropy of the two.
    """

    def compute(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """See `Loss`."""
        logits, truth = against_all_others(scores), one_hot(labels, scores.shape[1])
        binary = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        known = (labels != IGNORE)[:, None]
        mean = (binary * known).sum() / (count_known(labels) * logits.shape[1])
        return mean - self.score(scores, labels).log().mean()


def against_all_others(scores: torch.Tensor) -> torch.Tensor:
    """Logits (n, classes - 1, y, x) of each foreground class against all other classes together."""
    classes = range(scores.shape[1])
    others = [scores[:, [other for other in classes if other != k]].logsumexp(dim=1) for k in classes[1:]]
    return scores[:, 1:] - torch.stack(others, dim=1)


class Tversky(Loss):
    """1 − Tversky index (Salehi et al. 2017, arXiv 1706.05721): missing tissue costs more than finding too much.

    Parameters
    ----------
    false_found, missed : weights of false positives and of false negatives
    smooth : as of `Dice`
    """

    def __init__(self, false_found: float = 0.3, missed: float = 0.7, smooth: float = 1.0) -> None:
        super().__init__()
        self.false_found, self.missed, self.smooth = false_found, missed, smooth

    def compute(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """See `Loss`."""
        return (1 - overlap(scores, labels, self.false_found, self.missed, self.smooth / 2)).mean()


class Focal(Loss):
    """Cross-entropy in which pixels that are right already count little (Lin et al. 2017, arXiv 1708.02002).

    Parameters
    ----------
    gamma : how little; 0 is the cross-entropy
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = gamma

    def compute(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """See `Loss`."""
        each = functional.cross_entropy(scores, labels, ignore_index=IGNORE, reduction="none")
        # 1 − p of the true class, from the logarithm of p; clamped, since a power below 1 has no slope at 0
        wrong = (-torch.expm1(-each)).clamp(min=1e-6)
        return (wrong**self.gamma * each).sum() / count_known(labels)


class Lovasz(Loss):
    """Lovász soft-max (Berman et al. 2018, arXiv 1705.08790): a surrogate of 1 − IoU, over the classes that are there."""

    def __init__(self) -> None:
        from segmentation_models_pytorch.losses import LovaszLoss

        super().__init__()
        self.loss = LovaszLoss("multiclass", ignore_index=IGNORE)

    def compute(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """See `Loss`."""
        if not (labels != IGNORE).any():  # for which the library's loss is no scalar
            return scores.sum() * 0
        value: torch.Tensor = self.loss(scores, labels)
        return value


class DeepSupervision(nn.Module):
    """A loss for networks that give auxiliary scores of smaller sizes as well (Lee et al. 2015, arXiv 1409.5185).

    Each counts half as much as the one before; the labels are thinned out to its size. Weights add up to 1.

    Parameters
    ----------
    loss : for each
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, scores: torch.Tensor | Sequence[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        """Loss of scores, or of a main one followed by auxiliary ones."""
        several = [scores] if isinstance(scores, torch.Tensor) else list(scores)
        weights = [0.5**level for level in range(len(several))]
        parts = [
            weight / sum(weights) * self.loss(part, thinned(labels, part.shape[-2:]))
            for weight, part in zip(weights, several, strict=True)
        ]
        return torch.stack(parts).sum()


def thinned(labels: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Labels (n, y, x) at another size, each the nearest one; none is mixed."""
    if tuple(labels.shape[-2:]) == tuple(size):
        return labels
    return functional.interpolate(labels[:, None].float(), size=tuple(size), mode="nearest-exact")[:, 0].long()
