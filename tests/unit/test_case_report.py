"""The page of a case: what stands on it, what does not, and that it needs nothing beside it."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from command_line import SHAPE, quick_runner

from napari_lungseg.analysis.case_report import write_case_report
from napari_lungseg.analysis.page import figure
from napari_lungseg.analysis.plots import draw_histogram, draw_profile
from napari_lungseg.analysis.profile import histogram, profile
from napari_lungseg.analysis.views import draw_projections
from napari_lungseg.errors import InvalidVolumeError, WriteError
from napari_lungseg.findings import Finding
from napari_lungseg.io import write
from napari_lungseg.phantom import thorax_ct, thorax_xray
from napari_lungseg.volume import Geometry, LabelMap, Volume


@pytest.fixture(scope="module")
def case():
    return thorax_ct(SHAPE, seed=1)


def page_of(volume, labels, tmp_path, **options):
    return write_case_report(volume, labels, tmp_path / "page.html", **options).read_text(encoding="utf-8")


def test_the_page_holds_all_and_needs_nothing(case, tmp_path):
    volume, labels = case
    record = {"model": "ct-lungs", "version": "1", "settings": {"mirror": True}, "image": "Smith"}
    labels = dataclasses.replace(labels, record=record, findings=(Finding("small", "The <left> lung is small."),))
    page = page_of(volume, labels, tmp_path)
    for text in (
        "CT phantom",
        "volume (ml)",
        "right lung",
        "ct-lungs",
        "mirror: true",
        "The &lt;left&gt; lung",
        "@media print",
    ):
        assert text in page
    assert page.count("data:image/png;base64,") == 3 and "Smith" not in page and "medical device" in page
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page) and "<script" not in page


def test_names_of_files_stay_out(case, tmp_path):
    volume, labels = case
    finding = Finding("odd", "Smith_John.nii.gz has no spacing.")
    volume = dataclasses.replace(volume, source="/scans/Smith_John.nii.gz", findings=(finding,))
    page = page_of(volume, labels, tmp_path)
    assert "Smith" not in page and "the file has no spacing" in page
    assert "<h1>case &lt;7&gt;</h1>" in page_of(volume, labels, tmp_path, name="case <7>")


def test_a_radiograph_has_no_view_from_the_front(tmp_path):
    page = page_of(*thorax_xray(), tmp_path)
    assert page.count("data:image/png;base64,") == 2 and "area" in page


@pytest.mark.parametrize(
    ("values", "marks"),
    [(np.nan, 0), (0.0, 0), (0.0, 1)],
    ids=["no number anywhere", "no label", "one value, all labelled"],
)
def test_odd_cases_have_a_page(values, marks, tmp_path):
    grid = Geometry((3, 8, 9), units="pixel")
    volume = Volume(np.full(grid.shape, values, np.float32), grid, "ct", "a.u.")
    page = page_of(volume, LabelMap(np.full(grid.shape, marks, np.uint8), grid), tmp_path)
    assert "in pixels" in page and "no HU" in page and "nan" not in page.split("base64")[0]


def test_one_voxel_and_colour(tmp_path):
    grid = Geometry((1, 8, 9))
    marks = np.zeros(grid.shape, np.uint8)
    marks[0, 3, 4] = 1
    volume = Volume(np.full((*grid.shape, 3), 7, np.uint8), grid, "photo", "rgb")
    assert "label 1" in page_of(volume, LabelMap(marks, grid), tmp_path)


def test_other_grids_and_names_are_refused(case, tmp_path):
    volume, labels = case
    moved = dataclasses.replace(labels, geometry=dataclasses.replace(labels.geometry, origin=(0.0, 0.0, 0.0)))
    with pytest.raises(InvalidVolumeError, match="grid"):
        write_case_report(volume, moved, tmp_path / "page.html")
    with pytest.raises(WriteError, match=r"\.html"):
        write_case_report(volume, labels, tmp_path / "page.pdf")
    holed = dataclasses.replace(volume, array=np.full(volume.array.shape, np.nan, np.float32))
    with pytest.raises(InvalidVolumeError, match="no numbers"):
        write_case_report(holed, labels, tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_curves_have_known_answers():
    grid = Geometry((3, 4, 5), (3.0, 0.5, 0.8))
    array = np.full(grid.shape, -805, np.int16)
    array[0, 0, 0], array[0, 0, 1] = -2000, 3000
    marks = np.zeros(grid.shape, np.uint8)
    marks[0, 0, :4] = 1
    marks[2, 1:3, 0] = 1
    volume, labels = Volume(array, grid), LabelMap(marks, grid, {1: "lung", 2: "absent"})
    left, right = figure(4, 2).subplots(1, 2)
    draw_histogram(left, histogram(volume, labels), {1: "#ff0000"})
    draw_profile(right, profile(volume, labels), {1: "#ff0000"})
    lung, absent = right.lines
    assert lung.get_ydata() == pytest.approx(np.array([4, 0, 2]) * 0.5 * 0.8) and not absent.get_ydata().any()
    lung, absent = left.lines
    assert np.interp(-805, *lung.get_data()) == pytest.approx(100 * 4 / 6) and not len(absent.get_ydata())
    assert left.get_xlim() == (-1050, 150) and lung.get_color() == "#ff0000"


def test_slices_run_from_the_feet_however_the_file_is_stored(case, tmp_path):
    grid = case[0].geometry
    flipped = dataclasses.replace(
        grid,
        origin=tuple(grid.position((grid.shape[0] - 1, 0, 0))),
        direction=tuple((-z, y, x) for z, y, x in grid.direction),
    )
    turned = [dataclasses.replace(item, array=item.array[::-1].copy(), geometry=flipped) for item in case]
    one, other = (re.findall('base64,([^"]*)', page_of(*pair, tmp_path)) for pair in (case, turned))
    assert one == other and len(one) == 3


def test_labels_without_names_cast_their_shadows(case):
    volume, labels = case
    nameless = dataclasses.replace(labels, names={}, colours={})
    outlines = [len(axes.collections) for axes in draw_projections(volume, nameless).axes]
    assert outlines == [2, 2]


def test_on_the_command_line(capsys, monkeypatch, tmp_path, case):
    lungseg = quick_runner(capsys, monkeypatch)
    scan, marks = write(case[0], tmp_path / "Smith.nii.gz"), write(case[1], tmp_path / "marks.nii.gz")
    done = lungseg("report", scan, marks, "-o", tmp_path / "report.html", "--name", "case 7")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert done.code == 0 and "<h1>case 7</h1>" in page and "Smith" not in page
    done = lungseg("segment", scan, "-o", tmp_path / "out", "--report")
    assert done.code == 0 and (tmp_path / "out" / "Smith-labels.html").exists()
