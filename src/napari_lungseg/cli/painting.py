"""``lungseg train-painted``: a model from painted labels, without a window."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from cyclopts import Group, Parameter

from ..errors import LungSegError, WriteError
from ..findings import Finding
from ..progress import Progress
from ..training.rounds import UNATTENDED_S, PaintSettings, Round, Update
from . import INTERRUPTED, show
from .flags import flags_of, given
from .painted_inputs import Inputs, Options, gather

if TYPE_CHECKING:
    from ..models.spec import ModelSpec

    PaintFlags = PaintSettings
else:
    PaintFlags = flags_of(PaintSettings, given_only=True, show_defaults=True, without=("seconds",))

Modality: TypeAlias = Literal["ct", "xray", "photo"]
Switch: TypeAlias = Annotated[bool, Parameter(negative=())]
_SETTINGS = Group("Settings (of a work folder its own where omitted)", sort_key=2)
_SUFFIX = ".safetensors"


def train_painted(
    path: Path,
    /,
    *paths: Path,
    out: Annotated[Path, Parameter(name=("--out", "-o"))],
    start_from: str | None = None,
    seconds: int = UNATTENDED_S,
    background: int | None = None,
    complete: Annotated[list[str] | None, Parameter(negative=())] = None,
    edited_from: Annotated[list[Path] | None, Parameter(negative=())] = None,
    names: Annotated[list[str] | None, Parameter(name="--name", negative=())] = None,
    work: Path | None = None,
    resume: Switch = False,
    overwrite: Switch = False,
    modality: Modality | None = None,
    series: str | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON for machines.")] = False,
    settings: Annotated[PaintFlags | None, Parameter(name="*", group=_SETTINGS)] = None,
) -> int:
    """Train a model on a few painted strokes or slices: IMAGE LABELS [IMAGE LABELS …], or a folder of saved work.

    In the labels 0 is not painted, not background. Ctrl-C stops and keeps the best model so far.

    Parameters
    ----------
    path : Path
        An image; its painted labels follow it, and so on in turn. Or a folder that Save work made in napari.
    paths : Path
        Labels, and further images and labels; after a folder of saved work its images, where they have moved.
    out : Path
        File of the model, ending in .safetensors.
    start_from : str
        Name or file of a model; or a recipe, to begin with random weights; the bundled model of the modality if omitted.
    seconds : int
        Learn for so long in all, from 1 to 86400.
    background : int
        Label that painted background has; 0 if none was painted; 100 if omitted.
    complete : str
        Slices of which all that is not painted is background, as napari numbers them from 0: 3,7,12; or all, or none. Once for
        each image, or all for all of them.
    edited_from : Path
        Untouched segmentation that the labels are a correction of: only what differs counts as painted. Once for each image.
    names : str
        LABEL=NAME, once for each class whose name the labels' file does not say.
    work : Path
        Folder for what it takes to go on after a stop.
    resume : bool
        Go on with the training in --work, for what is left of --seconds.
    overwrite : bool
        Replace a model that is there already, and a training in --work.
    modality : str
        What the images are, where the files do not say it or say it wrongly.
    series : str
        Only this series of an image that holds several: its number, or its name in `lungseg info`.
    """
    if seconds < 1:
        raise LungSegError(f"--seconds is {seconds}, but without a window it must end by itself: give 1 or more.")
    targets = Targets(out, work, resume)
    targets.check(overwrite)
    inputs = gather((path, *paths), Options(start_from, background, complete, edited_from, names, modality, series))
    changed = given(settings) if settings is not None else {}
    return _train(inputs, dataclasses.replace(inputs.settings, seconds=seconds, **changed), targets, as_json)


@dataclass(frozen=True)
class Targets:
    """Where the model goes, and what it takes to go on; see `train_painted`."""

    out: Path
    work: Path | None
    resume: bool

    def check(self, overwrite: bool) -> None:
        """Before anything is read: whether all can be written, and nothing is replaced without leave.

        Raises
        ------
        LungSegError
            When not.
        """
        out, work = self.out, self.work
        if out.suffix.lower() != _SUFFIX or out.is_dir():
            raise WriteError(f"{str(out)!r} is no name for a model; end it with {_SUFFIX}.")
        if out.exists() and not overwrite:
            raise WriteError(f"{str(out)!r} exists already; add --overwrite to replace it, or choose another name.")
        if self.resume and work is None:
            raise LungSegError("--resume goes on with a training in a folder; name it with --work.")
        has_training = work is not None and (work / "checkpoint.pt").is_file()
        if self.resume and not has_training:
            raise LungSegError(f"There is no training in {str(work)!r} to go on with; leave out --resume to begin one.")
        if has_training and not self.resume and not overwrite:
            raise WriteError(
                f"There is a training in {str(work)!r} already; go on with --resume, or replace it with --overwrite."
            )


def _train(inputs: Inputs, settings: PaintSettings, targets: Targets, as_json: bool) -> int:
    """Learn, write the best model and tell; returns the exit code."""
    training = _Training(list(inputs.findings))
    with _folder(targets.work) as folder, _ctrl_c() as pressed:
        from ..models.library import save_copy
        from ..training.interactive import iter_learn

        steps = iter_learn(inputs.painted, inputs.start, folder, settings=settings, resume=targets.resume)
        model = show.drained(training.watched(steps, pressed), "learning from paint")
        if not model.is_file():
            show.error("Stopped before anything was learned; no model was written.")
            return INTERRUPTED
        save_copy(model, targets.out)
    training.tell(targets.out, inputs.start, pressed.is_set(), as_json)
    if not pressed.is_set():
        return 0
    go_on = "Go on with --resume." if targets.work else "With --work FOLDER a stopped training can be gone on with."
    show.error(f"Stopped. {targets.out} holds the best model so far. {go_on}")
    return INTERRUPTED


@contextlib.contextmanager
def _folder(work: Path | None) -> Iterator[Path]:
    """The folder to learn in; without one that was asked for, one that is gone afterwards."""
    if work is not None:
        yield work
    else:
        with tempfile.TemporaryDirectory(prefix="lungseg-") as folder:
            yield Path(folder)


@contextlib.contextmanager
def _ctrl_c() -> Iterator[Event]:
    """Is set by the first Ctrl-C, so that what was learned can be kept; a second one interrupts as ever."""
    pressed = Event()
    before = signal.getsignal(signal.SIGINT)

    def press(_number: int, _frame: Any) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, before)

    if before is not signal.default_int_handler:  # a shell started this in the background, where Ctrl-C means others
        yield pressed
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass
class _Training:
    """What a training tells on its way, and at its end."""

    findings: list[Finding] = field(default_factory=list)
    last: Round | None = None

    def watched(
        self, steps: Generator[Progress, Update | None, Path], pressed: Event
    ) -> Generator[Progress, None, Path]:
        """The same steps with loss and Dice for the progress bar; a press of Ctrl-C goes in as a stop."""
        said = ""
        with contextlib.closing(steps):
            try:
                step = next(steps)
                while True:
                    if isinstance(step.payload, Round):
                        self.last = step.payload
                    elif isinstance(step.payload, Finding):
                        self.findings.append(step.payload)
                    said = step.message or said
                    yield dataclasses.replace(step, message=f"{said}{_dice_of(self.last)}", payload=None)
                    step = steps.send(Update(stop=True) if pressed.is_set() else None)
            except StopIteration as end:
                model: Path = end.value
                return model

    def tell(self, out: Path, start: str, stopped: bool, as_json: bool) -> None:
        """How much of what was painted, and what came of it."""
        from ..models.weights import read_spec

        spec = read_spec(out)
        record, held = dict(spec.training), dict(spec.training["held_out"])
        self.findings += _no_better(record["rounds"], held)
        if as_json:
            last = {} if self.last is None else {"seconds": self.last.seconds, "device": self.last.device}
            paint = {name: {"label": label, **record["painted"][str(label)]} for label, name in _classes(spec)}
            show.for_machines(
                {"model": str(out), "start": start, "stopped": stopped, "round": record["rounds"]}
                | {
                    "rounds": None if self.last is None else self.last.number,
                    **last,
                    "painted": paint,
                    "held_out": held,
                }
                | {"findings": show.finding_records(self.findings)}
            )
            return
        judged = "held-out paint" if held["pixels"] else "all paint (too little to hold some out)"
        show.line(
            f"{out}: Dice on {judged} {_number(held['dice_before'])} → {_number(held['dice'])}{self._rounds(record)}"
        )
        for label, name in _classes(spec):
            counts = record["painted"][str(label)]
            show.line(f"  {name}: {counts['pixels']} pixels in {counts['slices']} slice{'s' * (counts['slices'] != 1)}")
        show.findings(self.findings)

    def _rounds(self, record: dict[str, Any]) -> str:
        if self.last is None:
            return f" (round {record['rounds']} is kept; the time was over, and nothing more was learned)"
        return f" (round {record['rounds']} of {self.last.number} is kept; {self.last.seconds:.0f} s on {self.last.device})"


def _no_better(kept: int, held: Mapping[str, Any]) -> list[Finding]:
    """What there is to tell of a training that was of no use, as far as its paint can say."""
    if kept == 0:
        return [Finding("no-better", "It did not get better: the model written is the start's.")]
    before, after = held["dice_before"], held["dice"]
    if before is None or after is None or after > before:
        return []
    return [Finding("no-better", "On this paint it is no better than the start, as far as so little paint can tell.")]


def _classes(spec: ModelSpec) -> Sequence[tuple[int, str]]:
    return [(0, "background"), *spec.names.items()]


def _dice_of(figures: Round | None) -> str:
    if figures is None or figures.dice is None or figures.best is None:
        return ""
    return f", Dice {figures.dice:.3f}, best {figures.best:.3f} in round {figures.best_number}"


def _number(dice: float | None) -> str:
    return "–" if dice is None else f"{dice:.3f}"
