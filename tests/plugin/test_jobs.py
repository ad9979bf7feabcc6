"""Generators in the background: progress, result, error, cancel, and an event loop that stays free."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from typing import Any

import pytest
from qtpy.QtCore import QElapsedTimer, QTimer

from napari_lungseg.errors import ReadError
from napari_lungseg.plugin.jobs import Job, report, waited_for, window_is_running
from napari_lungseg.progress import Progress


def counting(steps: int, pause: float = 0.0, closed: threading.Event | None = None) -> Generator[Progress, None, int]:
    try:
        for step in range(steps):
            time.sleep(pause)
            yield Progress(step + 1, steps)
        return steps
    finally:
        if closed is not None:
            closed.set()


def test_progress_and_result_arrive_in_this_thread(qtbot: Any) -> None:
    seen: list[tuple[Progress, Any]] = []
    results: list[tuple[int, Any]] = []
    ended: list[bool] = []
    here = threading.current_thread()
    job = Job(
        lambda: counting(3),
        on_progress=lambda step: seen.append((step, threading.current_thread())),
        on_result=lambda result: results.append((result, threading.current_thread())),
        on_end=lambda: ended.append(job.is_running),
    )
    qtbot.waitUntil(lambda: bool(ended), timeout=10_000)
    assert [step.done for step, _ in seen] == [0, 1, 2, 3]
    assert results == [(3, here)] and ended == [False]
    assert {thread for _, thread in seen} == {here}


def test_cancel_closes_the_generator_and_gives_no_result(qtbot: Any) -> None:
    closed, results, ended = threading.Event(), [], []
    job = Job(lambda: counting(10_000, 0.005, closed), on_result=results.append, on_end=lambda: ended.append(True))
    qtbot.wait(50)
    job.cancel()
    qtbot.waitUntil(lambda: bool(ended), timeout=10_000)
    assert closed.is_set() and not results


@pytest.mark.parametrize("error", [ReadError("found nothing"), RuntimeError("as torch raises"), ValueError("a bug")])
def test_errors_arrive_whatever_their_kind(qtbot: Any, error: Exception) -> None:
    def failing() -> Generator[Progress, None, None]:
        yield Progress(0, 1)
        raise error

    errors, results, ended = [], [], []
    Job(failing, on_error=errors.append, on_result=results.append, on_end=lambda: ended.append(True))
    qtbot.waitUntil(lambda: bool(ended), timeout=10_000)
    assert errors == [error] and not results


def test_a_detached_job_calls_nobody(qtbot: Any) -> None:
    closed, calls = threading.Event(), []
    job = Job(
        lambda: counting(10_000, 0.005, closed),
        on_progress=calls.append,
        on_result=calls.append,
        on_end=lambda: calls.append(1),
    )
    qtbot.wait(30)
    job.detach()
    calls.clear()
    qtbot.waitUntil(closed.is_set, timeout=10_000)
    qtbot.wait(50)
    assert not calls


def test_foreseen_errors_are_one_sentence(notices: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    report(ReadError("The folder is empty."))
    assert [notice.message for notice in notices] == ["The folder is empty."]
    assert not hasattr(notices[0], "exception")


def test_the_window_lives_while_a_command_is_waited_for(qtbot: Any) -> None:
    ticks: list[float] = []
    results: list[int] = []
    running: list[bool] = []
    timer = QTimer()
    timer.timeout.connect(lambda: ticks.append(time.perf_counter()))
    timer.start(10)

    def command() -> None:
        running.append(window_is_running())
        results.append(waited_for(lambda: counting(20, 0.02)))

    QTimer.singleShot(0, command)
    qtbot.waitUntil(lambda: bool(results), timeout=10_000)
    assert results == [20] and running == [True] and len(ticks) > 10


def test_a_script_waits_without_a_window(qapp: Any) -> None:
    assert not window_is_running()
    assert waited_for(lambda: counting(3)) == 3


def test_the_event_loop_stays_free_during_a_job(qtbot: Any) -> None:
    """Gaps between ticks of a 10 ms timer, beside a thread that mostly sleeps, stay under the 200 ms that are felt."""
    gaps: list[int] = []
    clock = QElapsedTimer()
    clock.start()
    timer = QTimer()
    timer.timeout.connect(lambda: gaps.append(clock.restart()))
    timer.start(10)
    ended: list[bool] = []
    Job(lambda: counting(100, 0.01), on_progress=lambda step: None, on_end=lambda: ended.append(True))
    qtbot.waitUntil(lambda: bool(ended), timeout=20_000)
    assert len(gaps) > 20 and sorted(gaps)[int(0.9 * len(gaps))] < 200


def test_when_napari_itself_aborts_the_generator_is_closed(qtbot: Any) -> None:
    """As its closing window does, to every worker."""
    closed, ended = threading.Event(), []
    job = Job(lambda: counting(10_000, 0.005, closed), on_end=lambda: ended.append(True))
    qtbot.wait(50)
    job._worker.quit()
    qtbot.waitUntil(lambda: bool(ended), timeout=20_000)
    assert closed.is_set() and not job.is_running


def test_a_program_that_ends_waits_for_its_jobs() -> None:
    """A thread that tells of its end when Python has taken the worker apart would abort the program."""
    program = """
import time
from qtpy.QtWidgets import QApplication
application = QApplication([])
from napari_lungseg.plugin.jobs import Job
from napari_lungseg.progress import Progress

def steps():
    for _ in range(3):
        time.sleep(0.2)
        yield Progress(0, 0, "")

Job(steps)
"""
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False
    )
    assert ended.returncode == 0 and "deleted" not in ended.stderr
