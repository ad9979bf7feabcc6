"""The training process: its orders and answers with a stand-in for learning, and the process itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import fake_training
import numpy as np
import pytest
from fake_training import MODEL, iter_fake, make_painted

from napari_lungseg.models.weights import read_spec
from napari_lungseg.training.painted import Painted, Strokes
from napari_lungseg.training.pipe import Message, read, write
from napari_lungseg.training.rounds import PaintSettings, Round, Update
from napari_lungseg.training.worker import both, serve

# A second or so, on a busy machine too; what is waited for takes minutes.
SOON_S = 4
SCRIPT = [sys.executable, "-P", str(Path(fake_training.__file__))]
WORKER = [sys.executable, "-P", "-m", "napari_lungseg.training.worker"]


class Window:
    """The other end of the two pipes."""

    def __init__(self, orders: Any, answers: Any) -> None:
        self.orders, self.answers = orders, answers
        self.number = 0

    def tell(self, kind: str, **content: Any) -> None:
        write(self.orders, Message(kind, content))

    def begin(self, start: str, folder: Path, painted: tuple[Painted, ...] = (), **more: Any) -> None:
        self.number += 1
        order = {"settings": PaintSettings(seed=5), "resume": False, **more}
        self.tell("begin", training=self.number, painted=painted, start=start, folder=folder, **order)

    def hear(self) -> Message:
        answer = read(self.answers)
        assert answer is not None and answer.content.get("training") in (None, self.number)
        return answer

    def hear_until(self, *kinds: str) -> list[Message]:
        heard = [self.hear()]
        while heard[-1].kind not in kinds:
            heard.append(self.hear())
        return heard


@pytest.fixture
def window() -> Iterator[Window]:
    """A window served by a thread of this process, with the stand-in."""
    orders_in, orders_out = os.pipe()
    answers_in, answers_out = os.pipe()
    gone = Event()
    orders, answers = os.fdopen(orders_in, "rb", buffering=0), os.fdopen(answers_out, "wb")
    thread = Thread(target=serve, args=(orders, answers, lambda: iter_fake, gone.set))
    thread.start()
    with os.fdopen(answers_in, "rb", buffering=0) as heard, os.fdopen(orders_out, "wb") as told:
        served = Window(told, heard)
        assert served.hear().kind == "ready"
        yield served
        told.close()
        while read(heard) is not None if thread.is_alive() and not gone.wait(0.2) else False:
            pass
        thread.join(10)
    assert gone.is_set() and not thread.is_alive()
    orders.close()
    answers.close()


def steps(answers: list[Message]) -> list[int]:
    return [answer.content["progress"].done for answer in answers if answer.kind == "progress"]


def test_a_training_gets_what_was_sent_and_its_result_comes_back(window: Window, tmp_path: Path) -> None:
    painted = make_painted()
    window.begin("describing", tmp_path / "run", (painted, painted), resume=True)
    *told, last = window.hear_until("finished")
    total = int(painted.volume.array.sum(dtype=np.int64)) + int(painted.labels.array.sum())
    assert steps(told) == [total, total]
    assert told[0].content["progress"].message == "(3, 16, 20) (-120.5, 33.25, -81.0) []"
    assert last.content["model"] == tmp_path / "run" / MODEL
    assert (tmp_path / "run" / "begun").read_text() == "True 5"


def test_what_was_painted_goes_into_the_next_step(window: Window, tmp_path: Path) -> None:
    window.begin("counting", tmp_path)
    window.hear()
    window.tell("update", update=Update((Strokes(1, (4, 7), np.full((2, 3, 3), 2, np.uint8)),), (0, 5)))
    heard = ""
    while not heard:
        heard = window.hear().content["progress"].message
    assert heard == "[(1, (4, 7), 36)] (0, 5)"


def test_paused_it_rests_until_it_is_resumed(window: Window, tmp_path: Path) -> None:
    window.begin("counting", tmp_path)
    window.tell("pause")
    last = steps_until_silence(window)
    window.tell("update", update=Update(look=(2, 3)))
    assert not is_heard(window, 0.5)
    window.tell("resume")
    following = [window.hear() for _ in range(2)]
    assert steps(following) == [last + 1, last + 2]
    assert "[] (2, 3)" in [answer.content["progress"].message for answer in following]


def is_heard(window: Window, seconds: float) -> bool:
    import select

    return bool(select.select([window.answers], [], [], seconds)[0])


def steps_until_silence(window: Window) -> int:
    last = 0
    while is_heard(window, 0.5):
        [last] = steps([window.hear()])
    return last


@pytest.mark.parametrize("paused", [False, True])
def test_stopped_it_gives_its_model(window: Window, tmp_path: Path, paused: bool) -> None:
    window.begin("counting", tmp_path)
    if paused:
        window.tell("pause")
    window.tell("update", update=Update(stop=True))
    assert window.hear_until("finished")[-1].content["model"] == tmp_path / MODEL
    assert (tmp_path / MODEL).read_text() == "after a stop"


@pytest.mark.parametrize("paused", [False, True])
def test_cancelled_it_closes_the_generator_and_gives_nothing(window: Window, tmp_path: Path, paused: bool) -> None:
    window.begin("counting", tmp_path)
    window.hear()
    if paused:
        window.tell("pause")
    window.tell("cancel")
    assert window.hear_until("cancelled", "finished", "error")[-1].kind == "cancelled"
    assert (tmp_path / "closed").exists() and not (tmp_path / MODEL).exists()


@contextmanager
def told_beforehand(*kinds: tuple[str, dict[str, Any]]) -> Iterator[Any]:
    """The answers where orders are there before the imports are done; no more follow."""
    orders_in, orders_out = os.pipe()
    answers_in, answers_out = os.pipe()
    all_there, let_go = Event(), Event()

    def load() -> Any:
        all_there.wait(10)
        return iter_fake

    with (
        os.fdopen(orders_out, "wb") as told,
        os.fdopen(orders_in, "rb", buffering=0) as orders,
        os.fdopen(answers_out, "wb") as answers,
        os.fdopen(answers_in, "rb", buffering=0) as heard,
    ):
        thread = Thread(target=serve, args=(orders, answers, load, let_go.set))
        thread.start()
        for kind, content in kinds:
            write(told, Message(kind, content))
        time.sleep(0.2)
        all_there.set()
        yield heard
        told.close()
        assert let_go.wait(10)
        while read(heard).kind not in ("cancelled", "finished"):
            continue
        thread.join(10)


def beginning(folder: Path) -> tuple[str, dict[str, Any]]:
    order = {"painted": (), "start": "counting", "settings": PaintSettings(), "resume": False}
    return "begin", {"training": 1, "folder": folder, **order}


def test_cancelled_before_it_began_it_does_not_begin(tmp_path: Path) -> None:
    following = beginning(tmp_path / "second")
    with told_beforehand(beginning(tmp_path / "first"), ("cancel", {}), following) as heard:
        assert [read(heard).kind for _ in range(3)] == ["ready", "cancelled", "progress"]
    assert not (tmp_path / "first").exists()


def test_an_update_before_the_first_step_is_heard_once(tmp_path: Path) -> None:
    update = ("update", {"update": Update(look=(0, 9))})
    with told_beforehand(beginning(tmp_path), update) as heard:
        assert read(heard).kind == "ready"
        messages = [read(heard).content["progress"].message for _ in range(5)]
    assert messages == ["", "[] (0, 9)", "", "", ""]


def test_errors_are_told_and_the_next_training_runs(window: Window, tmp_path: Path) -> None:
    window.begin("lacking", tmp_path)
    foreseen = window.hear_until("error")[-1].content
    assert (foreseen["foreseen"], foreseen["error"], foreseen["text"], foreseen["traceback"]) == (
        True,
        "TrainingDataError",
        "Nothing is painted yet.",
        "",
    )
    window.begin("faulty", tmp_path)
    fault = window.hear_until("error")[-1].content
    assert not fault["foreseen"] and (fault["error"], fault["text"]) == ("ValueError", "a bug")
    assert "in faulty" in fault["traceback"] and 'raise ValueError("a bug")' in fault["traceback"]
    window.begin("describing", tmp_path, (make_painted(),))
    assert window.hear_until("finished")[-1].content["model"] == tmp_path / MODEL


def test_what_comes_too_late_for_a_training_does_not_reach_the_next(window: Window, tmp_path: Path) -> None:
    window.begin("describing", tmp_path)
    window.hear_until("finished")
    for late in ("pause", "cancel"):
        window.tell(late)
    window.tell("update", update=Update(look=(7, 7), stop=True))
    window.begin("counting", tmp_path)
    assert [answer.content["progress"].message for answer in (window.hear() for _ in range(5))] == [""] * 5


def test_an_order_out_of_place_ends_the_training_with_a_sentence(window: Window, tmp_path: Path) -> None:
    window.begin("counting", tmp_path)
    window.tell("dance")
    assert window.hear_until("error")[-1].content["text"] == "A training is running; it cannot dance."


def test_two_updates_are_one_with_the_last_of_every_slice() -> None:
    def strokes(image: int, slices: tuple[int, ...], label: int, **more: Any) -> Strokes:
        return Strokes(image, slices, np.full((len(slices), 2, 2), label, np.uint8), **more)

    early = Update((strokes(0, (1, 2), 1, complete=frozenset({1}), names={1: "a"}), strokes(1, (5,), 2)), (0, 1))
    late = Update((strokes(0, (2, 3), 4), strokes(0, (), 0, complete=frozenset({3}))), stop=True)
    joined = both(early, late)
    assert joined is not None and joined.look == (0, 1) and joined.stop
    first, second = joined.strokes
    assert (first.image, first.slices, first.labels[:, 0, 0].tolist()) == (0, (1, 2, 3), [1, 4, 4])
    assert first.complete == {3} and first.names == {1: "a"}
    assert second is early.strokes[1]
    assert both(None, late) is late and both(early, None) is early and both(None, None) is None


# The process itself


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[bytes], Window]]]:
    """Starts a process and waits until it is ready."""
    started: list[tuple[subprocess.Popen[bytes], Window]] = []

    def launch(command: list[str], folder: Path = tmp_path) -> tuple[subprocess.Popen[bytes], Window]:
        log = (tmp_path / "stderr").open("wb")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log, "bufsize": 0}
        process = subprocess.Popen(command, cwd=folder, **pipes)
        log.close()
        window = Window(os.fdopen(os.dup(process.stdin.fileno()), "wb"), process.stdout)
        started.append((process, window))
        process.stdin.close()
        assert window.hear().kind == "ready"
        return process, window

    yield launch
    for process, window in started:
        process.kill()
        process.wait(10)
        with suppress(BrokenPipeError):
            window.orders.close()
        process.stdout.close()


def end_of(process: subprocess.Popen[bytes], window: Window) -> float:
    """Let go of the pipe, as a killed napari does; returns how long the process outlived it."""
    began = time.monotonic()
    with suppress(BrokenPipeError):
        window.orders.close()
    process.wait(10)
    return time.monotonic() - began


@pytest.mark.parametrize("start", ["counting", "hanging", "previewing", None])
def test_without_a_window_the_process_is_gone(launch: Any, tmp_path: Path, start: str | None) -> None:
    """In the midst of training, in a step that hangs, waiting to be listened to, and idle."""
    process, window = launch(SCRIPT)
    if start is not None:
        window.begin(start, tmp_path / "run")
        window.hear()
    assert end_of(process, window) < SOON_S


def test_quit_ends_the_process_in_the_midst_of_a_step(launch: Any, tmp_path: Path) -> None:
    process, window = launch(SCRIPT)
    window.begin("hanging", tmp_path)
    window.hear()
    window.tell("quit")
    process.wait(2)
    window.orders.close()


def test_what_libraries_print_does_not_reach_the_pipe(launch: Any, tmp_path: Path) -> None:
    process, window = launch(SCRIPT)
    window.begin("noisy", tmp_path / "run")
    answers = window.hear_until("finished")
    assert [answer.kind for answer in answers] == ["progress", "finished"]
    assert steps(answers) == [0]  # nothing to read either
    end_of(process, window)
    assert (tmp_path / "stderr").read_text().split("\n")[:4] == [
        "printed",
        "written to the descriptor",
        "by a child",
        "last words",
    ]


@pytest.mark.parametrize("chosen", [None, "active"])
def test_threads_that_wait_do_not_take_the_windows_time(
    launch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str | None
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if chosen:
        monkeypatch.setenv("OMP_WAIT_POLICY", chosen)
    process, window = launch(SCRIPT)
    window.begin("waiting_policy", tmp_path)
    assert window.hear().content["progress"].message == (chosen or "passive")
    end_of(process, window)


@pytest.mark.skipif(sys.platform == "win32", reason="processes have no niceness and no signals there")
def test_the_process_lets_the_window_go_first_and_leaves_ctrl_c_to_it(launch: Any, tmp_path: Path) -> None:
    process, window = launch(SCRIPT)
    window.begin("counting", tmp_path)
    window.hear()
    nice = os.getpriority(os.PRIO_PROCESS, process.pid) - os.getpriority(os.PRIO_PROCESS, 0)
    assert nice == min(10, 19 - os.getpriority(os.PRIO_PROCESS, 0))
    process.send_signal(signal.SIGINT)
    window.tell("update", update=Update(stop=True))
    assert window.hear_until("finished", "error")[-1].kind == "finished"
    if Path("/proc/self/oom_score_adj").exists():
        assert Path(f"/proc/{process.pid}/oom_score_adj").read_text().strip() == "500"
    end_of(process, window)


def test_the_process_fails_and_then_learns(launch: Any, tmp_path: Path) -> None:
    """With the generator that is really meant, where files lie that bear the names of libraries."""
    misleading, folder = tmp_path / "misleading", tmp_path / "run"
    misleading.mkdir()
    for name in ("torch", "numpy", "queue"):
        (misleading / f"{name}.py").write_text("raise RuntimeError('the wrong one')")
    process, window = launch(WORKER, misleading)
    window.begin("no-such-model", folder, (make_painted(),))
    error = window.hear_until("error", "finished")[-1].content
    assert error["foreseen"] and "no-such-model" in error["text"]
    settings = PaintSettings(device="cpu", steps=1, batch_size=1, augment=False)
    window.begin("interactive", folder, (make_painted((3, 48, 64)),), settings=settings)
    payloads: list[Any] = []
    while sum(isinstance(payload, Round) for payload in payloads) < 2:
        answer = window.hear()
        assert answer.kind == "progress", answer.content
        payloads.append(answer.content["progress"].payload)
    window.tell("update", update=Update(stop=True))
    model = window.hear_until("finished", "error")[-1].content["model"]
    assert model == folder / MODEL
    assert dict(read_spec(model).names) == {1: "right lung"}
    window.tell("look", training=2, place=(0, 1))
    shown = window.hear().content
    assert shown["training"] == 2 and (shown["preview"].image, shown["preview"].index) == (0, 1)
    assert shown["preview"].number == read_spec(model).training["rounds"]
    assert end_of(process, window) < SOON_S
