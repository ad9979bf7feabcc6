"""Core generators in the background: progress, result, error and cancel arrive in the window's thread."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from napari.qt.threading import create_worker
from napari.utils.notifications import notification_manager, show_error
from qtpy.QtCore import QEventLoop, QThread, QThreadPool
from qtpy.QtWidgets import QApplication

from ..errors import LungSegError
from ..progress import Progress, drain

# A step that takes longer is not waited for.
_LAST_WORDS_MS = 10_000

Steps = Generator[Progress, None, Any]


@dataclass(frozen=True)
class _Outcome:
    """How a job ended. Errors travel as values: napari's worker takes a RuntimeError for a deleted worker and hides it."""

    result: Any = None
    error: Exception | None = None
    cancelled: bool = False


class Job:
    """One run of a core generator in a thread.

    Parameters
    ----------
    make : returns the generator; called in the thread, so that its imports do not stop the window
    on_progress : gets each `Progress`
    on_result : gets the generator's result; not called after a cancel or an error
    on_error : gets the exception; shows it where not given
    on_end : called last, however the job ended

    Notes
    -----
    A cancel takes effect at the next `Progress`: the generator is then closed in its own thread.
    """

    def __init__(
        self,
        make: Callable[[], Steps],
        *,
        on_progress: Callable[[Progress], object] | None = None,
        on_result: Callable[[Any], object] | None = None,
        on_error: Callable[[Exception], object] | None = None,
        on_end: Callable[[], object] | None = None,
    ) -> None:
        self._on_progress, self._on_result = on_progress, on_result
        self._on_error, self._on_end = on_error or report, on_end
        self._cancelled = threading.Event()
        self._running = True
        self._steps = _until_cancelled(make, self._cancelled)
        self._worker = create_worker(_relay, self._steps)
        self._worker.yielded.connect(self._progress)
        self._worker.returned.connect(self._end)
        # Aborted by napari itself, when its window closes: nothing is returned then.
        self._worker.aborted.connect(self._aborted)
        _RUNNING.add(self)
        self._worker.start()

    @property
    def is_running(self) -> bool:
        """Whether the generator may still yield."""
        return self._running

    def cancel(self) -> None:
        """Stop at the next step."""
        self._cancelled.set()

    def detach(self) -> None:
        """Cancel, and call nobody any more: for a window that closes."""
        self.cancel()
        self._on_progress = self._on_result = self._on_end = None
        self._on_error = _ignore

    def _progress(self, step: Progress) -> None:
        if self._on_progress is not None and not self._cancelled.is_set():
            self._on_progress(step)

    def _end(self, outcome: _Outcome) -> None:
        self._finish()
        try:
            if outcome.error is not None:
                self._on_error(outcome.error)
            elif not outcome.cancelled and not self._cancelled.is_set() and self._on_result is not None:
                self._on_result(outcome.result)
        finally:
            if self._on_end is not None:
                self._on_end()

    def _aborted(self) -> None:
        self._steps.close()
        self._finish()
        if self._on_end is not None:
            self._on_end()

    def _finish(self) -> None:
        self._running = False
        _RUNNING.discard(self)


# Keeps jobs alive whose starter keeps no reference.
_RUNNING: set[Job] = set()


def _end_all() -> None:
    """Before Python takes its objects apart: a thread that then told of its end would abort the program."""
    for job in list(_RUNNING):
        job.detach()
    pool = QThreadPool.globalInstance()
    if pool is not None:
        pool.waitForDone(_LAST_WORDS_MS)


atexit.register(_end_all)


def report(error: Exception) -> None:
    """Show an error: one sentence for what this package foresaw, napari's own dialog for the rest."""
    if isinstance(error, LungSegError):
        show_error(str(error))
    else:
        notification_manager.receive_error(type(error), error, error.__traceback__)


def window_is_running() -> bool:
    """Whether we are called from a running window, so that the user would wait for what we do."""
    if QApplication.instance() is None:
        return False
    thread = QThread.currentThread()
    return thread is not None and thread.loopLevel() > 0


def waited_for(make: Callable[[], Steps]) -> Any:
    """The result of a generator; a running window stays alive meanwhile. For napari's commands, which must return it.

    Raises
    ------
    Exception
        Whatever the generator raises.
    """
    if not window_is_running():
        return drain(make())
    results: list[Any] = []
    errors: list[Exception] = []
    loop = QEventLoop()
    Job(make, on_result=results.append, on_error=errors.append, on_end=loop.quit)
    loop.exec()
    if errors:
        raise errors[0]
    return results[0]


def _ignore(error: Exception) -> None:
    """Nobody is left to tell."""


def _relay(steps: Generator[Progress, None, _Outcome]) -> Generator[Progress, None, _Outcome]:
    """What napari's worker runs; the steps themselves stay within reach, to be closed when it is aborted."""
    return (yield from steps)


def _until_cancelled(make: Callable[[], Steps], cancelled: threading.Event) -> Generator[Progress, None, _Outcome]:
    steps: Steps | None = None
    try:
        # Before the first step too, so that a cancel is heard while imports are still going on.
        yield Progress(0, 0, "Starting …")
        steps = make()
        while not cancelled.is_set():
            yield next(steps)
        return _Outcome(cancelled=True)
    except StopIteration as stop:
        return _Outcome(result=stop.value)
    except Exception as error:  # noqa: BLE001 (carried to the window's thread and shown there)
        return _Outcome(error=error)
    finally:
        if steps is not None:
            steps.close()
