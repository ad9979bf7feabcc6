"""A network that learns from paint: one step, its figures, and what it says of a slice."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..segmentation.across import slice_positions, weights_of
from ..segmentation.predict import mirror_order
from ..segmentation.random_walk import follow_edges
from .augment import apply_grid, change_grey, draw_grid
from .average import WeightAverage
from .draw import integer, seeded
from .examples import Examples, Place, spread
from .losses import IGNORE, DeepSupervision
from .neighbours import lent, sampled
from .paint_loss import HoldingOn, ScribbleCrossEntropy
from .painted import Strokes
from .rounds import PaintSettings, Preview
from .step_sizes import parameter_groups, suited_rate
from .transfer import Start

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_DECAY = 0.97
_CLIP = 2.0
_WARM_STEPS = 4
# After three times so many steps they are half as large: what is learned late is detail.
_SLOWER = 40
# … the later, the more slices are painted: so many make that twice as late.
_MORE = 4
# Unpainted pixels count as background the more surely, the more slices show a new class, up to so many times.
_SHOWN = 10.0
# Slices that keep what was known from being forgotten; of each, what the start said is held in memory.
_ELSEWHERE = 64
# So many painted slices make what was learned count as much as what was known.
_TRUST = 8
# So many painted slices say whether the mirrored image helps: more would take as long as a round.
_JUDGED = 16
# Chances of new classes are averaged across the slices of a stack by a Gaussian of this standard deviation …
_SMOOTH_MM = 4.0
# … as long as no class agrees so much less with its paint, on so many slices.
_LOST = 0.05
# … and follow the edges of the image as long as none agrees so much less.
_LOST_AT_EDGES = 0.02
_SMOOTHED = 4


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
        self.new = [label for label in start.spec.names if label not in start.shared]
        optimiser = torch.optim.AdamW(parameter_groups(start, new=bool(self.new)), lr=self.rate, weight_decay=1e-3)
        network = start.network.to(memory_format=torch.channels_last)
        self.network: Any
        self.network, self.optimiser = fabric.setup(network, optimiser)
        self.average = WeightAverage(self.network.module, _DECAY)
        self._origin = copy.deepcopy(self.average.network)
        self.mean = copy.deepcopy(self.average.network)
        self.criterion = DeepSupervision(ScribbleCrossEntropy())
        self._hold = HoldingOn(start.spec.classes, start.shared, self.new, settings.keep)
        self.generator = seeded(settings.seed, device=fabric.device)
        self.order = mirror_order(start.spec.names)
        self.steps = 0
        self.mirror = start.spec.mirror
        """Whether the model takes the mean with the mirrored image (`choose_view`)."""
        self.smooth_mm = start.spec.smooth_mm
        """How far chances are averaged over the slices of a stack (`choose_smoothing`)."""
        self.follow_edges = start.spec.follow_edges
        """Whether chances are spread over pixels that look alike (`choose_smoothing`)."""
        # For so many painted slices, after so many steps: it is slow, and done again when there are others or twice as many.
        self._smoothing_chosen = 0, 0
        self._known: dict[Place, torch.Tensor] = {}
        self._queue: list[Place] = []
        self._elsewhere = spread(examples.places)[:_ELSEWHERE]
        self.divide()

    # Paint

    def divide(self) -> None:
        """Look again at which paint is learned from and which is held out."""
        self.learned, self.held, self.squares = self.examples.divided()
        # What the start knows, strokes correct by a pixel or two along its outline: too fine to be lent.
        beside = lent(self.learned, self.examples) if self.new else {}
        self.taught = self.learned | {place: self._not_held(place, labels) for place, labels in beside.items()}
        self._queue = [place for place in self._queue if place in self.taught]
        seen = {int(label) for labels in self.examples.labels.values() for label in np.unique(labels.numpy())}
        self.painted = sorted(seen - {0, IGNORE})
        """Classes that are painted, held out or not."""

    def _not_held(self, place: Place, labels: torch.Tensor) -> torch.Tensor:
        held = self.held.get(place)
        return labels if held is None else torch.where(held == IGNORE, labels, IGNORE).to(torch.uint8)

    def take_up(self, strokes: Sequence[Strokes]) -> None:
        """Learn from new paint too; it comes first."""
        before = set(self.taught)
        for stroke in strokes:
            self.examples.take_up(stroke)
        self.divide()
        self._queue += [place for place in self.taught if place not in before]

    # Learning

    def step(self) -> float:
        """Learn from one batch; returns the loss."""
        places = self._next_places()
        images = torch.stack([self.examples.slice(place).image for place in places]).to(self.fabric.device)
        empty = torch.full(images.shape[-2:], IGNORE, dtype=torch.uint8)
        labels = torch.stack([self.taught.get(place, empty) for place in places]).to(self.fabric.device)
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

    def load_optimiser(self, saved: dict[str, Any]) -> None:
        """Go on with the momentum of a checkpoint; older ones had one group of weights, which may not fit."""
        if len(saved["param_groups"]) == len(self.optimiser.param_groups):
            self.optimiser.load_state_dict(saved)

    def _prepare_step(self) -> None:
        self.network.train()
        if not self.start.scratch:
            # A handful of slices of one patient would spoil the statistics of many.
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        for group in self.optimiser.param_groups:
            slower = _SLOWER * (1 + len(self.learned) / _MORE)
            warm, late = min(1.0, (self.steps + 1) / _WARM_STEPS), (1 + self.steps / slower) ** 0.5
            group["lr"] = self.rate * group.get("faster", 1.0) * warm / late

    def _next_places(self) -> list[Place]:
        """Painted slices in turn, shuffled; and others, so that what is known of them is not forgotten."""
        size = self.settings.batch_size
        others = size // 4 if self.taught else size  # all paint may have been undone
        chosen: list[Place] = []
        while len(chosen) < size - others:
            if not self._queue:
                places = sorted(self.taught)
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
        return self._hold(scores, known, labels, lean=self._lean)

    @property
    def _lean(self) -> float:
        """How strongly unpainted pixels count as background: more, the better what is new has been shown.

        As strong from the first stroke on, a new class is never found; as weak after thirty, it is found everywhere. A network
        from scratch has no outlines to hold on to yet: it would lose what is large, such as lungs.
        """
        if self.start.scratch:
            return self.settings.prior
        shown = sum(any(bool((labels == new).any()) for new in self.new) for labels in self.learned.values())
        return self.settings.prior * min(max(shown / 2, 1.0), _SHOWN)

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

    def choose_view(self) -> None:
        """Take the mean with the mirrored image where the paint agrees better with that, held out or not.

        What may lie on either side gains by it; what lies on one, such as the heart, loses. Only a network that was shown
        mirrored images can tell.
        """
        if self.start.augmentation.mirror <= 0 or not self.examples.labels:
            return
        judged = self._some_paint(_JUDGED)
        agreement = [sum(self._dices(self.mean, judged, mirror).values()) for mirror in (False, True)]
        self.mirror = agreement[1] > agreement[0]

    def _some_paint(self, slices: int) -> dict[Place, torch.Tensor]:
        return {place: self.examples.labels[place] for place in spread(sorted(self.examples.labels))[:slices]}

    def choose_smoothing(self) -> None:
        """Average new classes across slices, and let them follow edges, unless paint speaks against it.

        Thin things are lost by the first, what is no lighter or darker than what is beside it by the second. Painted slices are
        where the network learned what to say, so that averaging looks a little worse there than it is.
        """
        painted = len(self.examples.labels)
        seen, steps = self._smoothing_chosen
        if not self.new or not painted or not self.steps or (painted == seen and self.steps < 2 * steps):
            return
        self._smoothing_chosen = painted, self.steps
        judged = self._some_paint(_SMOOTHED)
        said = {place: self.averaged(place, 0.0) for place in judged}
        agreed, self.smooth_mm = self._agreement(judged, _best(said)), 0.0
        if not all(self.examples.painted[number].volume.is_frames for number, _ in judged):
            averaged = {place: self.averaged(place, _SMOOTH_MM) for place in judged}
            found = self._agreement(judged, _best(averaged))
            if not _lost(agreed, found, _LOST):
                said, agreed, self.smooth_mm = averaged, found, _SMOOTH_MM
        followed = {place: self._followed(place, chances) for place, chances in said.items()}
        self.follow_edges = not _lost(agreed, self._agreement(judged, _best(followed)), _LOST_AT_EDGES)

    def smoothed(self, place: Place) -> torch.Tensor:
        """(classes, rows, columns) chances of a slice, averaged with its neighbours', up to the edges that it shows."""
        chances = self.averaged(place, self.smooth_mm)
        return self._followed(place, chances) if self.follow_edges else chances

    def _followed(self, place: Place, chances: torch.Tensor) -> torch.Tensor:
        return follow_edges(chances[None], self.examples.slice(place).image[None])[0]

    @property
    def views(self) -> dict[str, Any]:
        """How the model looks at images: what `ModelSpec` calls by the same names."""
        return {"mirror": self.mirror, "smooth_mm": self.smooth_mm, "follow_edges": self.follow_edges}

    def averaged(self, place: Place, smooth_mm: float) -> torch.Tensor:
        """(classes, rows, columns) chances of a slice, averaged with those of its neighbours."""
        number, z = place
        volume = self.examples.painted[number].volume
        shares = weights_of(z, slice_positions(volume.geometry), 0.0 if volume.is_frames else smooth_mm)
        places = [(number, beside) for beside in shares]
        parts = [places[i : i + self.settings.batch_size] for i in range(0, len(places), self.settings.batch_size)]
        chances = torch.cat([self.chances(part, mirror=self.mirror) for part in parts]).cpu()
        outside = functional.one_hot(torch.tensor(0), chances.shape[1])[:, None, None]  # what a slice was not shown of
        mean = torch.zeros_like(chances[0])
        for beside, share, found in zip(places, shares.values(), chances, strict=True):
            of, at = self.examples.slice(beside), self.examples.slice(place)
            mean += share * (sampled(found - outside, of, at, self.examples) + outside)
        return mean

    def dices(self, network: nn.Module | None = None) -> dict[int, float]:
        """Label → Dice on the paint that is held out, of classes that are in it; on all paint where nothing is held out."""
        return self._dices(network, self.held or self.learned)

    def _dices(
        self, network: nn.Module | None, judged: dict[Place, torch.Tensor], mirror: bool = False
    ) -> dict[int, float]:
        places = sorted(judged)
        found: dict[Place, torch.Tensor] = {}
        for first in range(0, len(places), self.settings.batch_size):
            part = places[first : first + self.settings.batch_size]
            found |= dict(zip(part, self.chances(part, network, mirror).argmax(1).to(torch.uint8).cpu(), strict=True))
        return self._agreement(judged, found)

    def _agreement(self, judged: dict[Place, torch.Tensor], found: dict[Place, torch.Tensor]) -> dict[int, float]:
        """Label → Dice between paint and these (rows, columns) labels where it lies."""
        counts = torch.zeros(len(self.order), 3)
        for place, true in judged.items():
            said = found[place]
            for label in range(len(self.order)):
                one, other = (said == label) & (true != IGNORE), true == label
                counts[label] += torch.stack([(one & other).sum(), one.sum(), other.sum()])
        return {label: 2 * both / (said + true) for label, (both, said, true) in enumerate(counts.tolist()) if true > 0}

    def error_of(self, dice: float) -> float:
        """Standard error of a Dice on the paint that is held out, whose squares count as one draw each."""
        return max(0.005, float(np.sqrt(dice * (1 - dice) / max(self.squares, 1))))

    def preview(self, place: Place) -> tuple[Preview, float]:
        """Labels and uncertainty of a slice, and what painting it is expected to teach."""
        chances = self.smoothed(place)
        uncertain = self.doubt(chances)
        labels = self.examples.to_labels(chances.log(), place)
        shown = self.examples.to_slice(uncertain, place)
        return Preview(*place, labels, (shown * 255).round().astype(np.uint8)), self.gain(place, uncertain)

    def uncertainty(self, places: Sequence[Place]) -> list[torch.Tensor]:
        """(rows, columns) per slice, 0…1."""
        return [self.doubt(chances) for chances in self.chances(places, mirror=self.mirror).cpu()]

    def doubt(self, chances: torch.Tensor) -> torch.Tensor:
        """(classes, rows, columns) chances → (rows, columns) 0…1: how unsure it is where the painted classes lie.

        What is not painted counts as one with the background: whether bowel may be lung helps nobody who paints a heart.
        """
        others = [label for label in range(len(chances)) if label not in self.painted]
        if self.painted and len(others) > 1:
            chances = torch.cat([chances[others].sum(0, keepdim=True), chances[self.painted]])
        return entropy(chances)

    def gain(self, place: Place, uncertain: torch.Tensor) -> float:
        """Uncertain pixels of a slice that nothing is known of."""
        labels = self.examples.labels.get(place)
        return float(uncertain.sum() if labels is None else uncertain[labels == IGNORE].sum())


def _best(chances: Mapping[Place, torch.Tensor]) -> dict[Place, torch.Tensor]:
    return {place: of_slice.argmax(0) for place, of_slice in chances.items()}


def _lost(before: Mapping[int, float], after: Mapping[int, float], tolerated: float) -> bool:
    """Whether a class agrees so much less with its paint than before."""
    return any(before[label] - after[label] >= tolerated for label in before)


def entropy(chances: torch.Tensor) -> torch.Tensor:
    """(classes, rows, columns) chances → (rows, columns) 0…1, their entropy as a share of the largest; 1 where they are NaN."""
    shares = torch.special.entr(chances).sum(0) / np.log(len(chances))
    return torch.nan_to_num(shares, nan=1.0)


def _main(scores: Any) -> torch.Tensor:
    main: torch.Tensor = scores if isinstance(scores, torch.Tensor) else scores[0]
    return main
