"""The columns of a cohort's table, and the order in which its cases deserve a look."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..findings import Finding
from ..segmentation.quality import DOUBTS

if TYPE_CHECKING:
    from ..analysis.table import Table
    from ..volume import LabelMap, Volume

DONE, FAILED, LEFT_OUT = "done", "failed", "left out"
CASE, STATE, REASON, DOUBTED = "case", "state", "reason", "doubts"
# Dice that a calibrated model predicts; that any model expects of itself, which is no measure of the other.
PREDICTED, EXPECTED = "predicted_dice", "expected_dice"
# Beside the columns: findings in words, and whether it was a filter that left the scan out.
TOLD, FILTERED = "told", "filtered"
# Of every row, in this order; the user's columns and the figures of `measure` follow, then _HOW.
_WHAT = (
    *(CASE, STATE, REASON, "series", "modality", "slices", "slice_thickness_mm", "kernel"),
    *(PREDICTED, EXPECTED, DOUBTED, "findings"),
)
_HOW = (
    *("seconds", "read_s", "device_s", "write_s", "device", "precision", "model", "model_version", "version"),
    *("finished", "input", "volume"),
)
OWN_COLUMNS = frozenset({*_WHAT, *_HOW})


def empty_row(case: str, content: str, number: int) -> dict[str, Any]:
    """A row of which nothing is known but what it is about."""
    row: dict[str, Any] = dict.fromkeys((*_WHAT, *_HOW))
    return row | {CASE: case, "input": content, "volume": number, STATE: FAILED, REASON: "", TOLD: [], FILTERED: False}


def ordered(columns: Sequence[str]) -> list[str]:
    """Column names: what the scan is, then the user's and the figures, then how the labels were made."""
    between = [name for name in columns if name not in OWN_COLUMNS | {TOLD, FILTERED}]
    return [*_WHAT, *between, *_HOW]


def facts(volume: Volume, kernel: str, thickness_mm: float | None) -> dict[str, Any]:
    """What a scan is, for the table and the filters; a slice is as thick as the header says, else as the next is far."""
    depth = volume.geometry.shape[0]
    stated = thickness_mm if thickness_mm is not None else float(volume.geometry.spacing[0])
    thick = volume.modality == "ct" and volume.geometry.is_mm
    return {
        "series": volume.name,
        "modality": volume.modality,
        "slices": depth,
        "slice_thickness_mm": round(stated, 4) if thick else None,
        "kernel": kernel or None,
    }


def judged(labels: LabelMap, findings: Sequence[Finding]) -> dict[str, Any]:
    """What the maker of the labels thinks of them."""
    expected = [entry[EXPECTED] for entry in labels.record.get("quality", ()) if EXPECTED in entry]
    codes = list(dict.fromkeys(finding.code for finding in findings))
    return {
        PREDICTED: (labels.record.get("confidence") or {}).get(PREDICTED),
        EXPECTED: min(expected, default=None),
        DOUBTED: sum(code in DOUBTS for code in codes),
        "findings": " ".join(codes),
        TOLD: [{"code": finding.code, "message": finding.message} for finding in findings],
    }


def figures(measured: Table) -> dict[str, Any]:
    """The rows of a measurement beside each other, one group of columns per label; none for a stack of radiographs."""
    if "frame" in measured.columns:
        return {}
    flat: dict[str, Any] = {}
    for record in measured.records():
        region = re.sub(r"\W+", "_", str(record.pop("name", ""))).strip("_").lower()
        record.pop("label", None)
        flat |= {f"{region}_{name}": value for name, value in record.items()}
    return flat


def quality_of(row: Mapping[str, Any]) -> float | None:
    """The Dice that is predicted of a result, or else the one that its model expects."""
    predicted = row.get(PREDICTED)
    return row.get(EXPECTED) if predicted is None else predicted


def rank(row: Mapping[str, Any]) -> tuple[int, bool, float, int]:
    """Sorts what deserves a look first: what failed, what is doubted, the rest; each by the Dice that is predicted."""
    quality, doubts = quality_of(row), int(row.get(DOUBTED) or 0)
    group = {FAILED: 0, DONE: 1}.get(row[STATE], 2)
    return group, not doubts, (1.0 if not doubts else 0.0) if quality is None else quality, -doubts


def worst_first(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows in the order in which they deserve a look."""
    return sorted(rows, key=rank)
