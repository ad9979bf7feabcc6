"""What was measured of a layer: its rows, where each label is largest, and the layer's features."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..analysis.case_report import iter_case_report
from ..analysis.measure import measured
from ..analysis.profile import counted, profiled
from ..analysis.survey import Survey
from ..analysis.table import Table
from ..progress import Progress
from .grids import labels_beside
from .layers import LayerFacts, layer_to_volume


@dataclass(frozen=True, eq=False)
class Measured:
    """An image under its labels.

    Parameters
    ----------
    table : from `measure`
    largest : label (None: all together) → the slice of the layer that holds most of it
    profile, histogram : what the plots show; of colours there is no histogram
    """

    table: Table
    largest: Mapping[int | None, int]
    profile: Table
    histogram: Table | None


def measure_steps(image: LayerFacts, labels: LayerFacts) -> Generator[Progress, None, Measured]:
    """Measure a layer under another; returns `Measured`.

    Raises
    ------
    InvalidVolumeError
        When the labels do not lie on the image's grid, or a layer has axes beyond space.
    """
    yield Progress(0, 3, "Reading the image and its labels …")
    volume, marks = layer_to_volume(image).load(), labels_beside(labels, image)
    yield Progress(1, 3, "Measuring …")
    survey = Survey(volume.reoriented()[0], marks.reoriented()[0])
    table = measured(survey)
    yield Progress(2, 3, "Counting values and slices …")
    profile = profiled(survey)
    return Measured(table, largest_slices(profile), profile, None if volume.unit == "rgb" else counted(survey))


def report_steps(image: LayerFacts, labels: LayerFacts, path: Path) -> Generator[Progress, None, Path]:
    """Write the page of a case; the name of a layer that somebody else opened may be that of a patient, so it stays out."""
    yield Progress(0, 0, "Reading the image and its labels …")
    volume = layer_to_volume(image)
    name = str(image.stored.get("name") or {"ct": "CT", "xray": "X-ray"}.get(volume.modality, "Image"))
    return (yield from iter_case_report(volume, labels_beside(labels, image), path, name=name))


def largest_slices(profile: Table) -> dict[int | None, int]:
    """Label (None: several together) → the slice that holds most of it; none for an absent label."""
    rows = [row for row in profile if row["area"] > 0]
    ascending = sorted(rows, key=lambda row: (row["area"], -row["slice"]))
    return {row["label"]: row["slice"] for row in ascending}


def store_features(layer: Any, table: Table) -> bool:
    """Keep a table's rows in ``layer.features``, one row per label; other columns that are there stay.

    Returns whether they fit: of a stack of radiographs, whose labels have a row per frame, nothing is kept.
    """
    import pandas as pd

    if "frame" in table.columns:
        return False
    columns = ["index" if heading == "label" else heading for heading in table.headings]
    found = pd.DataFrame([row for row in table.rows if row[table.columns.index("label")] is not None], columns=columns)
    found["index"] = found["index"].astype(int)
    before = pd.DataFrame(layer.features)
    if "index" not in before:
        before.insert(0, "index", range(len(before)))
    if 0 not in set(before["index"]):
        before = pd.concat([pd.DataFrame({"index": [0]}), before])
    kept = before[[name for name in before if name == "index" or name not in found]]
    merged = kept.merge(found, on="index", how="outer").sort_values("index", ignore_index=True)
    merged.loc[merged["index"] == 0, "name"] = "background"
    layer.features = merged
    return True
