"""What every entry point of the analysis says of labels and images that leave it little to go by.

Each of them, for each condition, returns something defined or refuses with a sentence; nothing is left to chance. A new entry
point is one line of `ENTRIES`, and the test fails until `EXPECTED` says what it does.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_model import TINY, save_tiny

from napari_lungseg.analysis.case_report import write_case_report
from napari_lungseg.analysis.comparing import compare_slices, disagreement, iter_compare, worst_slices
from napari_lungseg.analysis.measure import measure
from napari_lungseg.analysis.metrics import evaluate
from napari_lungseg.analysis.profile import histogram, profile
from napari_lungseg.analysis.radiomics import radiomics
from napari_lungseg.analysis.table import Table
from napari_lungseg.cli import run
from napari_lungseg.errors import LungSegError
from napari_lungseg.io import write
from napari_lungseg.models.catalog import load_model
from napari_lungseg.progress import drain
from napari_lungseg.segmentation.confidence import confidence_of
from napari_lungseg.segmentation.evidence import Evidence
from napari_lungseg.segmentation.predict import SegmentSettings, _judged, segment
from napari_lungseg.volume import FRONTAL, LUNG_NAMES, Geometry, LabelMap, Volume

SHAPE, XRAY_SHAPE = (6, 40, 44), (1, 40, 44)


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """An image, its labels, other labels to compare with, and a place for files."""

    volume: Volume
    labels: LabelMap
    other: LabelMap
    folder: Path


def sound(folder: Path, *, xray: bool = False) -> Case:
    shape = XRAY_SHAPE if xray else SHAPE
    grid = Geometry(
        shape,
        (1.0, 0.6, 0.8) if xray else (3.0, 0.6, 0.8),
        (5.0, -6.0, 7.0),
        **({"direction": FRONTAL} if xray else {}),
    )
    labels = np.zeros(shape, np.uint8)
    labels[:, 8:30, 5:18], labels[:, 8:28, 26:40] = 1, 2
    if not xray:
        labels[0] = 0
    array = np.full(shape, 40, np.int16)
    array[labels > 0] = -850 + np.arange(np.count_nonzero(labels)) % 90
    volume = Volume(array, grid, *(("xray", "a.u.") if xray else ()))
    marks = LabelMap(labels, grid, LUNG_NAMES)
    return Case(volume, marks, dataclasses.replace(marks, array=np.roll(labels, 1, axis=2)), folder)


def relabelled(case: Case, array: np.ndarray) -> Case:
    return dataclasses.replace(case, labels=dataclasses.replace(case.labels, array=array))


def empty_labels(case: Case) -> Case:
    return relabelled(case, np.zeros_like(case.labels.array))


def one_voxel(case: Case) -> Case:
    array = np.zeros_like(case.labels.array)
    array[-1, 20, 10] = 1
    return relabelled(case, array)


def no_spacing(case: Case) -> Case:
    grid = dataclasses.replace(case.volume.geometry, units="pixel", spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0))
    moved = {name: dataclasses.replace(getattr(case, name), geometry=grid) for name in ("volume", "labels", "other")}
    return dataclasses.replace(case, **moved)


def no_hu(case: Case) -> Case:
    return dataclasses.replace(case, volume=dataclasses.replace(case.volume, unit="a.u."))


def mismatched_grids(case: Case) -> Case:
    grid = dataclasses.replace(case.labels.geometry, origin=(50.0, -6.0, 7.0))
    return dataclasses.replace(case, labels=dataclasses.replace(case.labels, geometry=grid))


def nan(case: Case) -> Case:
    array = case.volume.array.astype(np.float32)
    array[-1, 10, 8] = np.nan  # under a label
    return dataclasses.replace(case, volume=dataclasses.replace(case.volume, array=array))


CONDITIONS: tuple[Callable[[Case], Case], ...] = (empty_labels, one_voxel, no_spacing, no_hu, mismatched_grids, nan)


def thirds(case: Case) -> Table:
    table = measure(case.volume, case.labels)
    kept = [name for name in table.columns if name.endswith(("_upper", "_dorsal"))]
    return table.only("label", "name", *kept)


def features(case: Case) -> Table:
    pytest.importorskip("radiomics")
    return radiomics(case.volume, case.labels)


def compared(case: Case) -> Table:
    return drain(iter_compare(case.labels, case.other)).table


def report(case: Case) -> str:
    return write_case_report(case.volume, case.labels, case.folder / "report.html").read_text(encoding="utf-8")


def quality(case: Case) -> dict[str, Any]:
    """The sanity checks and the light, of labels as if a network had made them."""
    labels, spec = np.asarray(case.labels.array), dataclasses.replace(TINY, name="tiny")
    evidence = Evidence.empty(len(labels), spec.classes)
    for plane, sums, pixels in zip(labels, evidence.sums, evidence.pixels, strict=True):
        pixels[:] = np.bincount(plane.ravel(), minlength=3)
        sums[:] = pixels[:, None]
    record, findings = _judged(labels, case.volume, evidence, spec, [])
    return {"codes": {finding.code for finding in findings}, **record["confidence"], **record["quality"][0]}


def confidence(case: Case) -> dict[str, Any]:
    """From the image alone: a network labels it, on its own grid."""
    model = load_model(save_tiny(case.folder))
    labels = segment(case.volume, model, device="cpu", settings=SegmentSettings(precision="float32"))
    said = confidence_of(labels)
    assert said is not None and labels.geometry == case.volume.geometry
    return {"codes": {finding.code for finding in labels.findings}, **said.as_record()}


ENTRIES: dict[str, Callable[[Case], Any]] = {
    "measure": lambda case: measure(case.volume, case.labels),
    "thirds": thirds,
    "profile": lambda case: profile(case.volume, case.labels),
    "histogram": lambda case: histogram(case.volume, case.labels),
    "radiomics": features,
    "evaluate": lambda case: evaluate(case.labels, case.other),
    "compare_slices": lambda case: compare_slices(case.labels, case.other),
    "disagreement": lambda case: disagreement(case.labels, case.other),
    "compare": compared,
    "report": report,
    "quality": quality,
    "confidence": confidence,
    "radiograph": lambda case: measure(case.volume, case.labels),
}


def first(table: Table) -> dict[str, Any]:
    """The row of the right lung."""
    return next(row for row in table if row["label"] == 1)


def nothing(table: Table, *known: str) -> bool:
    """Of the right lung no more is defined than these figures, which are 0."""
    row = first(table)
    left = {
        name: value
        for name, value in row.items()
        if value is not None and name not in ("label", "name", "slice", "position")
    }
    return left == dict.fromkeys(known, 0)


GRID, NUMBERS = "lie on different grids", "are no numbers"
# A sentence that the refusal holds, or what the result is like.
EXPECTED: dict[str, tuple[str | Callable[[Any], bool], ...]] = {
    # empty labels, one voxel, no spacing, no HU, mismatched grids, NaN under a label
    "measure": (
        lambda table: nothing(table, "voxels", "volume", "mass"),
        lambda table: first(table)["sd"] == 0 and first(table)["skewness"] is None and first(table)["volume"] > 0,
        lambda table: table.units["volume"] == "pixel" and first(table)["mass"] is None,
        lambda table: "mass" not in table.columns and table.units["mean"] == "au",
        "do not lie on the image's grid",
        NUMBERS,
    ),
    "thirds": (
        lambda table: nothing(table),
        lambda table: first(table)["mean_upper"] == first(table)["mean_dorsal"] < 0,
        lambda table: -850 < first(table)["mean_upper"] < -760,
        lambda table: "mean_upper" in table.columns and "laa950_upper" not in table.columns,
        "do not lie on the image's grid",
        NUMBERS,
    ),
    "profile": (
        lambda table: len(table) == 3 * SHAPE[0] and nothing(table, "area"),
        lambda table: [row["area"] > 0 for row in table if row["label"] == 1] == [False] * 5 + [True],
        lambda table: table.units["area"] == "pixel" and table.units["position"] == "pixel",
        lambda table: "laa950" not in table.columns,
        "do not lie on the image's grid",
        NUMBERS,
    ),
    "histogram": (
        lambda table: set(table.column("voxels")) == {0} and set(table.column("share")) == {None},
        lambda table: sum(table.column("voxels")) == 2,  # its own, and that of both
        lambda table: table.units["low"] == "HU",
        lambda table: table.units["low"] == "au",
        "do not lie on the image's grid",
        NUMBERS,
    ),
    "radiomics": (
        lambda table: table.columns == ("label", "name"),
        lambda table: all(
            value is None or math.isfinite(value) for name, value in first(table).items() if name != "name"
        ),
        lambda table: first(table)["shape_VoxelVolume"] == 5 * 22 * 13,
        lambda table: first(table)["firstorder_Mean"] < -700,
        "do not lie on the image's grid",
        NUMBERS,
    ),
    "evaluate": (
        lambda table: (first(table)["dice"], first(table)["hd95"]) == (0, math.inf),
        lambda table: 0 <= first(table)["dice"] < 0.01 and math.isfinite(first(table)["hd95"]),
        lambda table: table.units["hd95"] == "pixel" and first(table)["hd95"] == 1,
        lambda table: 0.9 < first(table)["dice"] < 1,  # labels have no values
        GRID,
        lambda table: 0.9 < first(table)["dice"] < 1,
    ),
    "compare_slices": (
        lambda table: first(table)["dice"] is None and worst_slices(table)[0] > 0,
        lambda table: len(worst_slices(table)) == 5,
        lambda table: table.units["differing"] == "pixel" and "position" not in table.columns,
        lambda table: len(worst_slices(table)) == 5,
        GRID,
        lambda table: len(worst_slices(table)) == 5,
    ),
    "disagreement": (
        lambda labels: set(np.unique(labels.array)) == {0, 2},
        lambda labels: np.count_nonzero(labels.array) == 5 * (22 * 13 + 20 * 14) - 1,
        lambda labels: not labels.geometry.is_mm,
        lambda labels: labels.array.any(),
        GRID,
        lambda labels: labels.array.any(),
    ),
    "compare": (
        lambda table: first(table)["nsd"] == 0,
        lambda table: first(table)["relative_difference"] < -0.99,
        lambda table: table.units["assd"] == "pixel",
        lambda table: 0.9 < first(table)["dice"] < 1,
        GRID,
        lambda table: 0.9 < first(table)["dice"] < 1,
    ),
    "report": (
        lambda page: "volume (ml)" in page,
        lambda page: "volume (ml)" in page and "NaN" not in page.split("base64")[0],
        lambda page: "lengths are in pixels" in page,
        lambda page: "no HU" in page,
        "do not lie on the image's grid",
        NUMBERS,
    ),
    "quality": (
        lambda said: said["light"] == "red" and said["codes"] == {"no-lung-found"},
        lambda said: said["light"] == "amber" and "one-lung-missing" in said["codes"],
        lambda said: 0 < said["right"] < 1 and "width_mm" not in said,  # a share instead of ml
        lambda said: "lung_hu" not in said and "lung-not-air" not in said["codes"],
        lambda said: said["light"] in ("amber", "grey"),  # sees one array over another, whatever grid is claimed
        lambda said: json.dumps(said["reason"]) != "" and "nan" not in said["reason"],
    ),
    "confidence": (
        *[lambda said: said["light"] in ("red", "amber", "grey")] * 3,
        "needs values in HU",
        lambda said: said["light"] in ("red", "amber", "grey"),
        lambda said: "nan" not in said["reason"],
    ),
    "radiograph": (
        lambda table: nothing(table, "voxels", "area", "width", "height"),
        lambda table: (
            (first(table)["width"], first(table)["height"]) == (0.8, 0.6) and first(table)["opacity_upper"] is None
        ),
        lambda table: {table.units[name] for name in ("area", "width", "height")} == {"pixel"},
        lambda table: first(table)["width"] == pytest.approx(13 * 0.8),
        "do not lie on the image's grid",
        NUMBERS,
    ),
}


def case_of(entry: str, condition: Callable[[Case], Case], folder: Path) -> Case:
    return condition(sound(folder, xray=entry == "radiograph"))


@pytest.mark.parametrize("number", range(len(CONDITIONS)), ids=[condition.__name__ for condition in CONDITIONS])
@pytest.mark.parametrize("entry", list(ENTRIES))
def test_a_defined_result_or_a_clear_refusal(entry: str, number: int, tmp_path: Path) -> None:
    expected = EXPECTED[entry][number]
    case = case_of(entry, CONDITIONS[number], tmp_path)
    if callable(expected):
        result = ENTRIES[entry](case)
        assert expected(result), result
        return
    with pytest.raises(LungSegError, match=expected) as refused:
        ENTRIES[entry](case)
    assert str(refused.value).endswith(".") and len(str(refused.value)) > 60
    assert not list(tmp_path.glob("*.html"))


def test_every_public_function_of_the_analysis_is_asked() -> None:
    import napari_lungseg

    told = {
        name for name in napari_lungseg.__all__ if name in ("measure", "profile", "histogram", "radiomics", "evaluate")
    }
    assert len(told) == 5 and told <= set(ENTRIES)
    assert set(ENTRIES) == set(EXPECTED) and {len(said) for said in EXPECTED.values()} == {len(CONDITIONS)}


@pytest.mark.parametrize("command", [("measure",), ("measure", "--profile"), ("measure", "--histogram"), ("report",)])
@pytest.mark.parametrize("condition", [mismatched_grids, nan], ids=lambda condition: condition.__name__)
def test_the_command_line_says_it_in_a_sentence(
    command: tuple[str, ...], condition: Callable[[Case], Case], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case, page = condition(sound(tmp_path)), tmp_path / "report.html"
    scan, labels = write(case.volume, tmp_path / "scan.nii.gz"), write(case.labels, tmp_path / "labels.nii.gz")
    end = [] if command[0] == "measure" else ["-o", str(page)]
    code = run([command[0], str(scan), str(labels), *command[1:], "--modality", "ct", *end])
    said = capsys.readouterr()
    assert "Traceback" not in said.err + said.out
    if condition is nan:  # readers put a number there, and say so
        told = said.err + (page.read_text(encoding="utf-8") if page.exists() else "")
        assert code == 0 and "not finite numbers" in " ".join(told.split())
        return
    assert code == 2 and "grid" in said.err and len(said.err.strip().splitlines()) <= 4 and not page.exists()


@pytest.mark.parametrize("condition", [empty_labels, one_voxel], ids=lambda condition: condition.__name__)
def test_the_command_line_measures_what_there_is(
    condition: Callable[[Case], Case], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = condition(sound(tmp_path))
    scan, labels = write(case.volume, tmp_path / "scan.nii.gz"), write(case.labels, tmp_path / "labels.nii.gz")
    assert run(["measure", str(scan), str(labels)]) == 0
    assert run(["evaluate", str(labels), str(write(case.other, tmp_path / "other.nii.gz"))]) == 0
    assert "Traceback" not in "".join(capsys.readouterr())
