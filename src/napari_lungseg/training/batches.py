"""Which slices come when, and how a batch of them is changed at random."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import Sampler

from . import paste
from .augment import Augmentation, apply_grid, change_grey, draw_grid
from .draw import seeded
from .recipe import Recipe


class Order(Sampler[int]):
    """The order of slices in an epoch: shuffled, the same for a seed, shared out among processes.

    Parameters
    ----------
    sizes : slices of each data set; where there are several, an epoch shows as many of each
    seed : of the order
    rank, world : number of this process, and how many there are
    """

    def __init__(self, sizes: Sequence[int], seed: int, rank: int = 0, world: int = 1) -> None:
        self.sizes, self.seed, self.rank, self.world = tuple(sizes), seed, rank, world
        self.epoch = 0

    def __len__(self) -> int:
        return sum(self.sizes) // self.world

    def __iter__(self) -> Iterator[int]:
        generator = seeded(self.seed, self.epoch)
        share = -(-sum(self.sizes) // len(self.sizes))
        first, chosen = 0, []
        for size in self.sizes:
            rounds = [torch.randperm(size, generator=generator) for _ in range(-(-share // size))]
            chosen.append(torch.cat(rounds)[:share] + first)
            first += size
        order = torch.cat(chosen)
        order = order[torch.randperm(len(order), generator=generator)]
        yield from order[self.rank : len(self) * self.world : self.world].tolist()


class Changes:
    """Random changes of a batch, as a recipe wants them.

    Parameters
    ----------
    recipe : its ``augmentation`` and ``pasted``
    order : which class each class becomes in a mirrored image (`segmentation.predict.mirror_order`)
    """

    def __init__(self, recipe: Recipe, order: Sequence[int]) -> None:
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in recipe.augmentation.items()}
        self.how = replace(Augmentation(**values), size=recipe.preprocessing.size) if values else None
        self.pasted = [(paste.CHANGES.resolve(name), share) for name, share in recipe.pasted.items()]
        self.order = tuple(order)

    def apply(
        self, images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Change (n, channels, y, x) float32 images and (n, y, x) labels, on the device where they lie."""
        if self.how is None:
            return images, labels.long()
        images, labels = apply_grid(images, labels, *draw_grid(len(images), self.how, generator), self.order)
        for change, share in self.pasted:
            images = paste.paste_some(change, images, labels, generator, share)
        if self.how.border:
            images, labels = paste.paste_border(images, labels, generator, self.how.border)
        return change_grey(images, self.how, generator), labels
