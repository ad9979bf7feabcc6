"""``lungseg cohort``: many scans, on this machine or on a Dask cluster; and how far it is."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from cyclopts import App, Group, Parameter

from ..cohort.settings import CohortSettings
from ..errors import ReadError
from ..segmentation.predict import SegmentSettings
from . import show
from .flags import flags_of, settings_from

if TYPE_CHECKING:
    SegmentFlags = SegmentSettings
    CohortFlags = CohortSettings
else:
    SegmentFlags = flags_of(SegmentSettings)
    CohortFlags = flags_of(CohortSettings)

Modality: TypeAlias = Literal["ct", "xray", "photo"]
_SETTINGS = Group("Settings", sort_key=2)
_COHORT = Group("Cohort", sort_key=1)
# A run tells of itself every second once its workers are there; after so long without a word it may be over.
_SILENT_S = 60

app = App(
    name="cohort",
    help="Segment many scans: a table, a page to look at, and one label map per scan.",
    help_format="plaintext",
)


@app.default
def cohort(
    path: str,
    /,
    *paths: str,
    out: Annotated[Path, Parameter(name=("--out", "-o"))],
    model: str | None = None,
    device: str = "auto",
    modality: Modality | None = None,
    hu_offset: float | Literal["auto"] | None = None,
    straighten: Annotated[bool, Parameter(negative=())] = False,
    yes: Annotated[bool, Parameter(name=("--yes", "-y"), negative=())] = False,
    cohort: Annotated[CohortFlags, Parameter(name="*", group=_COHORT)] = CohortFlags(),  # noqa: B008 - frozen
    settings: Annotated[SegmentFlags, Parameter(name="*", group=_SETTINGS)] = SegmentFlags(),  # noqa: B008 - frozen
) -> int:
    """Segment every scan; what is finished is never done again, and what fails is a row with its reason.

    Parameters
    ----------
    path : str
        File, folder (searched through its subfolders), quoted pattern such as "scans/**/*.nii.gz", or a CSV or Parquet table
        with a column of paths.
    paths : str
        More of them.
    out : Path
        Folder for the table, the page, the labels and the logs.
    model : str
        Name of a bundled model (see `lungseg models`) or a .safetensors file; the bundled model of the modality if omitted.
    device : str
        auto (one GPU for each worker), cpu, cuda, cuda:1 … or mps.
    modality : str
        What the images are, where the files do not say it or say it wrongly.
    hu_offset : float
        For CT without Hounsfield units: what to add to its values, e.g. -1024; auto finds it.
    straighten : bool
        Segment CT slices of a tilted gantry or at uneven distances on a straight and even grid, and bring labels back.
    yes : bool
        Fetch the model's weights without asking, where they are not on this computer yet.
    """
    from ..cohort.case import Task
    from ..cohort.run import iter_cohort
    from .models import make_ready

    if model is not None:
        make_ready(model, yes=yes)
    chosen = settings_from(settings, SegmentSettings), settings_from(cohort, CohortSettings)
    task = Task(out, "", model, device, modality, hu_offset, *chosen, straighten)
    done = show.drained(_told(iter_cohort((path, *paths), task)), "cohort")
    counts = done.counts
    show.line(
        f"{counts['done']} done ({done.doubtful} doubtful), {counts['failed']} failed, {counts['left out']} left out, in "
        f"{done.seconds:.0f} s; {counts['unchanged']} input(s) were finished already."
    )
    if counts["failed"]:
        show.note("Why each failed stands in the table and on the page; --retry-failed tries unchanged ones again.")
    show.line(f"Look at {done.page}")
    return 2 if counts["failed"] else 0


@app.command
def status(
    out: Path,
    /,
    *,
    follow: Annotated[bool, Parameter(name=("--follow", "-f"), negative=())] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON for machines.")] = False,
) -> int:
    """Tell how far a run is: while it goes on, and afterwards.

    Parameters
    ----------
    out : Path
        The folder of its results.
    follow : bool
        Tell it again every second until the run ends.
    """
    while True:
        told = _status(out)
        if as_json:
            show.for_machines(told)
        else:
            _tell(told)
        if not follow or told["state"] != "running":
            return 0
        time.sleep(1)


def _told(steps: Any) -> Any:
    """The run's steps; where its workers are is printed, for the bar passes by."""
    try:
        while True:
            step = next(steps)
            if step.message.startswith("workers at "):
                show.note(step.message[0].upper() + step.message[1:])
            yield step
    except StopIteration as stop:
        return stop.value
    finally:
        steps.close()


def _status(out: Path) -> dict[str, Any]:
    from ..cohort.folder import STATUS, read_json

    told = read_json(out / STATUS)
    if not told:
        raise ReadError(f"{str(out)!r} holds no results of a cohort (no {STATUS}); name the folder given with --out.")
    if told["state"] == "running":
        silent = (datetime.now(UTC) - datetime.fromisoformat(told["updated"])).total_seconds()
        if silent > _SILENT_S and not _is_locked(out):
            told |= {"state": "silent", "seconds_left": None}
    return told


def _is_locked(out: Path) -> bool:
    """Whether a run holds the folder: one that waits for its workers to start says nothing for a while."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(out / ".lock", timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def _tell(told: dict[str, Any]) -> None:
    left = told["seconds_left"]
    states = {"silent": f"no word since {told['updated']}: it was killed; the same command again finishes the rest"}
    show.line(
        f"{told['finished']} of {told['inputs']} inputs: {told['done']} done, {told['failed']} failed, {told['left out']} left "
        f"out; {states.get(told['state'], told['state'])}"
    )
    if told["state"] == "running":
        when = f", about {max(1, round(left / 60))} min left" if left is not None else ""
        workers = f"{told['workers']} worker{'s' if told['workers'] > 1 else ''}"
        pace = f"{told['running']} under way on {workers}, {told['per_hour']:g} an hour{when}"
        show.line(pace if told["workers"] else "workers are starting")
        if told.get("dashboard"):
            show.line(f"dashboard {told['dashboard']}")
