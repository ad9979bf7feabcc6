"""Losses that know how far each pixel lies from borders; the distances are computed on the CPU, from labels alone."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from .losses import IGNORE, DiceCrossEntropy, Loss, count_known, foreground


class Boundary(DiceCrossEntropy):
    """Dice and cross-entropy, plus the boundary loss (Kervadec et al. 2019, arXiv 1812.07032), for sharp edges.

    The boundary loss is the mean of chance × signed distance from the border, less the same of the labels, so that it is 0
    when perfect and never negative. Distances are in units of the image's diagonal.

    Parameters
    ----------
    weight : of the boundary loss
    smooth : as of `Dice`
    """

    def __init__(self, weight: float = 1.0, smooth: float = 1.0) -> None:
        super().__init__(smooth)
        self.weight = weight

    def compute(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """See `Loss`."""
        chances, truth = foreground(scores, labels)
        distances = torch.from_numpy(signed_distances(truth.cpu().numpy() > 0)).to(scores.device)
        beyond = ((chances - truth) * distances).sum() / (count_known(labels) * chances.shape[1])
        return super().compute(scores, labels) + self.weight * beyond


def signed_distances(masks: np.ndarray) -> np.ndarray:
    """Distance of every pixel from the border of a mask, negative inside, in units of the image's diagonal.

    Parameters
    ----------
    masks : (n, classes, y, x) bool

    Returns
    -------
    (n, classes, y, x) float32; 0 everywhere where a mask is empty or full, as it then has no border
    """
    from scipy.ndimage import distance_transform_edt

    distances = np.zeros(masks.shape, np.float32)
    for index in np.ndindex(masks.shape[:2]):
        mask = masks[index]
        if mask.any() and not mask.all():
            # The border runs between the pixels: half a pixel from the nearest on either side.
            outside, inside = distance_transform_edt(~mask), distance_transform_edt(mask)
            distances[index] = np.where(mask, 0.5 - inside, outside - 0.5)
    return distances / float(np.hypot(*masks.shape[2:]))


class BorderCrossEntropy(Loss):
    """Cross-entropy with weights for touching objects (Ronneberger et al. 2015, arXiv 1505.04597, equation 2).

    Each pixel weighs its class' balance plus ``border`` · exp(−(d₁ + d₂)² / 2·``sigma``²), d₁ and d₂ being the distances
    from the nearest and the second nearest object: a connected piece of one label. The mean is a weighted one.

    Parameters
    ----------
    border : w₀
    sigma : pixels
    balance : whether every class of a batch weighs the same in all
    """

    def __init__(self, border: float = 10.0, sigma: float = 5.0, balance: bool = True) -> None:
        super().__init__()
        self.border, self.sigma, self.balance = border, sigma, balance

    def compute(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """See `Loss`."""
        near = [border_nearness(image, self.sigma) for image in labels.cpu().numpy()]
        weights = self.border * torch.from_numpy(np.stack(near)).to(scores.device)
        weights = (weights + self._balance(labels, scores.shape[1])) * (labels != IGNORE)
        each = functional.cross_entropy(scores, labels, ignore_index=IGNORE, reduction="none")
        return (weights * each).sum() / weights.sum().clamp(min=1e-6)

    def _balance(self, labels: torch.Tensor, classes: int) -> torch.Tensor:
        """(n, y, x) weights with mean 1 over the known pixels."""
        if not self.balance:
            return torch.ones_like(labels, dtype=torch.float32)
        known = torch.where(labels == IGNORE, classes, labels)
        counts = known.new_zeros(classes + 1).scatter_add_(0, known.flatten(), torch.ones_like(known).flatten())
        there = (counts[:-1] > 0).sum()
        return (count_known(labels) / (there.clamp(min=1) * counts.clamp(min=1)))[known]


def border_nearness(labels: np.ndarray, sigma: float) -> np.ndarray:
    """exp(−(d₁ + d₂)² / 2σ²) of every pixel of (y, x) labels, float32; 0 where there are fewer than two objects.

    What lies more than 5σ from an object, where this is below 4e-6, may be 0.
    """
    from scipy.ndimage import distance_transform_edt, find_objects, label

    reach = int(np.ceil(5 * sigma))  # whole images would take seconds where there are hundreds of pieces
    nearest = np.full((2, *labels.shape), np.inf)
    for value in np.unique(labels[(labels != 0) & (labels != IGNORE)]):
        pieces, _ = label(labels == value, structure=np.ones((3, 3)))
        for piece, bounds in enumerate(find_objects(pieces), 1):
            box = tuple(slice(max(0, side.start - reach), side.stop + reach) for side in bounds)
            distance = distance_transform_edt(pieces[box] != piece)
            first, second = nearest[:, *box]
            second[...] = np.minimum(second, np.maximum(first, distance))
            first[...] = np.minimum(first, distance)
    nearness: np.ndarray = np.exp(-(nearest.sum(axis=0) ** 2) / (2 * sigma**2)).astype(np.float32)
    return nearness
