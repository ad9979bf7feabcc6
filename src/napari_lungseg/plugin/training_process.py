"""Training in a process of its own, driven from the window without a thread and without waiting."""

from __future__ import annotations

import dataclasses
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.compat import isalive
from qtpy.QtCore import QCoreApplication, QObject, QProcess, QTimer, Signal  # type: ignore[attr-defined]

from .. import errors
from ..errors import LungSegError, TrainingProcessError
from ..progress import Progress
from ..training.painted import Painted
from ..training.pipe import PIECE, Message, Parser, pack
from ..training.rounds import PaintSettings, Update

# -P: modules in the folder that napari was started from are not taken for libraries.
ARGUMENTS = ("-P", "-m", "napari_lungseg.training.worker")
MODEL_FILE = "model.safetensors"
# The process must have answered by then, so that a stop or cancel takes effect within 2 s.
PATIENCE_MS = 1700
_KEPT_LINES = 20
_KEPT_CHARACTERS = 8000
_KILLED = 9


class TrainingProcess(QObject):
    """The training process, and the one training that may run in it.

    The process is started once (`start`), imports its libraries, and then serves one training after another. Every
    training that was begun ends with `ended`, before which comes `finished`, `failed`, or nothing after a cancel.

    Signals
    -------
    ready : the process has imported what it needs
    progress : (`Progress`) a step of the training
    finished : (`Path`) training has ended by itself or was stopped; the best model
    failed : (`Exception`) a `LungSegError` is a sentence for the user, anything else a fault
    ended : last of all; another training may begin

    Parameters
    ----------
    parent : owner
    arguments : of the Python that runs the training
    """

    ready = Signal()
    progress = Signal(object)
    finished = Signal(object)
    failed = Signal(object)
    ended = Signal()

    def __init__(self, parent: QObject | None = None, arguments: Sequence[str] = ARGUMENTS) -> None:
        super().__init__(parent)
        self._arguments = list(arguments)
        self._process: QProcess | None = None
        self._ready = self._closed = False
        self._parser, self._printed = Parser(), ""
        self._outbox: deque[Iterator[bytes | memoryview]] = deque()
        self._number, self._training = 0, False
        self._wish = ""
        self._model, self._older = Path(), 0
        self._patience = QTimer(self)
        self._patience.setSingleShot(True)
        self._patience.timeout.connect(self._give_up)
        application = QCoreApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.close_down)

    @property
    def is_training(self) -> bool:
        """Whether a training was begun and has not ended."""
        return self._training

    @property
    def is_ready(self) -> bool:
        """Whether the process has imported what it needs."""
        return self._ready

    @property
    def process_id(self) -> int:
        """Of the process; 0 while there is none."""
        return 0 if self._process is None else int(self._process.processId())

    def last_lines(self) -> list[str]:
        """What the process printed last."""
        return self._printed.splitlines()[-_KEPT_LINES:]

    # What the window asks for

    def start(self) -> None:
        """Launch the process, if it is not running, so that it is ready when training is wanted."""
        if self._process is not None or self._closed:
            return
        self._parser, self._printed = Parser(), ""
        self._outbox.clear()
        process = QProcess(self)
        process.setProgram(sys.executable)
        process.setArguments(self._arguments)
        for signal, slot in self._wires(process):
            signal.connect(slot)
        self._process = process
        process.start()

    def begin(
        self, painted: Sequence[Painted], start: str, folder: Path, settings: PaintSettings, resume: bool = False
    ) -> None:
        """Begin a training; see `iter_learn`.

        Parameters
        ----------
        painted : the labels are copied now; what is painted from now on goes to `update`. Images are sent bit by bit and
            must not change; one that is still on disk is read meanwhile, which keeps the window waiting
        start : name or path of a model, or name of a recipe
        folder : of the model and what it takes to go on
        settings : how to learn
        resume : go on from the checkpoint in ``folder``

        Raises
        ------
        TrainingProcessError
            While another training runs.
        """
        if self._training:
            raise TrainingProcessError("A training is running already. Stop it before you begin another.")
        if self._closed:
            return
        self._number += 1
        self._training, self._wish = True, ""
        self._model = folder / MODEL_FILE
        self._older = 0 if resume else _written(self._model)
        self.start()
        self._send(
            "begin",
            training=self._number,
            painted=tuple(map(_with_own_labels, painted)),
            start=start,
            folder=folder,
            settings=settings,
            resume=resume,
        )

    def update(self, update: Update) -> None:
        """Tell the training what was painted; without a training this comes to nothing."""
        if self._training:
            self._send("update", update=update)

    def look(self, place: tuple[int, int]) -> bool:
        """After a training: ask for a preview of the model that was kept, which comes as `progress`.

        Returns
        -------
        Whether there is a process that can answer.
        """
        can = self._ready and not self._training and self._number > 0
        if can:
            self._send("look", training=self._number, place=place)
        return can

    def pause(self) -> None:
        """Rest after the step at hand."""
        if self._training:
            self._send("pause")

    def resume(self) -> None:
        """Go on after a pause."""
        if self._training:
            self._send("resume")

    def stop(self) -> None:
        """End within 2 s and keep the best model: `finished`, where there is one, and `ended`."""
        if self._training and not self._wish:
            self._wish = "stop"
            if self._ready:
                self._send("update", update=Update(stop=True))
            self._wait_for_answer()

    def cancel(self) -> None:
        """End within 2 s; only `ended` follows."""
        if self._training and self._wish != "cancel":
            self._wish = "cancel"
            if self._ready:
                self._send("cancel")
            self._wait_for_answer()

    def close_down(self) -> None:
        """Kill the process and call nobody any more, for good."""
        self._closed = True
        self._training = self._ready = False
        # A program ended without closing its window: Qt has deleted all, the process among it.
        if not isalive(self):  # type: ignore[no-untyped-call]
            return
        self.blockSignals(True)
        self._patience.stop()
        process, self._process = self._process, None
        if process is not None:
            process.blockSignals(True)
            process.kill()
            process.waitForFinished(1000)

    # What goes to and comes from the process

    def _wires(self, process: QProcess) -> list[tuple[Any, Callable[..., None]]]:
        return [
            (process.readyReadStandardOutput, self._listen),
            (process.readyReadStandardError, self._overhear),
            (process.bytesWritten, self._send_on),
            (process.finished, self._gone),
            (process.errorOccurred, self._not_started),
        ]

    def _send(self, kind: str, **content: Any) -> None:
        self._outbox.append(pack(Message(kind, content)))
        self._send_on()

    def _send_on(self) -> None:
        """Hand on as much as the pipe can take soon, so that nothing large is copied at once."""
        process = self._process
        while process is not None and self._outbox and process.bytesToWrite() < PIECE:
            piece = next(self._outbox[0], None)
            if piece is None:
                self._outbox.popleft()
            else:
                process.write(bytes(piece))

    def _listen(self) -> None:
        if self._process is None:
            return
        try:
            messages = self._parser.feed(self._process.readAllStandardOutput().data())
        except Exception as error:  # noqa: BLE001 (whatever is wrong with a message, the process is of no more use)
            self._kill()
            self._end(error=error)
            return
        for message in messages:
            self._take(message)

    def _take(self, message: Message) -> None:
        if message.kind == "ready":
            self._ready = True
            self.ready.emit()
        if message.kind == "shown" and not self._training and message.content["training"] == self._number:
            self.progress.emit(Progress(0, 0, "", message.content["preview"]))
        # A cancelled training need not have heard of it yet.
        if not self._training or message.content.get("training") != self._number:
            return
        if message.kind == "progress":
            if self._wish != "cancel":
                self.progress.emit(message.content["progress"])
        elif message.kind == "finished":
            self._end(model=message.content["model"])
        elif message.kind == "error":
            self._end(error=_raised(message.content))
        elif message.kind == "cancelled":
            self._end()

    def _overhear(self) -> None:
        if self._process is not None:
            text = self._process.readAllStandardError().data().decode(errors="replace")
            self._printed = (self._printed + text)[-_KEPT_CHARACTERS:]

    # How it ends

    def _wait_for_answer(self) -> None:
        if self._patience.isActive():
            return
        if self._ready:
            self._patience.start(PATIENCE_MS)
        else:
            # It hears of this once its libraries are imported; nothing has been learned until then.
            self._send("cancel")
            self._end_as_wished()

    def _give_up(self) -> None:
        self._kill()
        self._end_as_wished()

    def _kill(self) -> None:
        """Be rid of the process. Nobody waits until it is gone, which takes a while where it holds much memory."""
        process, self._process, self._ready = self._process, None, False
        if process is not None:
            for signal, slot in self._wires(process):
                signal.disconnect(slot)
            process.finished.connect(process.deleteLater)
            process.kill()

    def _gone(self, code: int, status: QProcess.ExitStatus) -> None:
        # What it said and printed last was read by now.
        if self._process is not None:
            self._process.deleteLater()
        self._process, self._ready = None, False
        if self._wish:
            self._end_as_wished()
        else:
            crashed = status == QProcess.ExitStatus.CrashExit
            self._end(error=self._explained(code, crashed))

    def _not_started(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart and self._process is not None:
            reason = self._process.errorString()
            self._process.deleteLater()
            self._process = None
            self._end(error=TrainingProcessError(f"Python could not be started for the training ({reason})."))

    def _end_as_wished(self) -> None:
        kept = self._wish == "stop" and _written(self._model) > self._older
        self._end(model=self._model if kept else None)

    def _end(self, model: Path | None = None, error: Exception | None = None) -> None:
        if not self._training:
            return
        self._patience.stop()
        if self._wish != "cancel":
            if error is not None:
                self.failed.emit(error)
            elif model is not None:
                self.finished.emit(model)
        self._training, self._wish = False, ""
        self.ended.emit()

    def _explained(self, code: int, crashed: bool) -> TrainingProcessError:
        lines = self.last_lines()
        if crashed and code == _KILLED:
            what = "The system ended the training process: probably memory ran out."
            cure = "Close other programs or choose a smaller batch size, then resume."
        else:
            what = f"The training process ended by itself ({'signal' if crashed else 'exit code'} {code})."
            cure = f"Its last words: {lines[-1].strip()}" if lines else "Try again."
        kept = "The best model so far is kept." if _written(self._model) > self._older else "Nothing was learned yet."
        error = TrainingProcessError(f"{what} {kept} {cure}")
        error.add_note("\n".join(lines))
        return error


def _written(file: Path) -> int:
    """When a file was last written, ns; 0 where there is none."""
    return file.stat().st_mtime_ns if file.is_file() else 0


def _with_own_labels(painted: Painted) -> Painted:
    """Labels that a brush no longer reaches.

    Most slices are empty, and memory that is only zeros costs nothing; a copy of all would hold the window up.
    """
    labels = np.asarray(painted.labels.array)
    own = np.zeros(labels.shape, labels.dtype)
    for z, part in enumerate(labels):
        if part.any():
            own[z] = part
    return dataclasses.replace(painted, labels=dataclasses.replace(painted.labels, array=own))


def _raised(content: Mapping[str, Any]) -> Exception:
    """The error that ended a training, as raised over there."""
    if content["foreseen"]:
        kind = getattr(errors, content["error"], LungSegError)
        foreseen: Exception = kind(content["text"])
        return foreseen
    error = RuntimeError(f"Training failed: {content['error']}: {content['text']}")
    error.add_note(content["traceback"])
    return error
