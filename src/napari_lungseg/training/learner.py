"""A network that learns from paint: one step, its figures, and what it says of a slice."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..segmentation.predict import mirror_order
from .augment import apply_grid, change_grey, draw_grid
from .average import WeightAverage
from .draw import integer, seeded
from .examples import Examples, Place, spread
from .losses import IGNORE, DeepSupervision, Loss
from .painted import Strokes
from .rounds import PaintSettings, Preview
from .transfer import Start

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_DECAY = 0.97
_CLIP = 2.0
_WARM_STEPS = 4
# After three times so many steps they are half as large: what is learned late is detail.
_SLOWER = 40
# Largest step size by what the network knows already: all of the classes, none or some of them, nothing at all.
_RATES = (1e-4, 5e-4, 2e-3)
# Slices that keep what was known from being forgotten; of each, what the start said is held in memory.
_ELSEWHERE = 64
# Around paint that contradicts the start, so many network pixels are free to follow the paint.
_CONTESTED = 12
# So many painted slices make what was learned count as much as what was known.
_TRUST = 8
# A slice of which so much is known was painted whole.
_WHOLE = 0.5
# There, how much of the loss is the plain mean over pixels.
_FREQUENCY = 0.8
# So many painted slices say whether the mirrored image helps: more would take as long as a round.
_JUDGED = 16
# A pixel whose new class the network is this sure of is no longer pulled to the background.
_SURE = 0.7


class Learner:
    """Network, optimiser and examples of one training on paint.

    Parameters
    ----------
    fabric : the hardware
    start : the network, and what it knows
    examples : images and paint
    settings : see `PaintSettings`
    """

    def __init__(self, fabric: Fabric, start: Start, examples: Examples, settings: PaintSettings) -> None:
        self.fabric, self.start, self.examples, self.settings = fabric, start, examples, settings
        self.rate = settings.learning_rate or suited_rate(start)
        optimiser = torch.optim.AdamW(start.network.parameters(), lr=self.rate, weight_decay=1e-3)
        network = start.network.to(memory_format=torch.channels_last)
        self.network: Any
        self.network, self.optimiser = fabric.setup(network, optimiser)
        self.average = WeightAverage(self.network.module, _DECAY)
        self._origin = copy.deepcopy(self.average.network)
        self.mean = copy.deepcopy(self.average.network)
        self.criterion = DeepSupervision(ScribbleCrossEntropy())
        self.new = [label for label in start.spec.names if label not in start.shared]
        self.generator = seeded(settings.seed, device=fabric.device)
        self.order = mirror_order(start.spec.names)
        self.steps = 0
        self.mirror = start.spec.mirror
        """Whether the model takes the mean with the mirrored image (`choose_view`)."""
        self._known: dict[Place, torch.Tensor] = {}
        self._queue: list[Place] = []
        self._elsewhere = spread(examples.places)[:_ELSEWHERE]
        self.divide()

    # Paint

    def divide(self) -> None:
        """Look again at which paint is learned from and which is held out."""
        self.learned, self.held, self.squares = self.examples.divided()
        self._queue = [place for place in self._queue if place in self.learned]

    def take_up(self, strokes: Sequence[Strokes]) -> None:
        """Learn from new paint too; it comes first."""
        before = set(self.learned)
        for stroke in strokes:
            self.examples.take_up(stroke)
        self.divide()
        self._queue += [place for place in self.learned if place not in before]

    # Learning

    def step(self) -> float:
        """Learn from one batch; returns the loss."""
        places = self._next_places()
        images = torch.stack([self.examples.slice(place).image for place in places]).to(self.fabric.device)
        empty = torch.full(images.shape[-2:], IGNORE, dtype=torch.uint8)
        labels = torch.stack([self.learned.get(place, empty) for place in places]).to(self.fabric.device)
        known = torch.stack([self.known(place) for place in places]).float() if self._holds_on else None
        if self.settings.augment:
            images, labels, known = self._changed(images, labels, known)
        self._prepare_step()
        scores = self.network(images.to(memory_format=torch.channels_last))
        loss = self.criterion(scores, labels.long()) + self._held_on(_main(scores).float(), known, labels)
        self.fabric.backward(loss)
        self.fabric.clip_gradients(self.network, self.optimiser, max_norm=_CLIP, error_if_nonfinite=False)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.average.update(self.network.module)
        self.steps += 1
        value = float(loss.item())
        if not np.isfinite(value):
            self._step_back()
        return value

    def _step_back(self) -> None:
        """Go on from the last good weights with smaller steps, after steps too large led nowhere."""
        self.rate /= 4
        self.network.module.load_state_dict(self.mean.state_dict())
        self.average.network.load_state_dict(self.mean.state_dict())
        self.optimiser.state.clear()

    def _prepare_step(self) -> None:
        self.network.train()
        if not self.start.scratch:
            # A handful of slices of one patient would spoil the statistics of many.
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * min(1.0, (self.steps + 1) / _WARM_STEPS) / (1 + self.steps / _SLOWER) ** 0.5

    def _next_places(self) -> list[Place]:
        """Painted slices in turn, shuffled; and others, so that what is known of them is not forgotten."""
        size = self.settings.batch_size
        others = size // 4 if self.learned else size  # all paint may have been undone
        chosen: list[Place] = []
        while len(chosen) < size - others:
            if not self._queue:
                places = sorted(self.learned)
                shuffled = torch.randperm(len(places), generator=self.generator, device=self.generator.device)
                self._queue = [places[i] for i in shuffled.tolist()]
            chosen.append(self._queue.pop())
        return chosen + [self._elsewhere[integer(0, len(self._elsewhere), self.generator)] for _ in range(others)]

    def _changed(
        self, images: torch.Tensor, labels: torch.Tensor, known: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        how = self.start.augmentation
        grid, mirrored = draw_grid(len(images), how, self.generator)
        images, labels = apply_grid(images, labels, grid, mirrored, self.order, outside=IGNORE)
        if known is not None:
            known = functional.grid_sample(known, grid, padding_mode="zeros", align_corners=False)
            known = torch.where(mirrored[:, None, None, None], known[:, self.order], known)
        return change_grey(images, how, self.generator), labels, known

    # Holding on

    @property
    def _holds_on(self) -> bool:
        return bool(self.settings.keep and self.start.shared)

    def known(self, place: Place) -> torch.Tensor:
        """(classes, rows, columns): chances that the start gave, all that it cannot tell apart with the background."""
        if place not in self._known:
            self._known[place] = self.chances([place], self._origin)[0].half()
        return self._known[place]

    def _held_on(self, scores: torch.Tensor, known: torch.Tensor | None, labels: torch.Tensor) -> torch.Tensor:
        """What it costs to say of unpainted pixels something else than was known of them before."""
        logs, free = scores.log_softmax(1), labels == IGNORE
        cost = logs.new_zeros(())
        if known is not None:
            free = free & (known.sum(1) > 0.5)  # beyond the image's edge nothing is known
            cost = cost + self.settings.keep * self._kept(logs, known, free & ~_contested(known, labels))
            free = free & (known[:, self._others].sum(1) > 0.5)
        if self.new and self.settings.prior:
            free = free & (logs.detach()[:, self.new].logsumexp(1).exp() < _SURE)
            cost = cost - self.settings.prior * _mean(logs[:, 0], free)
        return cost

    @property
    def _others(self) -> list[int]:
        """Classes that the start does not tell from the background, and the background."""
        return [label for label in range(len(self.order)) if label not in self.start.shared]

    def _kept(self, logs: torch.Tensor, known: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
        """Cross-entropy with what the start said, classes new to it counted as background (arXiv 2002.03718)."""
        shared = sorted(self.start.shared)
        grouped = torch.cat([logs[:, self._others].logsumexp(1, keepdim=True), logs[:, shared]], 1)
        wanted = torch.cat([known[:, self._others].sum(1, keepdim=True), known[:, shared]], 1)
        return _mean(-(wanted * grouped).sum(1), where)

    # Judging

    @torch.no_grad()
    def settle(self) -> None:
        """Make ``mean``, what is shown and kept: the running mean, and of an adapted network also where it began.

        Between the two lie weights that do better on what was not painted than either (arXiv 2109.01903). The more
        slices are painted, the less the beginning counts.
        """
        if not all(bool(tensor.isfinite().all()) for tensor in self.average.network.state_dict().values()):
            self._step_back()
        share = 1.0 if self.new else max(0.5, len(self.learned) / (len(self.learned) + _TRUST))
        origin, average = self._origin.state_dict(), self.average.network.state_dict()
        for name, tensor in self.mean.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.lerp(origin[name], average[name], share))
            else:
                tensor.copy_(average[name])

    @torch.inference_mode()
    def chances(self, places: Sequence[Place], network: nn.Module | None = None, mirror: bool = False) -> torch.Tensor:
        """(n, classes, rows, columns) chances; with ``mirror`` the mean over the image and its mirror image."""
        network = network or self.mean
        images = torch.stack([self.examples.slice(place).image for place in places]).to(self.fabric.device)
        images = images.to(memory_format=torch.channels_last)
        network.eval()
        with self.fabric.autocast():
            scores = _main(network(images)).float().softmax(1)
            if mirror:
                scores = (scores + _main(network(images.flip(-1))).float().softmax(1).flip(-1)[:, self.order]) / 2
        return scores

    @property
    def pixels(self) -> int:
        """Known pixels that are learned from, at the network's size."""
        return sum(int((labels != IGNORE).sum()) for labels in self.learned.values())

    def dice(self, network: nn.Module | None = None) -> float | None:
        """Mean of `dices`; None where nothing is painted."""
        found = self.dices(network)
        return sum(found.values()) / len(found) if found else None

    def choose_view(self) -> None:
        """Take the mean with the mirrored image where the paint agrees better with that, held out or not.

        What may lie on either side gains by it; what lies on one, such as the heart, loses. Only a network that was shown
        mirrored images can tell.
        """
        if self.start.augmentation.mirror <= 0 or not self.examples.labels:
            return
        judged = {place: self.examples.labels[place] for place in spread(sorted(self.examples.labels))[:_JUDGED]}
        agreement = [sum(self._dices(self.mean, judged, mirror).values()) for mirror in (False, True)]
        self.mirror = agreement[1] > agreement[0]

    def dices(self, network: nn.Module | None = None) -> dict[int, float]:
        """Label → Dice on the paint that is held out, of classes that are in it; on all paint where nothing is held out."""
        return self._dices(network, self.held or self.learned)

    def _dices(
        self, network: nn.Module | None, judged: dict[Place, torch.Tensor], mirror: bool = False
    ) -> dict[int, float]:
        counts = torch.zeros(len(self.order), 3)
        places = sorted(judged)
        for first in range(0, len(places), self.settings.batch_size):
            part = places[first : first + self.settings.batch_size]
            said = self.chances(part, network, mirror).argmax(1).cpu()
            for label in range(len(self.order)):
                true = torch.stack([judged[place] for place in part])
                one, other = (said == label) & (true != IGNORE), true == label
                counts[label] += torch.stack([(one & other).sum(), one.sum(), other.sum()])
        return {label: 2 * both / (said + true) for label, (both, said, true) in enumerate(counts.tolist()) if true > 0}

    def error_of(self, dice: float) -> float:
        """Standard error of a Dice on the paint that is held out, whose squares count as one draw each."""
        return max(0.005, float(np.sqrt(dice * (1 - dice) / max(self.squares, 1))))

    def preview(self, place: Place) -> tuple[Preview, float]:
        """Labels and uncertainty of a slice, and what painting it is expected to teach."""
        chances = self.chances([place], mirror=self.mirror)[0].cpu()
        uncertain = entropy(chances)
        labels = self.examples.to_labels(chances.log(), place)
        shown = self.examples.to_slice(uncertain, place)
        return Preview(*place, labels, (shown * 255).round().astype(np.uint8)), self.gain(place, uncertain)

    def uncertainty(self, places: Sequence[Place]) -> list[torch.Tensor]:
        """(rows, columns) per slice, 0…1."""
        return [entropy(chances) for chances in self.chances(places, mirror=self.mirror).cpu()]

    def gain(self, place: Place, uncertain: torch.Tensor) -> float:
        """Uncertain pixels of a slice that nothing is known of."""
        labels = self.examples.labels.get(place)
        return float(uncertain.sum() if labels is None else uncertain[labels == IGNORE].sum())


def entropy(chances: torch.Tensor) -> torch.Tensor:
    """(classes, rows, columns) chances → (rows, columns) 0…1, their entropy as a share of the largest."""
    shares: torch.Tensor = torch.special.entr(chances).sum(0) / np.log(len(chances))
    return shares


def _main(scores: Any) -> torch.Tensor:
    main: torch.Tensor = scores if isinstance(scores, torch.Tensor) else scores[0]
    return main


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


def suited_rate(start: Start) -> float:
    """Largest step size for a network that knows all, some or none of the classes."""
    if start.scratch:
        return _RATES[2]
    return _RATES[0] if set(start.spec.names) == start.shared else _RATES[1]


def _contested(known: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(n, rows, columns) bool: pixels near paint that says something else than the start did."""
    wrong = (known.argmax(1) != labels) & (labels != IGNORE)
    size = 2 * _CONTESTED + 1
    return functional.max_pool2d(wrong.float()[:, None], size, stride=1, padding=_CONTESTED)[:, 0] > 0


def _mean(values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    return (values * where).sum() / where.sum().clamp(min=1)
