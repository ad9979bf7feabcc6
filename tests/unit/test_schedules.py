"""Schedules: the step sizes they give, and that an interrupted one goes on with the same."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import pytest
import torch

from napari_lungseg.errors import UnknownNameError
from napari_lungseg.training.average import WeightAverage
from napari_lungseg.training.schedules import OPTIMISERS, SCHEDULES, Schedule, build_optimiser

EPOCHS, STEPS, RATE = 6, 4, 0.1
OPTIONS: dict[str, dict[str, Any]] = {"cosine-restarts": {"cycle": 2}, "plateau": {"patience": 1}}
METRICS = [0.5, 0.6, 0.55, 0.58, 0.59, 0.57]


class Training:
    """An optimiser, its schedule, and one weight."""

    def __init__(self, schedule: str, optimiser: str = "adamw", **options: Any) -> None:
        torch.manual_seed(0)
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.optimiser = build_optimiser(optimiser, [self.weight], RATE, 0.01)
        build = SCHEDULES.resolve(schedule)
        self.schedule: Schedule = build(
            self.optimiser, epochs=EPOCHS, steps_per_epoch=STEPS, **(OPTIONS.get(schedule, {}) | options)
        )

    def epoch(self, number: int) -> list[float]:
        """Step sizes of one epoch's steps."""
        rates = []
        for step in range(STEPS):
            rates.append(self.optimiser.param_groups[0]["lr"])
            self.optimiser.zero_grad()
            (self.weight * (number + step + 1)).square().sum().backward()
            self.optimiser.step()
            self.schedule.after_step()
        self.schedule.after_epoch(METRICS[number % EPOCHS])
        return rates

    def epochs(self) -> list[list[float]]:
        return [self.epoch(number) for number in range(EPOCHS)]


@pytest.mark.parametrize("optimiser", list(OPTIMISERS))
@pytest.mark.parametrize("schedule", list(SCHEDULES))
def test_an_interrupted_training_goes_on_as_if_nothing_had_happened(schedule: str, optimiser: str) -> None:
    whole = Training(schedule, optimiser)
    before = [whole.epoch(number) for number in range(3)]
    file = io.BytesIO()
    states = {
        "optimiser": whole.optimiser.state_dict(),
        "schedule": whole.schedule.state_dict(),
        "weight": whole.weight,
    }
    torch.save(states, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    assert json.loads(json.dumps(saved["schedule"])) == saved["schedule"]
    again = Training(schedule, optimiser)
    again.optimiser.load_state_dict(saved["optimiser"])
    again.schedule.load_state_dict(saved["schedule"])
    again.weight.data.copy_(saved["weight"].data)
    assert again.schedule.cycle_ended == whole.schedule.cycle_ended
    for number in range(3, EPOCHS):
        assert again.epoch(number) == whole.epoch(number)
        assert again.schedule.cycle_ended == whole.schedule.cycle_ended
    assert torch.equal(again.weight, whole.weight)
    assert len(before) == 3


@pytest.mark.parametrize("schedule", list(SCHEDULES))
def test_training_on_for_longer_than_planned_is_no_error(schedule: str) -> None:
    training = Training(schedule)
    rates = [training.epoch(number) for number in range(2 * EPOCHS)]
    assert all(0 < rate <= RATE + 1e-12 for epoch in rates for rate in epoch)


def test_constant_stays() -> None:
    assert {rate for epoch in Training("constant").epochs() for rate in epoch} == {RATE}


def test_plateau_falls_after_epochs_that_were_not_better() -> None:
    training = Training("plateau", factor=0.5)
    assert [epoch[0] for epoch in training.epochs()] == [RATE, RATE, RATE, RATE, RATE / 2, RATE / 2]
    assert training.optimiser.param_groups[0]["lr"] == RATE / 4


def test_cosine_falls_within_a_cycle_and_ends_it_after_its_last_epoch() -> None:
    training = Training("cosine-restarts")
    ended, rates = [], []
    for number in range(EPOCHS):
        rates += training.epoch(number)
        ended.append(training.schedule.cycle_ended)
    assert ended == [False, True] * 3
    cycle = [RATE / 2 * (1 + math.cos(math.pi * step / (2 * STEPS))) for step in range(2 * STEPS)]
    assert rates == pytest.approx(cycle * 3)


def test_cycles_may_become_longer() -> None:
    training = Training("cosine-restarts", longer=2)
    ended = []
    for number in range(EPOCHS):
        training.epoch(number)
        ended.append(training.schedule.cycle_ended)
    assert ended == [False, True, False, False, False, True]


def test_without_a_cycle_all_epochs_are_one() -> None:
    training = Training("cosine-restarts", cycle=None)
    ended = []
    for number in range(EPOCHS):
        training.epoch(number)
        ended.append(training.schedule.cycle_ended)
    assert ended == [False] * (EPOCHS - 1) + [True]


def test_one_cycle_rises_then_falls_to_almost_nothing() -> None:
    training = Training("one-cycle", rise=0.25)
    rates = [rate for epoch in training.epochs() for rate in epoch]
    top = rates.index(max(rates))
    assert rates[0] == pytest.approx(RATE / 25) and max(rates) == pytest.approx(RATE, rel=0.02)
    assert rates[:top] == sorted(rates[:top]) and rates[top:] == sorted(rates[top:], reverse=True)
    assert 4 <= top <= 7 and rates[-1] < RATE / 100
    assert training.schedule.cycle_ended


def test_sgd_has_nesterovs_momentum() -> None:
    group = Training("constant", "sgd").optimiser.param_groups[0]
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 0.01)


def test_unknown_optimisers_are_told() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'adam'"):
        build_optimiser("adamv", [torch.nn.Parameter(torch.ones(1))], 1e-3, 0)


def network_at(value: float, batches: int) -> torch.nn.Module:
    """A batch norm with everything at one value."""
    network = torch.nn.BatchNorm2d(2)
    for name, tensor in network.state_dict().items():
        tensor.fill_(batches if name == "num_batches_tracked" else value)
    return network.train()


def test_the_first_weights_are_forgotten_at_once_and_later_ones_slowly() -> None:
    average = WeightAverage(network_at(100.0, 0), decay=0.99)
    average.update(network_at(1.0, 1))
    assert average.network.weight.tolist() == [1.0, 1.0]
    for number in range(2, 2001):
        average.update(network_at(1.0, number))
    average.update(network_at(2.0, 2001))
    for values in (average.network.weight, average.network.bias, average.network.running_var):
        assert values.tolist() == pytest.approx([1.01, 1.01])
    assert average.network.num_batches_tracked == 2001
    assert not average.network.training and not average.network.weight.requires_grad


def test_the_mean_is_over_about_the_last_steps() -> None:
    average = WeightAverage(network_at(0.0, 0), decay=0.9999)
    for number in range(1, 101):
        average.update(network_at(float(number), number))
    assert average.network.weight[0] == pytest.approx(90.1, abs=0.1)


def test_an_average_goes_on_after_an_interruption() -> None:
    average, again = (WeightAverage(network_at(0.0, 0), decay=0.9) for _ in range(2))
    for number in range(1, 5):
        average.update(network_at(float(number), number))
    file = io.BytesIO()
    torch.save(average.state_dict(), file)
    file.seek(0)
    again.load_state_dict(torch.load(file, weights_only=True))
    for both in (average, again):
        both.update(network_at(9.0, 5))
    assert torch.equal(average.network.weight, again.network.weight)
