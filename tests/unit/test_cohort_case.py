"""One input on a worker, without a cluster."""

from __future__ import annotations

import dataclasses
import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cohort_phantoms import SECRET, check_whole, make_cohort
from cohort_phantoms import inputs_in as cohort_inputs
from dicom_phantom import ct_series
from tiny_model import save_tiny

from napari_lungseg import read, write
from napari_lungseg.cohort import case as case_module
from napari_lungseg.cohort.case import Task, settled, work_on
from napari_lungseg.cohort.content import content_hash, fingerprint, model_hash, settings_hash
from napari_lungseg.cohort.folder import LABELS, LOG, CohortFolder
from napari_lungseg.cohort.inputs import Input, iter_inputs
from napari_lungseg.cohort.settings import CohortSettings
from napari_lungseg.errors import ReadError
from napari_lungseg.io.anonymous import Anonymous
from napari_lungseg.phantom import thorax_ct
from napari_lungseg.progress import drain
from napari_lungseg.segmentation.predict import SegmentSettings


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(tmp_path_factory.mktemp("model")))


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    volume, _ = thorax_ct((7, 40, 44), seed=4)
    return write(volume, tmp_path / "in" / f"{SECRET}.nii.gz")


@pytest.fixture
def task(tmp_path: Path, model: str) -> Task:
    return Task(tmp_path / "out", "key", model)


def inputs_in(*paths: object, leave: Path = Path("nowhere")) -> list[Input]:
    return drain(iter_inputs([str(path) for path in paths], leave))


def work(task: Task, path: Path) -> dict:
    (item,) = inputs_in(path)
    return work_on(task, item, "cpu", 1)


def test_a_scan_becomes_labels_a_picture_a_log_and_a_row(task: Task, scan: Path) -> None:
    record = work(task, scan)
    (row,) = record["rows"]
    assert record["recorded"]
    assert (row["state"], row["reason"], row["slices"], row["modality"]) == ("done", "", 7, "ct")
    assert row["right_lung_volume_ml"] is not None
    assert row["device_s"] <= row["seconds"]
    folder = CohortFolder(task.root)
    assert {path.name for path in folder.case(row["case"]).iterdir()} >= {LABELS, LOG, "thumbnail.jpg"}
    assert folder.files_of(record["input"]) == [scan]
    check_whole(task.root)


def test_what_is_finished_is_known_by_its_content_not_by_name_or_date(task: Task, scan: Path) -> None:
    first = work(task, scan)
    moved = scan.with_name("elsewhere.nii.gz")
    shutil.copy(scan, moved)
    shutil.copy(scan.with_name(f"{SECRET}.volume.json"), moved.with_name("elsewhere.volume.json"))
    again = work(task, moved)
    assert again["unchanged"]
    assert again["rows"] == first["rows"]
    assert len(again["fingerprints"]) == 2


def test_other_voxels_another_model_and_other_settings_are_not_finished(task: Task, scan: Path) -> None:
    work(task, scan)
    assert "unchanged" not in work(dataclasses.replace(task, key="other"), scan)
    volume, _ = thorax_ct((7, 40, 44), seed=5)
    write(volume, scan)
    assert "unchanged" not in work(dataclasses.replace(task, key="other"), scan)


def test_labels_that_went_missing_are_made_again(task: Task, scan: Path) -> None:
    (row,) = work(task, scan)["rows"]
    CohortFolder(task.root).case(row["case"], LABELS).unlink()
    assert "unchanged" not in work(task, scan)
    check_whole(task.root)


def test_a_broken_file_is_a_row_with_its_reason_and_stays_failed_until_asked(task: Task, scan: Path) -> None:
    scan.write_bytes(scan.read_bytes()[:200])
    record = work(task, scan)
    (row,) = record["rows"]
    assert row["state"] == "failed"
    assert "damaged" in row["reason"]
    assert work(task, scan)["unchanged"]
    retry = dataclasses.replace(task, cohort=CohortSettings(retry_failed=True))
    assert "unchanged" not in work(retry, scan)


def test_labels_of_other_settings_do_not_outlive_a_failure(
    task: Task, scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = work(task, scan)["rows"]
    monkeypatch.setattr(case_module, "_in_hounsfield", lambda volume, offset: 1 / 0)
    (after,) = work(dataclasses.replace(task, key="other"), scan)["rows"]
    assert (after["state"], after["case"]) == ("failed", row["case"])
    assert "ZeroDivisionError" in after["reason"]
    folder = CohortFolder(task.root)
    assert not folder.case(row["case"], LABELS).exists()
    assert "test_cohort_case.py" in folder.case(row["case"], LOG).read_text()


def test_killed_after_the_labels_neither_old_nor_new_ones_pass_for_the_others(
    task: Task, scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work(task, scan)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(CohortFolder, "write_record", killed)
        with pytest.raises(KeyboardInterrupt):
            work(dataclasses.replace(task, key="other"), scan)
    assert "unchanged" not in work(task, scan)


def test_a_full_disk_is_told_and_leaves_nothing_half_written(
    task: Task, scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        record = work(task, scan)
    assert not record["recorded"]
    assert record["disk"]
    assert "No space left" in record["rows"][0]["reason"]
    assert not list((task.root / "records").glob("*"))
    check_whole(task.root)
    assert work(task, scan)["rows"][0]["state"] == "done"


def test_filters_leave_out_and_take_in_again(task: Task, scan: Path) -> None:
    narrow = dataclasses.replace(task, cohort=CohortSettings(thickest=5.0))
    (row,) = work(narrow, scan)["rows"]
    assert (row["state"], row["slice_thickness_mm"]) == ("left out", pytest.approx(41.1429))
    assert work(narrow, scan)["unchanged"]
    assert work(task, scan)["rows"][0]["state"] == "done"


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        (CohortSettings(), True),
        (CohortSettings(only="ct"), True),
        (CohortSettings(only="xray"), False),
        (CohortSettings(thinnest=2.0), False),
        (CohortSettings(thinnest=1.0, thickest=1.5), True),
        (CohortSettings(kernel="b70*"), True),
        (CohortSettings(kernel="B30*, LUNG"), False),
    ],
)
def test_filters(settings: CohortSettings, kept: bool) -> None:
    row = {"modality": "ct", "slice_thickness_mm": 1.25, "kernel": "B70f"}
    assert (settings.against(row) == "") is kept
    assert (settings.against({"modality": "xray", "slice_thickness_mm": None, "kernel": None}) == "") is (
        settings.only != "ct"
    )


def test_a_series_says_its_kernel_and_thickness_wherever_its_files_lie(tmp_path: Path) -> None:
    make_cohort(tmp_path / "in", 10, broken=0)
    folder = tmp_path / "in" / f"{SECRET}_003"
    half = tmp_path / "in" / "rest"
    half.mkdir()
    for path in sorted(folder.iterdir())[::2]:
        path.rename(half / path.name)
    found = inputs_in(tmp_path / "in")
    series = [item for item in found if len(item.files) > 1]
    assert len(found) == 10
    assert [(item.kernel, item.thickness_mm) for item in series] == [("B70f", 1.25)] * 2
    assert {path.parent for path in series[0].files} | {path.parent for path in series[1].files} >= {folder, half}


def test_patterns_tables_and_folders(tmp_path: Path) -> None:
    make_cohort(tmp_path / "in", 6, broken=0)
    assert len(inputs_in(tmp_path / "in" / "*.nii.gz")) == 1
    assert len(inputs_in(tmp_path / "in" / "**" / "*.dcm")) == 1
    table = tmp_path / "list.csv"
    table.write_text(f"who,Path\nA,in/{SECRET}_000.nii.gz\nB,in/{SECRET}_003\nC,in/gone.nii.gz\n")
    found = inputs_in(table)
    assert [item.columns["who"] for item in found] == ["A", "B", "C"]
    assert [bool(item.problem) for item in found] == [False, False, True]
    with pytest.raises(ReadError, match="no column of paths"):
        inputs_in(write_text(tmp_path / "bad.csv", "a,b\n1,2\n"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReadError, match="nothing here"):
        inputs_in(tmp_path / "empty")
    assert [bool(item.problem) for item in inputs_in(tmp_path / "empty", tmp_path / "in" / "*.png")] == [True, False]
    with pytest.raises(ReadError, match="pattern"):
        inputs_in(tmp_path / "*.none")


def test_a_parquet_table_keeps_its_columns_with_their_types(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    make_cohort(tmp_path / "in", 2, broken=0)
    names = sorted(path.name for path in cohort_inputs(tmp_path / "in"))
    columns = {"scan": [f"in/{name}" for name in names], "age": [50, 61], "smoker": [True, None]}
    parquet.write_table(pa.table(columns), tmp_path / "list.parquet")
    found = inputs_in(tmp_path / "list.parquet")
    assert [dict(item.columns) for item in found] == [{"age": 50, "smoker": True}, {"age": 61, "smoker": None}]
    assert [item.files[0].name for item in found] == names
    with pytest.raises(ReadError, match="no Parquet table"):
        inputs_in(write_text(tmp_path / "bad.parquet", "a,b\n"))


def write_text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_results_among_the_scans_are_no_scans(tmp_path: Path, task: Task, scan: Path) -> None:
    work(dataclasses.replace(task, root=scan.parent / "out"), scan)
    assert len(inputs_in(scan.parent, leave=(scan.parent / "out").resolve())) == 1


def test_the_hash_is_of_bytes_not_of_names_and_order(tmp_path: Path) -> None:
    one, other = write_text(tmp_path / "a", "1"), write_text(tmp_path / "b", "2")
    first, marks = content_hash([one, other]), fingerprint([one])
    assert content_hash([other, one]) == first
    one.rename(tmp_path / "c")
    assert content_hash([tmp_path / "c", other]) == first
    assert fingerprint([tmp_path / "c"]) != marks
    write_text(tmp_path / "c", "3")
    assert content_hash([tmp_path / "c", other]) != first


def test_the_key_changes_with_what_changes_labels(model: str) -> None:
    usual = settings_hash(SegmentSettings(), None, None)
    assert settings_hash(SegmentSettings(batch_size=2), None, None) == usual
    others = [SegmentSettings(mirror=True), SegmentSettings(postprocess=False)]
    assert len({usual, settings_hash(others[0], None, None), settings_hash(others[1], None, None)}) == 3
    assert settings_hash(SegmentSettings(), "ct", None) != usual
    assert settings_hash(SegmentSettings(), None, None, straighten=True) != usual
    assert model_hash(model) != model_hash(None)


def test_names_are_taken_out_of_messages(tmp_path: Path) -> None:
    path = tmp_path / "Meier_Erika" / "Meier_Erika_CT.nii.gz"
    neutral = Anonymous([path])
    for text in (f"{path} is empty", f"{path.name} is damaged", f"in {path.parent.name}: x", "Meier_Erika_CT is bad"):
        assert "Meier" not in neutral(text)
    assert neutral("the scan is fine") == "the scan is fine"
    told = "lungs.nii.gz is damaged or cut short: its slices are missing"
    assert Anonymous([Path("/scans/slices/cut.nii.gz")])(told) == told
    assert "erika" not in Anonymous([Path("/data/erika/0001.dcm")])("The folder 'erika' holds nothing")


def test_tilted_slices_are_straightened_on_request_and_labels_lie_on_their_own_grid(task: Task, tmp_path: Path) -> None:
    volume, _ = thorax_ct((8, 40, 44), seed=4)
    angle = np.deg2rad(15)
    slanted = (0, np.sin(angle) * 36, np.cos(angle) * 36)  # from slice to slice, in planes that are axial
    places = [tuple(number * step for step in slanted) for number in range(8)]
    stored = (np.asarray(volume.array) + 1024).astype(np.uint16)
    series = tmp_path / "tilted"
    ct_series(series, stored, places, PixelSpacing=[7.6, 7.7], RescaleIntercept=-1024)
    rows = {}
    for straighten in (False, True):
        asked = dataclasses.replace(task, root=tmp_path / str(straighten), straighten=straighten)
        (rows[straighten],) = work(asked, series)["rows"]
        (labels,) = read(CohortFolder(asked.root).case(rows[straighten]["case"], LABELS), labels=True)
        (scan,) = read(series)
        assert labels.geometry.same_grid(scan.geometry)
    assert "straightened" in rows[True]["findings"] and "straightened" not in rows[False]["findings"]


def test_what_is_settled_depends_on_the_key(task: Task, scan: Path) -> None:
    record = work(task, scan)
    folder = CohortFolder(task.root)
    assert settled(folder, folder.record(record["input"]), task)
    assert not settled(folder, folder.record(record["input"]), dataclasses.replace(task, key="other"))
    assert not settled(folder, {}, task)


def test_no_name_gets_out_of_the_private_folder(task: Task, tmp_path: Path) -> None:
    make_cohort(tmp_path / "in", 7)
    for item in inputs_in(tmp_path / "in"):
        work_on(task, item, "cpu", 1)
    for path in task.root.rglob("*"):
        if path.is_file() and path.parent.name != "private":
            assert SECRET.encode() not in path.read_bytes(), path
    told = [json.loads(path.read_text()) for path in (task.root / "private").glob("*.json")]
    assert all(SECRET in str(entry) for entry in told)
    assert (task.root / "private").stat().st_mode & 0o777 == 0o700


def test_reports_are_written_on_request_and_added_later_without_segmenting_again(task: Task, scan: Path) -> None:
    (row,) = work(task, scan)["rows"]
    folder = CohortFolder(task.root)
    written = folder.case(row["case"], LABELS).stat().st_mtime_ns
    asked = dataclasses.replace(task, cohort=CohortSettings(report=True))
    assert not settled(folder, folder.record(row["input"]), asked)
    assert work(asked, scan)["unchanged"]
    assert settled(folder, folder.record(row["input"]), asked)
    assert folder.case(row["case"], LABELS).stat().st_mtime_ns == written
    text = folder.case(row["case"], "report.html").read_text()
    assert row["case"] in text
    assert SECRET not in text


def test_the_scan_of_a_row_is_opened_again(task: Task, scan: Path) -> None:
    (row,) = work(task, scan)["rows"]
    folder = CohortFolder(task.root)
    assert np.asarray(folder.volume(row).array).shape == (7, 40, 44)
    scan.unlink()
    with pytest.raises(ReadError, match="not where it was"):
        folder.volume(row)
