"""``lungseg data``: what a data set holds, and what is wrong with it, before anything is trained on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from cyclopts import App, Parameter

from . import show

if TYPE_CHECKING:
    from ..findings import Finding
    from ..training.checking import Checked
    from ..training.datasets import DataSet

Modality: TypeAlias = Literal["ct", "xray", "photo"]
# So many messages of a kind are printed; --json tells all.
_SHOWN = 5

data = App(name="data", help="Show what a data set holds, and prepare it for training.", help_format="plaintext")


@data.default
def show_data(
    path: Path,
    /,
    *,
    layout: str = "auto",
    modality: Modality | None = None,
    split_file: Path | None = None,
    seed: int = 0,
    patient_pattern: str | None = None,
    contact_sheet: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON for machines.")] = False,
) -> int:
    """Read every image and mask of a data set; tell pairs, orphans, sizes, labels, duplicates and splits.

    Parameters
    ----------
    path : Path
        Folder of the data set, or a split file.
    layout : str
        How the folder is laid out (docs/how-to/train-on-a-data-set.md); found out if omitted.
    modality : str
        What the images are, where the files do not say it or say it wrongly.
    split_file : Path
        CSV file that says which case trains, chooses and tests; where it is missing, parts of 80, 10 and 10 % are drawn by
        patient and written to it.
    seed : int
        Of the parts that are drawn.
    patient_pattern : str
        Regular expression whose first group is the patient in a case's name, such as '^(ID_[0-9]+)'.
    contact_sheet : Path
        Draw images with the outlines of their masks into this PNG file.
    """
    from ..training.checking import check_dataset
    from ..training.datasets import find_dataset

    given = split_file if split_file is not None and split_file.exists() else None
    dataset = find_dataset(path, layout, given, modality=modality, patient_pattern=patient_pattern)
    checked = show.drained(check_dataset(dataset), path.name)
    written = split_file if split_file is not None and given is None else None
    if written is not None:
        checked = _divided(checked, written, seed)
    if contact_sheet is not None:
        from .contact_sheet import save_contact_sheet

        save_contact_sheet(checked.dataset, contact_sheet)
    if as_json:
        show.for_machines(_record(checked))
        return 0
    _describe(checked)
    for made in filter(None, (written, contact_sheet)):
        show.line(str(made))
    return 0


def _divided(checked: Checked, target: Path, seed: int) -> Checked:
    """The data set with parts drawn and written; one that has parts already keeps them."""
    import dataclasses

    from ..training.splits import write_splits

    dataset = checked.divided(seed=seed)
    write_splits(target, dataset.cases)
    return dataclasses.replace(checked, dataset=dataset)


def _describe(checked: Checked) -> None:
    dataset, facts = checked.dataset, checked.facts
    labels = ", ".join(f"{label} {name}" for label, name in dataset.names.items()) or "none"
    masks = sum(bool(case.masks) for case in dataset.cases)
    show.line(f"{dataset.path}: layout {dataset.layout}, {dataset.modality} in {dataset.unit}")
    show.line(f"  {len(dataset.cases)} of {len(facts)} cases can be used, {masks} with masks; labels: {labels}")
    show.line(f"  sizes: {_counted(_size(row) for row in facts if row['rows'])}")
    show.line(f"  label values: {_counted(row['labels'] or 'none' for row in facts if row['rows'])}")
    _describe_parts(dataset)
    leaving = len(dataset.cases) - len(checked.apart().cases)
    if leaving:
        show.line(f"  ! {leaving} cases of train and val belong to patients with a copy in another part.")
    _describe_problems(dataset.problems)


def _size(row: dict[str, Any]) -> str:
    slices = f"{row['slices']} × " if row["slices"] > 1 else ""
    return f"{slices}{row['rows']} × {row['columns']}"


def _counted(values: Iterable[str]) -> str:
    """The most frequent values with how often they occur."""
    counts = Counter(values).most_common()
    more = f" and {len(counts) - _SHOWN} others" if len(counts) > _SHOWN else ""
    return ", ".join(f"{value} ({count})" for value, count in counts[:_SHOWN]) + more


def _describe_parts(dataset: DataSet) -> None:
    from ..training.cases import LEFT_OUT, PARTS

    for part in (*PARTS, LEFT_OUT, ""):
        cases = dataset.part(part)
        if cases:
            patients = len({case.patient for case in cases})
            show.line(f"  {part or 'not split'}: {len(cases)} cases, {patients} patients")


def _describe_problems(problems: Iterable[Finding]) -> None:
    by_code: dict[str, list[Finding]] = {}
    for problem in problems:
        by_code.setdefault(problem.code, []).append(problem)
    for code, alike in by_code.items():
        show.findings(alike[:_SHOWN])
        if len(alike) > _SHOWN:
            show.line(f"  ! … and {len(alike) - _SHOWN} more of {code}; --json names all.")


def _record(checked: Checked) -> dict[str, Any]:
    dataset = checked.dataset
    return {
        "path": str(dataset.path),
        "layout": dataset.layout,
        "modality": dataset.modality,
        "unit": dataset.unit,
        "labels": {str(label): name for label, name in dataset.names.items()},
        "usable": len(dataset.cases),
        "parts": dict(Counter(case.split for case in dataset.cases)),
        "copies": [[one.name, other.name] for one, other in checked.copies],
        "problems": show.finding_records(dataset.problems),
        "cases": checked.facts.records(),
    }
