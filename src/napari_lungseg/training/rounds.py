"""What goes to and fro while a network learns from paint: settings and updates in; figures, previews and ranks out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..findings import Finding
from ..segmentation.devices import DEVICES, PRECISIONS
from ..settings import setting, validate
from .painted import Strokes

UNATTENDED_S = 60
"""How long to learn where nobody is there to stop it, and nothing else was asked for."""


@dataclass(frozen=True)
class PaintSettings:
    """How to learn from paint.

    Raises
    ------
    LungSegError
        When a value is outside its bounds.
    """

    seconds: int = setting(0, "Stop by itself after so long; 0: go on until stopped.", unit="s", min=0, max=86_400)
    keep: float = setting(
        10.0,
        "How strongly the network holds on to what it knew where nothing is painted; 0: not at all.",
        min=0,
        max=100,
    )
    device: str = setting(
        "auto", "Where to train; auto takes the graphics card where there is one.", choices=DEVICES, advanced=True
    )
    batch_size: int = setting(4, "Slices shown to the network at once.", min=1, max=64, advanced=True)
    steps: int = setting(8, "Steps in a round; new strokes are taken up after each.", min=1, max=1000, advanced=True)
    learning_rate: float = setting(
        0.0, "Largest step size; 0: what suits the model it starts from.", min=0, max=1, advanced=True
    )
    prior: float = setting(
        0.5,
        "How strongly unpainted pixels count as background until a new class is found there; grows as more is painted.",
        min=0,
        max=10,
        advanced=True,
    )
    hold_out: float = setting(
        0.15, "Share of the paint that is not learned from, but judges what was learned.", min=0, max=0.5, advanced=True
    )
    augment: bool = setting(
        True, "Change images at random, so that the network does not learn them by heart.", advanced=True
    )
    seed: int = setting(0, "Of everything random.", min=0, max=2**31 - 1, advanced=True)
    precision: str = setting("auto", "Number format of the network.", choices=PRECISIONS, advanced=True)

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class Update:
    """What a person did while the network learned; sent into the generator.

    Parameters
    ----------
    strokes : what was painted
    look : (image, slice of the standard view) now on screen, to be previewed; None: as before
    stop : end at once and return the best model so far
    """

    strokes: tuple[Strokes, ...] = ()
    look: tuple[int, int] | None = None
    stop: bool = False


@dataclass(frozen=True)
class Round:
    """Figures at the end of a round.

    Parameters
    ----------
    number : counted from 0, which is the network before it learned anything
    seconds : of learning so far, pauses left out
    loss : mean of the round's steps; None for round 0
    dice : mean over the painted classes on the paint that was held out, on all of it while too little is
        painted to hold any out; None where nothing is painted
    best : highest Dice so far
    best_number : round whose weights are kept: the newest that is not clearly worse than the best
    pixels : known pixels learned from
    memory_mb : of the process that learns
    device : that it learns on
    dices : label (0: background) → Dice, of the classes of which there is paint to judge by
    held_out : whether that paint was held out, or learned from
    """

    number: int
    seconds: float
    loss: float | None
    dice: float | None
    best: float | None
    best_number: int
    pixels: int
    memory_mb: float
    device: str = ""
    dices: Mapping[int, float] = field(default_factory=dict)
    held_out: bool = True


@dataclass(frozen=True)
class Remarks:
    """What there is to tell of the start and of the paint, as it is now; takes the place of what was told before.

    Parameters
    ----------
    findings : all of them
    """

    findings: tuple[Finding, ...]


@dataclass(frozen=True, eq=False)
class Preview:
    """What the network says of one slice.

    Parameters
    ----------
    image, index : number of the image, and of the slice in its standard view
    labels : (y, x) uint8
    uncertainty : (y, x) uint8, 255 where it knows nothing
    number : of the round whose weights these are
    """

    image: int
    index: int
    labels: np.ndarray
    uncertainty: np.ndarray
    number: int = 0


@dataclass(frozen=True, eq=False)
class Ranking:
    """Where to paint next.

    Parameters
    ----------
    scores : for each image, (z,) float32: what painting this slice is expected to teach, in pixels that are uncertain;
        NaN where the network has not looked yet
    """

    scores: tuple[np.ndarray, ...]
