"""Step sizes over a run, and that a run gone on with has the same ones; the running mean of weights."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch

from napari_lungseg.training.average import WeightAverage
from napari_lungseg.training.schedules import OPTIMISERS, SCHEDULES

EPOCHS, STEPS = 6, 5


def optimiser(name: str = "sgd") -> torch.optim.Optimizer:
    return OPTIMISERS.resolve(name)([torch.nn.Parameter(torch.ones(2))], 0.1, 0.0)


def rates(name: str, stop_at: int | None = None, **options: Any) -> list[float]:
    """Step size after every step; ``stop_at``: the epoch after which the run is killed and gone on with."""
    subject = optimiser()
    schedule = SCHEDULES.resolve(name)(subject, epochs=EPOCHS, steps_per_epoch=STEPS, **options)
    seen = []
    for epoch in range(EPOCHS):
        for _ in range(STEPS):
            subject.step()
            schedule.after_step()
            seen.append(subject.param_groups[0]["lr"])
        schedule.after_epoch(0.5)
        if epoch == stop_at:
            buffer = io.BytesIO()
            torch.save([subject.state_dict(), schedule.state_dict()], buffer)
            buffer.seek(0)
            subject = optimiser()
            schedule = SCHEDULES.resolve(name)(subject, epochs=EPOCHS, steps_per_epoch=STEPS, **options)
            states = torch.load(buffer, weights_only=True)
            subject.load_state_dict(states[0])
            schedule.load_state_dict(states[1])
    return seen


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_run_gone_on_with_has_the_same_step_sizes(name: str) -> None:
    assert rates(name, stop_at=2) == rates(name)


def test_a_constant_stays() -> None:
    assert set(rates("constant")) == {0.1}


def test_one_cycle_rises_and_falls_to_nothing() -> None:
    seen = rates("one-cycle")
    assert max(seen) == pytest.approx(0.1, rel=0.01)
    assert seen.index(max(seen)) < len(seen) // 4
    assert seen[-1] < 1e-4


def test_a_plateau_lowers_the_step_size() -> None:
    assert min(rates("plateau", patience=2)) == pytest.approx(0.01)


def test_cosine_cycles_fall_and_jump_back() -> None:
    seen = rates("cosine-restarts", cycle=2)
    assert seen[8] < 0.02 and seen[9] == pytest.approx(0.1)
    assert seen[:10] == pytest.approx(seen[10:20])


@pytest.mark.parametrize(("name", "options", "ends"), [
    ("cosine-restarts", {"cycle": 2}, [1, 3, 5]), ("cosine-restarts", {}, [5]), ("constant", {}, [5]),
])  # fmt: skip
def test_the_end_of_a_cycle_is_told(name: str, options: dict[str, int], ends: list[int]) -> None:
    schedule = SCHEDULES.resolve(name)(optimiser(), epochs=EPOCHS, steps_per_epoch=1, **options)
    told = []
    for epoch in range(EPOCHS):
        schedule.after_step()
        schedule.after_epoch(0.0)
        if schedule.cycle_ended:
            told.append(epoch)
    assert told == ends


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_goes_downhill(name: str) -> None:
    weight = torch.nn.Parameter(torch.tensor([3.0]))
    subject = OPTIMISERS.resolve(name)([weight], 0.05, 0.0)
    for _ in range(50):
        subject.zero_grad()
        (weight**2).sum().backward()
        subject.step()
    assert abs(float(weight.detach())) < 2.9


def test_the_mean_forgets_the_start_and_keeps_counts() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.BatchNorm1d(1))
    mean = WeightAverage(network, 0.995)
    with torch.no_grad():
        network[0].weight.fill_(7.0)
        network[1].num_batches_tracked.fill_(5)
    for _ in range(60):
        mean.update(network)
    assert mean.network[0].weight.item() == pytest.approx(7.0, rel=1e-3)
    assert mean.network[1].num_batches_tracked.item() == 5
    again = WeightAverage(network, 0.995)
    again.load_state_dict(mean.state_dict())
    assert again.steps == 60


def test_a_warm_mean_lags_behind() -> None:
    network = torch.nn.Linear(1, 1)
    mean = WeightAverage(network, 0.9)
    mean.steps = 10_000
    before = mean.network.weight.item()
    with torch.no_grad():
        network.weight.add_(1.0)
    mean.update(network)
    assert mean.network.weight.item() == pytest.approx(before + 0.1, abs=1e-5)
