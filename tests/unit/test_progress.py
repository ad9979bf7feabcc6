"""A generator of `Progress` is drained in the caller's thread and closed whatever happens."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from napari_lungseg.progress import Progress, drain


def counting(steps: int, closed: list[bool]) -> Generator[Progress, None, str]:
    try:
        for step in range(steps):
            yield Progress(step + 1, steps, f"step {step + 1}")
        return "done"
    finally:
        closed.append(True)


def test_drain_returns_the_result_and_reports_every_step() -> None:
    seen: list[Progress] = []
    closed: list[bool] = []
    assert drain(counting(3, closed), seen.append) == "done"
    assert [step.done for step in seen] == [1, 2, 3]
    assert closed == [True]


def test_drain_needs_no_listener_and_no_steps() -> None:
    assert drain(counting(0, [])) == "done"


def test_a_listener_that_fails_closes_the_generator() -> None:
    closed: list[bool] = []

    def fail(step: Progress) -> None:
        raise KeyboardInterrupt(step.message)

    with pytest.raises(KeyboardInterrupt, match="step 1"):
        drain(counting(3, closed), fail)
    assert closed == [True]


@pytest.mark.parametrize(("done", "total", "fraction"), [(0, 4, 0.0), (1, 4, 0.25), (9, 4, 1.0), (3, 0, 0.0)])
def test_fraction_stays_between_0_and_1(done: int, total: int, fraction: float) -> None:
    assert Progress(done, total).fraction == fraction
