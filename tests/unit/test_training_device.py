"""Training on a device other than the CPU, without one: torch's meta device has shapes and refuses what is elsewhere."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from napari_lungseg.training.loop import mean_of_all
from napari_lungseg.training.losses import IGNORE
from napari_lungseg.training.validate import iter_validate

META = torch.device("meta")


@dataclass
class Elsewhere:
    """What of Fabric is used, with batches on a device that is not the CPU."""

    device: torch.device = META
    global_rank: int = 0
    world_size: int = 1
    reduced: list[torch.device] = field(default_factory=list)

    def setup_dataloaders(self, loader: DataLoader[Any], use_distributed_sampler: bool) -> list[Any]:
        return [tuple(part.to(self.device) for part in batch) for batch in loader]

    def autocast(self) -> Any:
        return nullcontext()

    def all_reduce(self, values: torch.Tensor, reduce_op: str) -> torch.Tensor:
        self.reduced.append(values.device)
        return torch.zeros_like(values, device="cpu")


class Three(Dataset[Any]):
    """Three slices of two cases."""

    cases = ("a", "b")

    def __len__(self) -> int:
        return 3

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        return torch.zeros(1, 16, 16), torch.zeros(16, 16, dtype=torch.uint8), number // 2


def test_validation_stays_on_its_device() -> None:
    network = nn.Conv2d(1, 3, 1, device=META)
    options: dict[str, Any] = {"labels_count": 2, "size": (8, 8), "batch_size": 2}
    fabric: Any = Elsewhere()
    slices: Any = Three()
    steps = list(iter_validate(fabric, network, slices, nn.CrossEntropyLoss(ignore_index=IGNORE), **options))
    assert [(step.done, step.total) for step in steps] == [(1, 2), (2, 2)]
    assert fabric.reduced == [META, META]


def test_the_mean_loss_is_exchanged_on_the_device() -> None:
    fabric: Any = Elsewhere()
    mean_of_all(fabric, 0.5)
    assert fabric.reduced == [META]
