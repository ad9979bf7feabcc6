"""``lungseg measure``: one of the tables about an image and its labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import LungSegError
from ..registry import Table as NameTable

if TYPE_CHECKING:
    from ..analysis.measure import MeasureSettings
    from ..analysis.table import Table

_KINDS = NameTable(
    "kind of table",
    {
        "measure": "napari_lungseg.analysis.measure:measure",
        "profile": "napari_lungseg.analysis.profile:profile",
        "histogram": "napari_lungseg.analysis.profile:histogram",
        "radiomics": "napari_lungseg.analysis.radiomics:radiomics",
    },
)


def measure_one(
    image: Path,
    labels: Path,
    kinds: Mapping[str, bool],
    *,
    modality: Any,
    series: str | None,
    identifiers: bool = False,
    settings: MeasureSettings,
) -> Table:
    """The table that was asked for, of one image; what was noticed while reading is told.

    Raises
    ------
    LungSegError
        When two tables are asked for, or the image cannot be measured.
    """
    from ..analysis.pairs import read_label_maps
    from ..io.identifiers import identifiers_of
    from . import show
    from .series import read_image

    wanted = [name for name, is_wanted in kinds.items() if is_wanted]
    if len(wanted) > 1:
        raise LungSegError(f"--{' and --'.join(wanted)} are tables of their own; ask for one at a time.")
    volume = read_image(image, series, modality)
    maps = read_label_maps(labels, volume)
    noticed = (*volume.findings, *(finding for marks in maps for finding in marks.findings))
    for finding in dict.fromkeys(noticed):
        if finding.code not in ("labels-inferred", "overlapping-segments"):  # labels were asked for
            show.note(f"  ! {finding.message}")
    if len(maps) > 1:
        show.note(f"  ! Labels overlap in {labels.name}; each is measured by itself.")
    take = _KINDS.resolve(wanted[0] if wanted else "measure")
    table = _stacked([take(volume, marks, settings=settings) for marks in maps])
    if not len(table):
        show.note(f"  ! There is no label in {labels.name}, so nothing is measured.")
    return table.behind(identifiers_of(volume)) if identifiers else table


def _stacked(tables: Sequence[Table]) -> Table:
    """The rows of overlapping labels under each other, without those for all labels of one layer together."""
    if len(tables) == 1:
        return tables[0]
    label = tables[0].columns.index("label")
    rows = [row for table in tables for row in table.rows if row[label] is not None]
    return dataclasses.replace(tables[0], rows=tuple(sorted(rows, key=lambda row: row[label])))
