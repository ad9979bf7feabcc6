"""The training process: ``python -m napari_lungseg.training.worker`` learns from paint while the window stays quick.

Orders come over its standard input and answers go over its standard output, as messages of `pipe`:

========== ============================================================ =====================================
order      content                                                      answer
========== ============================================================ =====================================
``begin``  training (its number), painted, start, folder, settings,     ``progress`` again and again, then
           resume                                                       ``finished`` (model, or None where nothing was
                                                                        learned), ``error`` or ``cancelled``
``update`` update (`Update`); with ``stop`` the training finishes       ``finished``
``pause``  nothing                                                      none, until ``resume``
``resume`` nothing                                                      ``progress``
``look``   place (image, slice), once a training has finished           ``shown`` (preview, of the model kept)
``cancel`` nothing                                                      ``cancelled``
``quit``   nothing                                                      the process ends, whatever it is doing
========== ============================================================ =====================================

Before the first order is looked at, all that is needed was imported and ``ready`` was said. Answers bear the number of
their training. When the input ends, the window is gone, and so is this process.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import traceback
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeAlias

import numpy as np

from ..errors import LungSegError, TrainingProcessError
from ..progress import Progress
from .painted import Strokes
from .pipe import Message, Reading, Writing, read, write
from .rounds import Preview, Update

Steps: TypeAlias = "Generator[Progress, Update | None, Path]"
Learn: TypeAlias = "Callable[..., Steps]"
Show: TypeAlias = "Callable[[tuple[int, int]], Preview]"
Inbox: TypeAlias = "SimpleQueue[Message | None]"

_NICE = 10
# Where memory runs out, Linux is to end this process rather than the window with the strokes (0 to 1000, the higher the
# sooner).
_SACRIFICE = "500"


class _CancelError(Exception):
    """Nobody wants the result any more."""


def main(load: Callable[[], Learn] | None = None) -> None:
    """Serve whoever started this process, until it is gone.

    Parameters
    ----------
    load : imports what training needs and returns the generator function; None: `iter_learn`
    """
    # Ctrl-C in the terminal is meant for napari, which then lets go of the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    step_back()
    orders, answers = take_streams()
    serve(orders, answers, load or load_iter_learn, gone=partial(os._exit, 0))


def load_iter_learn() -> Learn:
    """Import all that training needs."""
    import segmentation_models_pytorch  # noqa: F401

    from .interactive import iter_learn

    return iter_learn


def step_back() -> None:
    """Let the window go first at the processor, and last where memory runs out; before any thread is made.

    Threads that wait for each other are to sleep, not to spin: whenever the window takes a core, one is late, and the others
    would burn the time that it needs (90 s for a round instead of 8, on 2 cores that had other work).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if sys.platform == "win32":
        import ctypes

        this_process, below_normal = ctypes.c_void_p(-1), 0x4000
        ctypes.windll.kernel32.SetPriorityClass(this_process, below_normal)
    else:
        os.nice(_NICE)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_SACRIFICE, encoding="ascii")


def take_streams() -> tuple[Reading, Writing]:
    """Standard input and output, for messages alone: what libraries print goes to the error stream instead."""
    orders = os.fdopen(os.dup(0), "rb", buffering=0)
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return orders, answers


def serve(orders: Reading, answers: Writing, load: Callable[[], Learn], gone: Callable[[], object]) -> None:
    """Carry out orders, one training after another, until they end.

    Parameters
    ----------
    orders, answers : streams of messages
    load : returns the generator function that learns
    gone : called in a thread of its own when the orders end, in the midst of whatever is going on
    """
    inbox: Inbox = SimpleQueue()
    Thread(target=_listen, args=(orders, inbox, gone), daemon=True, name="orders").start()
    learn = load()
    write(answers, Message("ready"))
    show: Show | None = None
    while (order := inbox.get()) is not None:
        # What was meant for a training that has just ended comes to nothing.
        if order.kind == "begin":
            show = None  # what it holds in memory goes first
            model = _train(order.content, learn, inbox, partial(_answer, answers, order.content["training"]))
            show = None if model is None else _shows(order.content, model)
        elif order.kind == "look" and show is not None:
            _look(order.content, show, answers)


def _listen(orders: Reading, inbox: Inbox, gone: Callable[[], object]) -> None:
    try:
        while (order := read(orders)) is not None and order.kind != "quit":
            inbox.put(order)
    except Exception:  # noqa: BLE001 (without orders there is nothing to go on with, and nobody to tell but the log)
        traceback.print_exc()
    finally:
        inbox.put(None)
        gone()


def _answer(answers: Writing, training: int, kind: str, **content: Any) -> None:
    write(answers, Message(kind, {"training": training, **content}))


def _shows(order: Mapping[str, Any], model: Path) -> Show:
    """Previews of the model that a training kept; it is loaded when the first is wanted."""
    kept: Any = None

    def show(place: tuple[int, int]) -> Preview:
        nonlocal kept
        if kept is None:
            from .kept import KeptModel

            kept = KeptModel(order["painted"], model, order["settings"])
        preview: Preview = kept.preview(place)
        return preview

    return show


def _look(order: Mapping[str, Any], show: Show, answers: Writing) -> None:
    try:
        preview = show(order["place"])
    except Exception:  # noqa: BLE001 (a preview less; the log says why)
        traceback.print_exc()
    else:
        _answer(answers, order["training"], "shown", preview=preview)


def _train(order: Mapping[str, Any], learn: Learn, inbox: Inbox, answer: Callable[..., None]) -> Path | None:
    """One training, and how it ended; returns the model, where there is one."""
    try:
        steps = learn(
            order["painted"], order["start"], order["folder"], settings=order["settings"], resume=order["resume"]
        )
        with closing(steps):
            model = _drive(steps, inbox, answer)
    except _CancelError:
        answer("cancelled")
    except Exception as error:  # noqa: BLE001 (told to the window, which shows it)
        foreseen = isinstance(error, LungSegError)
        lines = "" if foreseen else traceback.format_exc()
        answer("error", foreseen=foreseen, error=type(error).__name__, text=str(error), traceback=lines)
    else:
        # Stopped before the first look at it, a network leaves nothing.
        kept = model if model.is_file() else None
        answer("finished", model=kept)
        return kept
    return None


def _drive(steps: Steps, inbox: Inbox, answer: Callable[..., None]) -> Path:
    """Run the generator to its end; what was heard meanwhile goes into it."""
    heard = _heard(inbox)  # a cancel, before anything is begun
    try:
        step = next(steps)
        while True:
            answer("progress", progress=step)
            del step  # a preview need not be kept while the next step is computed
            step = steps.send(both(heard, _heard(inbox)))
            heard = None
    except StopIteration as end:
        model: Path = end.value
        return model


def _heard(inbox: Inbox) -> Update | None:
    """All that was heard since the last step, as one; waits while training is paused.

    Raises
    ------
    _CancelError
        When training is to end without a result.
    """
    heard: Update | None = None
    paused = False
    while paused or not inbox.empty():
        order = inbox.get()
        if order is None:
            inbox.put(None)
            raise _CancelError
        if order.kind == "cancel":
            raise _CancelError
        if order.kind == "update":
            update: Update = order.content["update"]
            heard = both(heard, update)
            paused = paused and not update.stop
        elif order.kind in ("pause", "resume"):
            paused = order.kind == "pause"
        else:
            raise TrainingProcessError(f"A training is running; it cannot {order.kind}.")
    return heard


def both(first: Update | None, second: Update | None) -> Update | None:
    """Two updates as one. Of a slice that was painted on again only the last is kept: a long pause fills no memory."""
    if first is None or second is None:
        return first or second
    last: dict[int, Strokes] = {}
    for strokes in (*first.strokes, *second.strokes):
        last[strokes.image] = _after(last[strokes.image], strokes) if strokes.image in last else strokes
    return Update(tuple(last.values()), second.look or first.look, first.stop or second.stop)


def _after(earlier: Strokes, later: Strokes) -> Strokes:
    kept = [number for number, index in enumerate(earlier.slices) if index not in later.slices]
    return dataclasses.replace(
        later,
        slices=(*(earlier.slices[number] for number in kept), *later.slices),
        labels=np.concatenate([earlier.labels[kept], later.labels]),
        names=earlier.names if later.names is None else later.names,
    )


if __name__ == "__main__":
    main()
