"""How good the weights are just now: Dice and IoU per validation case, at the network's size."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Subset

from ..progress import Progress
from .losses import IGNORE
from .prepared import Slices

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# More slices at once make blocks too large for the C library to keep for the next batch, which takes a third longer.
_CPU_BATCH = 8


@dataclass(frozen=True)
class Score:
    """Means over cases and labels.

    Parameters
    ----------
    loss : mean over slices
    dice, iou : 1 where a label is in neither prediction nor reference
    per_case : Dice of each case, mean over its labels
    """

    loss: float
    dice: float
    iou: float
    per_case: tuple[float, ...]


def iter_validate(
    fabric: Fabric,
    network: nn.Module,
    slices: Slices,
    criterion: nn.Module,
    *,
    labels_count: int,
    size: tuple[int, int],
    batch_size: int,
) -> Generator[Progress, None, Score]:
    """Compare a network's labels with the reference, each process its share of the slices.

    Parameters
    ----------
    fabric : the hardware
    network : left in evaluation mode
    slices : of the validation cases
    criterion : loss
    labels_count : labels that the network knows, background left out
    size : of the network's input; slices kept finer than that are reduced for it, and its scores enlarged again
    batch_size : slices at once; fewer on a CPU

    Yields
    ------
    Progress after every batch
    """
    if fabric.device.type == "cpu":
        batch_size = min(batch_size, _CPU_BATCH)
    mine = Subset(slices, range(fabric.global_rank, len(slices), fabric.world_size))
    loader: Any = fabric.setup_dataloaders(DataLoader(mine, batch_size), use_distributed_sampler=False)
    network.eval()
    counts = torch.zeros(len(slices.cases), labels_count, 3, device=fabric.device)
    losses = torch.zeros(2, device=fabric.device)  # sum, slices
    for number, (images, labels, cases) in enumerate(loader, 1):
        with torch.inference_mode():
            scores = _scores(fabric, network, images.float(), size, labels.shape[-2:])
            losses[0] += criterion(scores, labels.long()) * len(images)
            losses[1] += len(images)
            counts.index_add_(0, cases.to(counts.device), _overlaps(scores.argmax(1), labels, scores.shape[1]))
        yield Progress(number, len(loader), "validating")
    return _score(_summed(fabric, counts).cpu(), _summed(fabric, losses))


def _summed(fabric: Fabric, values: torch.Tensor) -> torch.Tensor:
    """Sum over all processes."""
    summed: Any = fabric.all_reduce(values, reduce_op="sum")
    return torch.as_tensor(summed)


def _scores(
    fabric: Fabric, network: nn.Module, images: torch.Tensor, size: tuple[int, int], shape: torch.Size
) -> torch.Tensor:
    if images.shape[-2:] != size:
        images = functional.interpolate(images, size=size, mode="bilinear", antialias=True)
    with fabric.autocast():
        scores: torch.Tensor = network(images.to(memory_format=torch.channels_last)).float()
    return scores if scores.shape[-2:] == shape else functional.interpolate(scores, size=shape, mode="bilinear")


def _overlaps(found: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
    """(n, labels, 3): per slice and label the common, the found and the true pixels, unknown ones left out."""
    known = labels != IGNORE
    sums = []
    for label in range(1, classes):
        one, other = (found == label) & known, labels == label
        sums.append(torch.stack([(one & other).sum((1, 2)), one.sum((1, 2)), other.sum((1, 2))], -1))
    return torch.stack(sums, 1).float()


def _score(counts: torch.Tensor, losses: torch.Tensor) -> Score:
    common, found, true = counts.double().unbind(-1)  # on the CPU: Apple's GPUs know no double precision
    both = found + true
    dice = torch.where(both > 0, 2 * common / both.clamp(min=1), 1.0)
    iou = torch.where(both > 0, common / (both - common).clamp(min=1), 1.0)
    loss = float(losses[0] / losses[1])
    return Score(loss, float(dice.mean()), float(iou.mean()), tuple(dice.mean(1).tolist()))
