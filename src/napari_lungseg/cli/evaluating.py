"""``lungseg evaluate``: label maps beside references, or a model on a data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import LungSegError, TrainingDataError
from . import show

if TYPE_CHECKING:
    from ..analysis.evaluation import EvaluateSettings, Evaluation
    from ..analysis.pairs import Pair
    from ..analysis.table import Table

# What stands on the screen of many cases; the files hold everything.
_SHOWN = ("dice", "iou", "hd95", "hd95_pixel", "assd", "assd_pixel", "nsd", "sensitivity", "precision", "accuracy",
          "relative_difference", "mean_iou")  # fmt: skip
_FEW = 5
_TABLES = (".csv", ".json", ".parquet")


@dataclass(frozen=True)
class Sources:
    """What was named on the command line, see `napari_lungseg.cli.app.evaluate`."""

    path: Path
    reference: Path | None
    model: str | None
    layout: str
    split: str
    split_file: Path | None
    limit: int | None
    images: Path | None
    device: str


@dataclass(frozen=True)
class Details:
    """What is written of one prediction and one reference beside the metrics."""

    slices: Path | None = None
    disagreement: Path | None = None

    @property
    def wanted(self) -> bool:
        """Whether anything is."""
        return self.slices is not None or self.disagreement is not None


def evaluate_all(
    sources: Sources, settings: EvaluateSettings, out: Path | None, as_json: bool, details: Details = Details()
) -> int:
    """Compare, print, write, and return the exit code: 2 when any case could not be compared."""
    from ..analysis.evaluation import iter_evaluate_cases

    if sources.limit is not None and sources.limit < 1:
        raise LungSegError(f"--limit is {sources.limit}, but at least one case is compared.")
    pairs, record = _of_model(sources) if sources.model is not None else _of_files(sources)
    _check(details, sources, len(pairs))
    evaluation = show.drained(iter_evaluate_cases(pairs, settings=settings), "evaluating")
    evaluation = dataclasses.replace(evaluation, record={**record, **evaluation.record})
    if out is not None:
        _write(evaluation, out)
    if details.wanted and not evaluation.failed:
        _detail(pairs[0], settings, details)
    _tell(evaluation, single=len(pairs) == 1 and sources.model is None, as_json=as_json)
    for name, why in evaluation.failed.items():
        show.error(f"{name}: {why}")
    _few(f"{name}: {note}" for name, note in evaluation.notes.items())
    return 2 if evaluation.failed else 0


def _of_files(sources: Sources) -> tuple[Sequence[Pair], dict[str, Any]]:
    from ..analysis.pairing import images_of, pair_files
    from ..analysis.pairs import pairs_of_files

    if sources.reference is None:
        raise LungSegError(
            "Only one path is given. Name predicted labels and their reference, or a data set with --model NAME."
        )
    found, told = pair_files(sources.path, sources.reference)
    left_out = [finding.message for finding in told]
    _few(left_out)
    images: dict[str, Path] = {}
    if sources.images is not None:
        is_folder = sources.images.is_dir()
        images = images_of(sources.images) if is_folder else {pair.name: sources.images for pair in found}
    return pairs_of_files(found[: sources.limit], images), {"left_out": left_out}


def _of_model(sources: Sources) -> tuple[Sequence[Pair], dict[str, Any]]:
    from ..analysis.pairs import pairs_of_model
    from ..models.catalog import load_model
    from ..segmentation.devices import resolve_device
    from ..training.datasets import find_dataset
    from .models import make_ready

    if sources.reference is not None or sources.model is None:
        raise LungSegError("With --model, name one data set; its own masks are the reference.")
    make_ready(sources.model, yes=False)
    spec = load_model(sources.model).spec
    resolve_device(sources.device)
    data = find_dataset(sources.path, sources.layout, sources.split_file)
    part = [case for case in (data.cases if sources.split == "all" else data.part(sources.split)) if case.masks]
    if not part:
        parts = sorted({case.split for case in data.cases if case.split})
        raise TrainingDataError(
            f"{sources.path.name} has no labelled case in {sources.split!r} (it has {', '.join(parts) or 'no split'}). "
            "Choose another --split, give --split-file, or take --split all."
        )
    left_out = [problem.message for problem in data.problems]
    _few(left_out)
    record: dict[str, Any] = {
        "left_out": left_out,
        "model": spec.name,
        "version": spec.version,
        "data": sources.path.name,
        "split": sources.split,
    }
    if sources.limit is not None and sources.limit < len(part):
        record["limit"] = f"the first {sources.limit} of {len(part)} cases"
    return pairs_of_model(data, part[: sources.limit], sources.model, device=sources.device), record


def _few(told: Iterable[str]) -> None:
    """The first few notes; the files hold all."""
    lines = list(told)
    for line in lines[:_FEW]:
        show.note(f"! {line}")
    if len(lines) > _FEW:
        show.note(f"! … and {len(lines) - _FEW} more of this kind; -o FOLDER keeps them all.")


def _write(evaluation: Evaluation, out: Path) -> None:
    from ..analysis.report import write_report

    if out.suffix.lower() in _TABLES and not out.is_dir():
        evaluation.cases.write(out)
        return
    for path in write_report(evaluation, out):
        show.note(str(path))


def _check(details: Details, sources: Sources, cases: int) -> None:
    """Refuse before any work is done."""
    if details.wanted and cases != 1:
        raise LungSegError(f"--slices and --disagreement are of one case, but {cases} are compared; name two files.")
    inputs = {path.resolve() for path in (sources.path, sources.reference) if path is not None}
    for path in (details.slices, details.disagreement):
        if path is not None and path.resolve() in inputs:
            raise LungSegError(f"{path.name!r} is an input and is never overwritten; choose another name.")


def _detail(pair: Pair, settings: EvaluateSettings, details: Details) -> None:
    from ..analysis.comparing import compare_slices, disagreement
    from ..analysis.evaluation import on_one_grid
    from ..io import write
    from ..progress import drain

    both = on_one_grid(drain(pair.open()), settings)
    if details.slices is not None:
        show.note(str(compare_slices(both.predicted, both.reference).write(details.slices)))
    if details.disagreement is not None:
        show.note(str(write(disagreement(both.predicted, both.reference), details.disagreement)))


def _tell(evaluation: Evaluation, *, single: bool, as_json: bool) -> None:
    from ..analysis.report import as_json as for_machines

    if single:
        table = evaluation.cases.only(*evaluation.cases.columns[1:])
        if as_json:
            show.for_machines(table.records())
        else:
            show.upright(table)
    elif as_json:
        show.for_machines(for_machines(evaluation) | {"cases": evaluation.cases.records()})
    else:
        show.table(_headline(evaluation.summary))


def _headline(summary: Table) -> Table:
    columns = [name for name in summary.columns if name not in ("label", "infinite")]
    shown = tuple(row for row in summary.rows if row[summary.columns.index("metric")] in _SHOWN)
    return dataclasses.replace(summary, rows=shown).only(*columns)
