"""``lungseg info``: what is in files and folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import LungSegError
from . import show
from .series import read_picked

if TYPE_CHECKING:
    from ..volume import LabelMap, Modality, Volume

_LEGEND = (
    "Axes: R and L are the patient's right and left, A and P front and back, H and F head and feet. The origin is the "
    "centre of the first voxel, from the scanner's zero towards head, back and left."
)


def inform(
    paths: Sequence[Path], *, modality: Modality | None, series: str | None, identifiers: bool, as_json: bool
) -> int:
    """Tell what each path holds and return the exit code: 2 when any cannot be read."""
    from ..io.identifiers import identifiers_of

    records, failed = [], False
    for path in paths:
        try:
            items = read_picked(path, series, modality=modality)
        except LungSegError as error:
            show.error_about(path, error)
            failed = True
            continue
        for item in items:
            whose = identifiers_of(item) if identifiers else {}
            records.append(_record(path, item) | whose)
            if not as_json:
                _describe(path, item, whose)
    if as_json:
        show.for_machines(records)
    elif records:
        show.line(_LEGEND)
    return 2 if failed else 0


def _record(path: Path, item: Volume | LabelMap) -> dict[str, Any]:
    geometry = item.geometry
    return {
        "path": item.source or str(path),
        "modality": getattr(item, "modality", "labels"),
        "shape": list(geometry.shape),
        "spacing": list(geometry.spacing),
        "origin": list(geometry.origin),
        "direction": [list(row) for row in geometry.direction],
        "unit": getattr(item, "unit", "label"),
        "findings": show.finding_records(item.findings),
        "name": item.name,
    }


def _describe(path: Path, item: Volume | LabelMap, whose: Mapping[str, str]) -> None:
    from ..volume import LabelMap

    geometry = item.geometry
    spacing = " × ".join(f"{value:.4g}" for value in geometry.spacing)
    origin = ", ".join(f"{value:.4g}" for value in geometry.origin)
    kind = "label map" if isinstance(item, LabelMap) else f"{item.modality} in {item.unit}"
    show.line(f"{path}: {item.name}")
    if told := ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in whose.items() if value):
        show.line(f"  {told}")
    show.line(f"  {kind}, {' × '.join(map(str, geometry.shape))} voxels (z, y, x) of {spacing} {geometry.units}")
    show.line(f"  origin {origin}; axes run to {', '.join(geometry.axis_letters())}")
    if isinstance(item, LabelMap) and item.names:
        show.line("  labels: " + ", ".join(f"{label} {name}" for label, name in item.names.items()))
    show.findings(item.findings)
