"""The page and the table of a cohort."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

from napari_lungseg.cohort.case import Task
from napari_lungseg.cohort.folder import REVIEW, CohortFolder, write_json
from napari_lungseg.cohort.inputs import Input
from napari_lungseg.cohort.page import page_of
from napari_lungseg.cohort.results import Results
from napari_lungseg.cohort.review import Review, write_review
from napari_lungseg.cohort.rows import empty_row, worst_first
from napari_lungseg.cohort.settings import CohortSettings


def row(case: str, **told: Any) -> dict[str, Any]:
    return empty_row(case, case, 0) | {"state": "done", "modality": "ct", "doubts": 0} | told


def content_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_worst_first() -> None:
    rows = [
        row("good", expected_dice=0.99),
        row("out", state="left out"),
        row("poor", expected_dice=0.9),
        row("doubted", expected_dice=0.98, doubts=2),
        row("broken", state="failed"),
        row("unsure", expected_dice=None),
        row("calibrated", expected_dice=0.99, predicted_dice=0.8),
        row("empty", doubts=1),
    ]
    order = ["broken", "empty", "doubted", "calibrated", "poor", "good", "unsure", "out"]
    assert [entry["case"] for entry in worst_first(rows)] == order


def test_the_page_needs_nothing_beside_it_and_runs_no_foreign_code(tmp_path: Path) -> None:
    folder = CohortFolder(tmp_path)
    told = [{"code": "low-confidence", "message": "</script><script>alert(1)</script>"}]
    folder.case("a").mkdir(parents=True)
    folder.case("a", "thumbnail.jpg").write_bytes(b"picture")
    write_json(folder.case("a", REVIEW), {"format": 1, "verdict": "accepted"})
    page = page_of(folder, [row("a", told=told, series="<b>", right_lung_volume_ml=3.5)], "2030-01-02T03:04:05Z")
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert page.count("</script>") == 3
    content = content_of(page)
    assert content["rows"][0]["told"][0] == told[0] | {"doubt": True}
    assert content["rows"][0]["picture"].startswith("data:image/jpeg;base64,")
    assert '{"a": "accepted"}' in page
    assert "right_lung_volume_ml" in content["columns"]


def test_a_verdict_is_on_the_page_and_in_the_table_at_once(tmp_path: Path) -> None:
    folder = CohortFolder(tmp_path)
    for case in "ab":
        folder.case(case).mkdir(parents=True)
    (tmp_path / "index.html").write_text(page_of(folder, [row("a", series="@DATA@"), row("b")], "2030"))
    before = content_of((tmp_path / "index.html").read_text())
    write_review(folder, "a", Review("accepted", "fine, all of it"))
    write_review(folder, "b", Review("</script>"))
    write_review(folder, "a", Review("rejected"))
    page = (tmp_path / "index.html").read_text()
    assert '{"a": "rejected", "b": "\\u003c/script>"}' in page
    assert content_of(page) == before
    with (tmp_path / "reviews.csv").open(newline="") as file:
        assert {line["case"]: line["verdict"] for line in csv.DictReader(file)} == {"a": "rejected", "b": "</script>"}


def results(tmp_path: Path, columns: list[dict[str, Any]], **settings: Any) -> Results:
    inputs = [Input((tmp_path / f"{number}.nii",), columns=given) for number, given in enumerate(columns)]
    task = Task(tmp_path / "out", "key", cohort=CohortSettings(**settings))
    made = Results(CohortFolder(task.root), task, inputs, {})
    for number in range(len(inputs)):
        made.take(
            number, {"rows": [row(f"c{number}", slice_thickness_mm=1.0 + number, volume_ml=5.0)], "recorded": True}
        )
    return made


def test_columns_of_the_user_do_not_hide_ours_nor_tell_who_it_is(tmp_path: Path) -> None:
    given = {
        "arm": "A",
        "state": "sick",
        "volume_ml": "7",
        "PatientID": "4711",
        "birth date": "1.1.1970",
        "scan": "a/b",
    }
    (found,) = results(tmp_path, [given]).rows()
    assert (found["state"], found["input_state"]) == ("done", "sick")
    assert (found["volume_ml"], found["input_volume_ml"]) == (5.0, "7")
    assert found["arm"] == "A"
    assert not {"PatientID", "birth date", "scan"} & set(found)


def test_finished_scans_that_a_new_filter_rejects_are_left_out(tmp_path: Path) -> None:
    found = {entry["case"]: entry for entry in results(tmp_path, [{}, {}], thickest=1.5).rows()}
    assert [found[case]["state"] for case in ("c0", "c1")] == ["done", "left out"]
    assert "2 mm" in found["c1"]["reason"]


def test_a_killed_run_leaves_a_table_that_can_be_read(tmp_path: Path) -> None:
    made = results(tmp_path, [{}, {}])
    made.begin()
    made.next_tables = 0.0
    made.tick(running=1, workers=1)
    assert len(CohortFolder.open(made.folder.root).rows()) == 2
    made.end("stopped")
    runs = json.loads((made.folder.root / "manifest.json").read_text())["runs"]
    assert [run["state"] for run in runs] == ["stopped"]
