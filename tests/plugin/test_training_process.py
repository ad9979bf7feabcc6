"""The training process as the window drives it: what it tells, how it ends at any moment, and that nobody waits for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fake_training
import numpy as np
import pytest
from fake_training import MODEL, make_painted
from qtpy.QtCore import QCoreApplication, QEvent, QTimer

from napari_lungseg.errors import TrainingDataError, TrainingProcessError
from napari_lungseg.plugin.training_process import ARGUMENTS, MODEL_FILE, PATIENCE_MS, TrainingProcess
from napari_lungseg.training.painted import Strokes
from napari_lungseg.training.rounds import PaintSettings, Preview, Round, Update

SCRIPT = ("-P", str(Path(fake_training.__file__)))
# 2 s are promised; a busy machine may take a while to see to it.
WITHIN_S = 2.0 + 1.0


class Heard(list[tuple[str, Any]]):
    """What a `TrainingProcess` told, in order."""

    def __init__(self, process: TrainingProcess) -> None:
        process.ready.connect(lambda: self.append(("ready", None)))
        process.progress.connect(lambda step: self.append(("progress", step)))
        process.finished.connect(lambda model: self.append(("finished", model)))
        process.failed.connect(lambda error: self.append(("failed", error)))
        process.ended.connect(lambda: self.append(("ended", process.is_training)))

    def of(self, kind: str) -> list[Any]:
        return [content for name, content in self if name == kind]

    @property
    def end(self) -> list[str]:
        """What was told beside progress."""
        return [name for name, _ in self if name not in ("progress", "ready")]


class Bench:
    """A process, what it told, and ways to wait for it."""

    def __init__(self, qtbot: Any, folder: Path, *arguments: str) -> None:
        self.qtbot, self.folder = qtbot, folder
        self.process = TrainingProcess(arguments=(*SCRIPT, *arguments))
        self.heard = Heard(self.process)

    def begin(self, start: str, *painted: Any, **more: Any) -> None:
        self.process.begin(painted or (make_painted(),), start, self.folder, PaintSettings(seed=5), **more)

    def begun(self, start: str) -> None:
        """Begin, and wait for the first step."""
        self.begin(start)
        self.until(lambda: bool(self.heard.of("progress")))

    def until(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        self.qtbot.waitUntil(condition, timeout=int(seconds * 1000))

    def until_ended(self) -> float:
        """Wait for the end; returns how long that took."""
        began, before = time.monotonic(), len(self.heard.of("ended"))
        self.until(lambda: len(self.heard.of("ended")) > before)
        return time.monotonic() - began


@pytest.fixture
def make_bench(qtbot: Any, tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(*arguments: str) -> Bench:
        made.append(Bench(qtbot, tmp_path / "run", *arguments))
        return made[-1]

    yield make
    for bench in made:
        bench.process.close_down()


@pytest.fixture
def bench(make_bench: Any) -> Bench:
    one: Bench = make_bench()
    return one


def is_alive(pid: int) -> bool:
    """Whether a process runs (and is not just waiting to be counted out)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_training_goes_from_window_to_process_and_back(bench: Bench) -> None:
    painted = make_painted()
    bench.begin("describing", painted, painted, resume=True)
    bench.until_ended()
    total = int(painted.volume.array.sum(dtype=np.int64)) + int(painted.labels.array.sum())
    assert [step.done for step in bench.heard.of("progress")] == [total, total]
    assert bench.heard.end == ["finished", "ended"] and bench.heard.of("finished") == [bench.folder / MODEL]
    assert bench.heard.of("ended") == [False]
    assert (bench.folder / "begun").read_text() == "True 5"


def test_the_process_is_started_once_and_serves_one_training_after_another(bench: Bench) -> None:
    bench.process.start()
    bench.until(lambda: bench.process.is_ready)
    pid = bench.process.process_id
    bench.process.start()
    for _ in range(2):
        bench.begin("describing")
        bench.until_ended()
    assert bench.process.process_id == pid and is_alive(pid)
    assert bench.heard.end == ["finished", "ended"] * 2 and len(bench.heard.of("ready")) == 1


def test_what_is_painted_reaches_the_training(bench: Bench) -> None:
    bench.begun("counting")
    strokes = Strokes(1, (4, 7), np.full((2, 3, 3), 2, np.uint8))
    bench.process.update(Update((strokes,), look=(0, 5)))
    bench.until(lambda: "[(1, (4, 7), 36)] (0, 5)" in [step.message for step in bench.heard.of("progress")])


def test_the_brush_does_not_reach_what_was_sent(bench: Bench) -> None:
    painted = make_painted((60, 256, 256))
    total = int(painted.volume.array.sum(dtype=np.int64)) + int(painted.labels.array.sum())
    bench.begin("describing", painted)
    painted.labels.array[:] = 100
    bench.until_ended()
    assert [step.done for step in bench.heard.of("progress")] == [total]


def test_paused_it_rests_and_resumed_it_goes_on(bench: Bench) -> None:
    bench.begun("counting")
    bench.process.pause()
    bench.qtbot.wait(300)
    count = len(bench.heard)
    bench.qtbot.wait(500)
    assert len(bench.heard) == count
    bench.process.resume()
    bench.until(lambda: len(bench.heard) > count + 3)
    assert [step.done for step in bench.heard.of("progress")] == [*range(1, len(bench.heard.of("progress")) + 1)]


@pytest.mark.parametrize("paused", [False, True])
def test_stopped_it_gives_its_model(bench: Bench, paused: bool) -> None:
    bench.begun("counting")
    if paused:
        bench.process.pause()
    bench.process.stop()
    assert bench.until_ended() < WITHIN_S
    assert bench.heard.end == ["finished", "ended"] and (bench.folder / MODEL).read_text() == "after a stop"
    assert is_alive(bench.process.process_id)


@pytest.mark.parametrize("paused", [False, True])
def test_cancelled_it_ends_and_gives_nothing(bench: Bench, paused: bool) -> None:
    bench.begun("counting")
    if paused:
        bench.process.pause()
    bench.process.cancel()
    count = len(bench.heard)
    assert bench.until_ended() < WITHIN_S
    assert bench.heard[count:] == [("ended", False)]
    assert (bench.folder / "closed").exists() and is_alive(bench.process.process_id)


@pytest.mark.parametrize("start", ["hanging", "previewing"])
def test_a_step_that_hangs_or_floods_is_cancelled_in_time(bench: Bench, start: str) -> None:
    bench.begun(start)
    pid = bench.process.process_id
    bench.process.cancel()
    assert bench.until_ended() < WITHIN_S
    assert bench.heard.end == ["ended"]
    bench.begin("describing")
    assert (bench.process.process_id != pid) == (start == "hanging")
    bench.until(lambda: start != "hanging" or not is_alive(pid))
    bench.until(lambda: bench.heard.end == ["ended", "finished", "ended"])


def test_a_step_that_hangs_is_stopped_in_time_and_the_model_so_far_kept(bench: Bench) -> None:
    bench.begun("learning_then_hanging")
    bench.process.stop()
    bench.process.stop()  # pressed again, nothing changes
    assert bench.until_ended() < WITHIN_S
    assert bench.heard.end == ["finished", "ended"] and bench.heard.of("finished") == [bench.folder / MODEL]


def test_cancelled_after_a_stop_it_takes_no_longer(bench: Bench) -> None:
    bench.begun("learning_then_hanging")
    bench.process.stop()
    bench.qtbot.wait(PATIENCE_MS - 500)
    bench.process.cancel()
    assert bench.until_ended() < 1.4
    assert bench.heard.end == ["ended"]


@pytest.mark.parametrize("resumed", [False, True])
def test_a_model_from_before_is_the_result_only_if_it_was_gone_on_with(bench: Bench, resumed: bool) -> None:
    bench.folder.mkdir()
    (bench.folder / MODEL).write_text("of yesterday")
    bench.begin("hanging", resume=resumed)
    bench.until(lambda: bool(bench.heard.of("progress")))
    bench.process.stop()
    bench.until_ended()
    assert bench.heard.end == (["finished", "ended"] if resumed else ["ended"])


@pytest.mark.parametrize("how", ["cancel", "stop"])
def test_during_imports_it_ends_at_once_and_the_process_goes_on_importing(
    make_bench: Any, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_IMPORT_S", "3")
    bench = make_bench("slow")
    bench.begin("counting")
    pid = bench.process.process_id
    getattr(bench.process, how)()
    assert bench.heard.end == ["ended"]
    bench.begin("describing")
    bench.until_ended()
    assert bench.heard.end == ["ended", "finished", "ended"] and bench.process.process_id == pid
    assert len(bench.heard.of("progress")) == 1  # of the second alone


@pytest.mark.parametrize("resumed", [False, True])
def test_killed_by_the_system_it_says_so_and_can_be_begun_again(bench: Bench, resumed: bool) -> None:
    bench.begun("hanging")
    if resumed:
        (bench.folder / MODEL).touch()
    os.kill(bench.process.process_id, signal.SIGKILL)
    bench.until_ended()
    [error] = bench.heard.of("failed")
    assert bench.heard.end == ["failed", "ended"] and isinstance(error, TrainingProcessError)
    kept = "The best model so far is kept." if resumed else "Nothing was learned yet."
    assert str(error) == (
        f"The system ended the training process: probably memory ran out. {kept} "
        "Close other programs or choose a smaller batch size, then resume."
    )
    assert not bench.process.is_ready and bench.process.process_id == 0
    bench.begin("describing")
    bench.until_ended()
    assert bench.heard.end == ["failed", "ended", "finished", "ended"]


def test_what_it_printed_last_is_in_the_error(bench: Bench) -> None:
    bench.begin("leaving")
    bench.until_ended()
    [error] = bench.heard.of("failed")
    assert str(error).startswith("The training process ended by itself (exit code 3). Nothing was learned yet.")
    assert str(error).endswith("line 49")
    assert error.__notes__ == ["\n".join(f"line {n}" for n in range(30, 50))]


def test_what_was_told_before_it_left_is_not_lost(bench: Bench) -> None:
    bench.begin("killed")
    bench.until_ended()
    assert len(bench.heard.of("progress")) == 1 and "is kept" in str(bench.heard.of("failed")[0])


def test_errors_arrive_as_what_they_were(bench: Bench) -> None:
    bench.begin("lacking")
    bench.until_ended()
    bench.begin("faulty")
    bench.until_ended()
    foreseen, fault = bench.heard.of("failed")
    assert type(foreseen) is TrainingDataError and str(foreseen) == "Nothing is painted yet."
    assert type(fault) is RuntimeError and "ValueError: a bug" in str(fault) and "in faulty" in fault.__notes__[0]
    bench.begin("describing")
    bench.until_ended()
    assert bench.heard.end == ["failed", "ended"] * 2 + ["finished", "ended"]


def test_what_libraries_print_is_kept_and_harms_nothing(bench: Bench) -> None:
    bench.begin("noisy")
    bench.until_ended()
    assert bench.heard.end == ["finished", "ended"]
    bench.until(lambda: "last words" in bench.process.last_lines())
    assert "by a child" in bench.process.last_lines()


def test_nonsense_in_the_pipe_ends_the_process(bench: Bench) -> None:
    bench.begin("babbling")
    bench.until_ended()
    assert bench.heard.end == ["failed", "ended"] and "something else than messages" in str(bench.heard.of("failed")[0])
    assert bench.process.process_id == 0


def test_a_python_that_cannot_be_started_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    bench.begin("describing")
    bench.until(lambda: bool(bench.heard.of("ended")))
    assert bench.heard.end == ["failed", "ended"] and "could not be started" in str(bench.heard.of("failed")[0])
    monkeypatch.undo()
    bench.begin("describing")
    bench.until_ended()
    assert bench.heard.end == ["failed", "ended", "finished", "ended"]


def test_one_training_at_a_time_and_the_next_may_begin_when_one_has_ended(bench: Bench) -> None:
    bench.process.ended.connect(lambda: len(bench.heard.of("ended")) < 3 and bench.begin("describing"))
    bench.begin("describing")
    with pytest.raises(TrainingProcessError, match="running already"):
        bench.begin("describing")
    bench.until(lambda: len(bench.heard.of("ended")) == 3)
    assert bench.heard.end == ["finished", "ended"] * 3


def test_without_a_training_nothing_is_asked_for(bench: Bench) -> None:
    for ask in (bench.process.pause, bench.process.resume, bench.process.stop, bench.process.cancel):
        ask()
    bench.process.update(Update())
    assert bench.process.process_id == 0 and not bench.heard
    bench.begin("describing")
    bench.until_ended()
    assert bench.heard.end == ["finished", "ended"]


@pytest.mark.parametrize("start", [None, "counting", "hanging", "previewing"])
def test_closed_down_it_is_gone_and_calls_nobody(bench: Bench, start: str | None) -> None:
    if start is None:
        bench.process.start()
    else:
        bench.begun(start)
    pid, count = bench.process.process_id, len(bench.heard)
    began = time.monotonic()
    bench.process.close_down()
    assert time.monotonic() - began < 1 and not is_alive(pid)
    bench.qtbot.wait(100)
    bench.process.close_down()
    bench.begin("counting")
    assert len(bench.heard) == count and bench.process.process_id == 0 and not bench.process.is_training


def test_deleted_by_qt_it_is_gone_and_closing_down_harms_nothing(bench: Bench) -> None:
    bench.begun("counting")
    pid = bench.process.process_id
    bench.process.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    bench.qtbot.waitUntil(lambda: not is_alive(pid), timeout=5_000)
    bench.process.close_down()


def test_closed_down_by_whom_it_tells_it_tells_no_more(bench: Bench) -> None:
    bench.process.finished.connect(lambda model: bench.process.close_down())
    bench.begin("describing")
    bench.until(lambda: bool(bench.heard.of("finished")))
    bench.qtbot.wait(50)
    assert bench.heard.end == ["finished"]


_NAPARI = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from fake_training import make_painted
from qtpy.QtCore import QCoreApplication
from napari_lungseg.plugin.training_process import TrainingProcess
from napari_lungseg.training.rounds import PaintSettings
application = QCoreApplication([])
process = TrainingProcess(arguments={arguments!r})
def tell(step):
    print(process.process_id, flush=True)
    {then}
process.progress.connect(tell)
process.begin((make_painted(),), "hanging", Path({folder!r}), PaintSettings())
application.exec()
"""


@pytest.mark.parametrize("then", ["pass", "application.quit()", "sys.exit()"], ids=["killed", "quits", "exits"])
def test_no_process_is_left_behind(tmp_path: Path, then: str) -> None:
    tests = str(Path(fake_training.__file__).parent)
    code = _NAPARI.format(tests=tests, arguments=SCRIPT, folder=str(tmp_path), then=then)
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as napari:
        pid = int(napari.stdout.readline())
        if then == "pass":
            assert is_alive(pid)
            napari.send_signal(signal.SIGKILL)
        napari.wait(20)
    until = time.monotonic() + 1.5
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    assert not is_alive(pid)


class Clock:
    """How often the event loop turned, and the longest that this thread worked between two turns, ms.

    Time at the processor is counted, so that a busy machine is no failure; waiting shows in the number of turns.
    """

    def __init__(self) -> None:
        self.turns, self.longest = 0, 0.0
        self._since = time.thread_time()
        self._timer = QTimer()
        self._timer.timeout.connect(self._tick)
        self._timer.start(2)

    def _tick(self) -> None:
        now = time.thread_time()
        self.turns, self.longest = self.turns + 1, max(self.longest, 1000 * (now - self._since))
        self._since = now


@pytest.mark.parametrize("turned", [False, True])
def test_the_window_stays_alive_while_80_mb_are_sent(bench: Bench, turned: bool) -> None:
    """A CT of 150 slices, also one that lies another way in memory than it is shown."""
    painted = make_painted((150, 512, 512))
    if turned:
        view = painted.volume.array.reshape(512, 512, 150).transpose(2, 0, 1)[::-1]
        painted = type(painted)(type(painted.volume)(view, painted.volume.geometry), painted.labels)
    total = int(painted.volume.array.sum(dtype=np.int64)) + int(painted.labels.array.sum())
    bench.process.start()
    bench.until(lambda: bench.process.is_ready)
    clock = Clock()
    bench.begin("describing", painted)
    bench.until_ended()
    assert bench.heard.of("progress")[-1].done == total
    assert clock.turns > 50 and clock.longest < 100


def test_the_window_stays_alive_while_pictures_pour_in(bench: Bench) -> None:
    bench.begun("previewing")
    clock, count = Clock(), len(bench.heard)
    # A quick machine brings fifty pictures in less than fifty turns of a timer of 2 ms: turns are held against pictures.
    bench.until(lambda: clock.turns > 50 and len(bench.heard) > count + 50)
    assert clock.longest < 100 and len(bench.heard) - count < 3 * clock.turns
    [preview] = [step.payload for step in bench.heard.of("progress") if step.done == 5]
    assert isinstance(preview, Preview) and preview.labels.shape == (1024, 1024) and (preview.labels == 5).all()


def test_cancel_is_heard_while_80_mb_are_on_their_way(bench: Bench) -> None:
    bench.process.start()
    bench.until(lambda: bench.process.is_ready)
    bench.begin("counting", make_painted((150, 512, 512)))
    bench.process.cancel()
    assert bench.until_ended() < WITHIN_S
    assert bench.heard.end == ["ended"]


def test_the_real_process_learns_and_is_stopped(bench: Bench) -> None:
    from napari_lungseg.models.weights import read_spec
    from napari_lungseg.training.interactive import MODEL_NAME

    assert ARGUMENTS == ("-P", "-m", "napari_lungseg.training.worker")
    assert f"{MODEL_NAME}.safetensors" == MODEL_FILE
    settings = PaintSettings(device="cpu", steps=1, batch_size=1)
    process = TrainingProcess()
    try:
        heard = Heard(process)
        process.begin((make_painted((3, 48, 64)),), "interactive", bench.folder, settings)
        bench.until(lambda: any(isinstance(step.payload, Round) for step in heard.of("progress")), 200)
        process.stop()
        bench.until(lambda: bool(heard.of("ended")))
    finally:
        process.close_down()
    assert heard.end == ["finished", "ended"]
    assert dict(read_spec(heard.of("finished")[0]).names) == {1: "right lung"}
