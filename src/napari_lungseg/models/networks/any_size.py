"""Images of any size for networks that halve them: extended before, cropped after."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def pad_to_multiple(images: torch.Tensor, multiple: int) -> torch.Tensor:
    """Repeat the last row and column until both sides of (n, channels, y, x) images are multiples of a number."""
    rows, columns = images.shape[-2:]
    below, right = -rows % multiple, -columns % multiple
    if not below and not right:
        return images
    return functional.pad(images, (0, right, 0, below), mode="replicate")


class AnySize(nn.Module):
    """Mixed in before a network's class, lets its `forward` take (n, channels, y, x) images of any size.

    The names of the network's parameters stay as they are. It needs ``multiple``: what both sides must be multiples of.
    """

    multiple: int

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores (n, classes, y, x) of the same y and x as the images'."""
        rows, columns = images.shape[-2:]
        scores: torch.Tensor = super().forward(pad_to_multiple(images, self.multiple))
        return scores[..., :rows, :columns]


def for_any_size(kind: type[nn.Module]) -> type[nn.Module]:
    """The same class of network, but for images of any size (see `AnySize`)."""
    return type(kind.__name__, (AnySize, kind), {})
