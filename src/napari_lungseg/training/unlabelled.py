"""Learning from images without masks: a mean teacher labels them where it is sure (Tarvainen & Valpola 2017).

The teacher is the running mean of the weights (arXiv 1703.01780). It sees the image as it is; the network learns its
labels on the image changed at random (as in FixMatch, arXiv 2001.07685). Pixels of which the teacher is not sure stay
unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from .batches import Changes
from .losses import IGNORE

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SURE = 0.9
# The teacher is listened to more and more over this share of the run; it knows little at first.
_RAMP = 0.3
_WEIGHT = 0.5


class Teacher:
    """Labels unlabelled images for the network to learn.

    Parameters
    ----------
    fabric : the hardware
    loader : endless batches of unlabelled slices
    changes : of what the network sees
    size : of the network's input
    """

    def __init__(self, fabric: Fabric, loader: Any, changes: Changes, size: tuple[int, int]) -> None:
        self.fabric, self.loader, self.changes, self.size = fabric, loader, changes, size
        self._batches: Iterator[Any] = iter(())

    def begin_epoch(self) -> None:
        """Start the unlabelled images anew, so that a run that is gone on with sees what it would have seen."""
        self._batches = iter(self.loader)

    def _next(self) -> torch.Tensor:
        try:
            images, _, _ = next(self._batches)
        except StopIteration:
            self._batches = iter(self.loader)
            images, _, _ = next(self._batches)
        return torch.as_tensor(images).float()

    def label(self, network: nn.Module, images: torch.Tensor) -> torch.Tensor:
        """(n, channels, y, x) → (n, y, x) labels, `IGNORE` where the teacher is not sure."""
        with torch.no_grad(), self.fabric.autocast():
            small = functional.interpolate(images, size=self.size, mode="bilinear", antialias=True)
            scores = network(small.to(memory_format=torch.channels_last)).float()
        scores = functional.interpolate(scores, size=images.shape[-2:], mode="bilinear")
        chance, labels = scores.softmax(1).max(1)
        return torch.where(chance >= SURE, labels, IGNORE)

    def loss(
        self, student: Any, teacher: nn.Module, criterion: nn.Module, done: float, generator: torch.Generator
    ) -> torch.Tensor:
        """What the network has not yet taken over from its teacher.

        Parameters
        ----------
        student, teacher : the network that learns, and the mean of its weights
        criterion : loss
        done : share of the run that is done, 0…1
        generator : of the random changes
        """
        images = self._next()
        images, labels = self.changes.apply(images, self.label(teacher, images), generator)
        value: torch.Tensor = criterion(student(images.to(memory_format=torch.channels_last)), labels)
        return value * _WEIGHT * min(1.0, done / _RAMP)
