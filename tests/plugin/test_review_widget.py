"""*Cohort review* on a viewer without a window: order, verdicts, corrected labels, keys, going on later."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_lungseg import read, write
from napari_lungseg.cohort.folder import (
    CORRECTED,
    DRAFT,
    FORMAT,
    LABELS,
    MANIFEST,
    REVIEW,
    ROWS,
    CohortFolder,
    write_json,
)
from napari_lungseg.cohort.review import keep_draft, training_folder
from napari_lungseg.cohort.rows import empty_row, worst_first
from napari_lungseg.plugin import review_draft
from napari_lungseg.plugin.review_widget import ReviewWidget
from napari_lungseg.plugin.shortcuts import KEYS
from napari_lungseg.training.work import image_hash, open_work

from .conftest import DIRECTIONS, make_labels, make_volume

QUALITIES = {"good": 0.97, "bad": 0.61, "fair": 0.9}


def make_cohort(root: Path, direction: str = "oblique") -> CohortFolder:
    """Three cases that were segmented, one that could not be read, one that was left out; as a run leaves them."""
    folder, rows = CohortFolder(root / "out"), []
    for case, quality in QUALITIES.items():
        volume = make_volume(direction)
        scan = write(volume, root / f"{case}.nii.gz")
        write(make_labels(volume), folder.case(case, LABELS))
        row = empty_row(case, case, 0) | {"state": "done", "expected_dice": quality, "modality": "ct", "doubts": 0}
        folder.write_record({"input": case, "rows": [row]}, [scan])
        rows.append(row)
    rows.append(empty_row("unread-1", "", 0) | {"reason": "The file ends too early."})
    rows.append(empty_row("other", "other", 0) | {"state": "left out", "reason": "a localizer"})
    write_json(folder.root / MANIFEST, {"format": FORMAT, "settings": {"modality": None}})
    write_json(folder.root / ROWS, worst_first([*rows, rows[0]]))
    return folder


@pytest.fixture
def widget(model_viewer: Any, qtbot: Any) -> Iterator[ReviewWidget]:
    made = ReviewWidget(model_viewer)
    qtbot.addWidget(made)
    yield made
    made.close_down()


def wait(widget: ReviewWidget, qtbot: Any) -> None:
    qtbot.waitUntil(lambda: not widget.box.is_running and widget._wanted is None, timeout=60_000)


def opened(widget: ReviewWidget, qtbot: Any, folder: CohortFolder) -> None:
    widget.open(folder.root)
    wait(widget, qtbot)


def press(widget: ReviewWidget, qtbot: Any, name: str) -> None:
    """What the viewer does when a key is pressed."""
    from napari.utils.key_bindings import coerce_keybinding

    widget.viewer.keymap[coerce_keybinding(KEYS[name])](widget.viewer)
    wait(widget, qtbot)


def case_of(widget: ReviewWidget) -> str:
    return str(widget.rows[widget.number]["case"])


def review_of(folder: CohortFolder, case: str) -> dict[str, str]:
    content = json.loads(folder.case(case, REVIEW).read_text())
    return {name: content[name] for name in ("verdict", "notes")}


def test_worst_first_by_keys_alone_and_on_where_one_stopped(
    widget: ReviewWidget, model_viewer: Any, qtbot: Any, tmp_path: Path, notices: list[Any]
) -> None:
    folder = make_cohort(tmp_path)
    before = folder.case("bad", LABELS).read_bytes()
    opened(widget, qtbot, folder)
    assert [row["case"] for row in widget.rows] == ["unread-1", "bad", "fair", "good"]
    assert case_of(widget) == "unread-1" and "too early" in widget.about.text() and not model_viewer.layers
    assert widget.reject_button.isEnabled() and not widget.accept_button.isEnabled()
    press(widget, qtbot, "accept")
    assert case_of(widget) == "unread-1" and not widget.reviews[0].verdict
    press(widget, qtbot, "next case")
    assert case_of(widget) == "bad" and [layer.name for layer in model_viewer.layers] == ["bad", "bad labels"]
    widget.notes.setText("apex is missing")
    press(widget, qtbot, "reject")
    assert case_of(widget) == "fair" and [layer.name for layer in model_viewer.layers] == ["fair", "fair labels"]
    assert review_of(folder, "bad") == {"verdict": "rejected", "notes": "apex is missing"} and not widget.notes.text()
    press(widget, qtbot, "accept")
    assert case_of(widget) == "good" and review_of(folder, "fair")["verdict"] == "accepted"
    press(widget, qtbot, "previous case")
    widget.notes.setText("look again")
    press(widget, qtbot, "previous case")
    assert case_of(widget) == "bad" and widget.notes.text() == "apex is missing"
    assert review_of(folder, "fair") == {"verdict": "accepted", "notes": "look again"}
    assert folder.case("bad", LABELS).read_bytes() == before
    later = ReviewWidget(model_viewer)
    qtbot.addWidget(later)
    opened(later, qtbot, folder)
    assert [said.verdict for said in later.reviews] == ["", "rejected", "accepted", ""]
    assert case_of(later) == "unread-1" and "2 of 4" not in later.about.text()
    later.close_down()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_corrected_labels_lie_beside_the_originals_and_are_learned_from(
    direction: str, widget: ReviewWidget, qtbot: Any, tmp_path: Path, notices: list[Any]
) -> None:
    folder = make_cohort(tmp_path, direction)
    opened(widget, qtbot, folder)
    press(widget, qtbot, "next case")
    original = folder.case("bad", LABELS).read_bytes()
    layer = widget.shown.labels
    layer.data = np.where(layer.data == 2, 0, layer.data)
    widget.notes.setText("no left lung")
    press(widget, qtbot, "correct")
    assert case_of(widget) == "fair" and review_of(folder, "bad") == {"verdict": "corrected", "notes": "no left lung"}
    assert folder.case("bad", LABELS).read_bytes() == original
    expected, (made,) = make_labels(make_volume(direction)), read(folder.case("bad", CORRECTED), labels=True)
    np.testing.assert_array_equal(made.array, np.where(expected.array == 2, 0, expected.array))
    assert made.geometry.same_grid(expected.geometry) and made.names == expected.names
    (item,) = open_work(training_folder(folder, "ct")).items
    scan = folder.volume(widget.rows[1])
    assert item.image_hash == image_hash(scan) and item.image_path == tmp_path / "bad.nii.gz"
    known = item.painted(scan).standard()
    np.testing.assert_array_equal(known.labels.array, layer.data)
    assert item.complete == frozenset(range(len(layer.data)))


def test_changed_labels_are_asked_about(
    widget: ReviewWidget, qtbot: Any, tmp_path: Path, notices: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_cohort(tmp_path)
    opened(widget, qtbot, folder)
    press(widget, qtbot, "next case")
    answers = ["cancel", "discard", "save"]
    monkeypatch.setattr(widget, "ask_edits", lambda: answers.pop(0))
    widget.shown.labels.data[2] = 1
    press(widget, qtbot, "next case")
    assert case_of(widget) == "bad" and widget.shown.is_edited
    press(widget, qtbot, "next case")
    assert case_of(widget) == "fair" and not folder.case("bad", REVIEW).exists()
    widget.shown.labels.data[2] = 1
    widget.table.choose(3)
    wait(widget, qtbot)
    assert case_of(widget) == "good" and review_of(folder, "fair")["verdict"] == "corrected" and not answers


@pytest.mark.parametrize("closing", ["close_down", "clock"])
def test_changes_survive_a_window_that_closes(
    closing: str, widget: ReviewWidget, model_viewer: Any, qtbot: Any, tmp_path: Path, notices: list[Any]
) -> None:
    folder = make_cohort(tmp_path)
    opened(widget, qtbot, folder)
    press(widget, qtbot, "next case")
    widget.shown.labels.data[2] = 1
    changed = widget.shown.labels.data.copy()
    widget.notes.setText("half of it done")
    if closing == "clock":
        widget.draft.keep()
        qtbot.waitUntil(folder.case("bad", DRAFT).is_file, timeout=60_000)
        widget.draft._shown = None  # from here on as if the program had ended
    widget.close_down()
    assert not folder.case("bad", CORRECTED).exists()
    assert review_of(folder, "bad") == {"verdict": "", "notes": "half of it done"}
    model_viewer.layers.clear()
    later = ReviewWidget(model_viewer)
    qtbot.addWidget(later)
    opened(later, qtbot, folder)
    assert case_of(later) == "bad" and later.notes.text() == "half of it done"
    np.testing.assert_array_equal(later.shown.labels.data, changed)
    assert "not saved" in later.box.message.text() and later.shown.is_edited
    press(later, qtbot, "correct")
    assert case_of(later) == "fair" and review_of(folder, "bad")["verdict"] == "corrected"
    assert not list(folder.case("bad").glob("draft*"))
    later.close_down()


def test_changes_that_are_undone_or_discarded_are_kept_nowhere(
    widget: ReviewWidget, qtbot: Any, tmp_path: Path, notices: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_cohort(tmp_path)
    opened(widget, qtbot, folder)
    monkeypatch.setattr(widget, "ask_edits", lambda: "discard")
    press(widget, qtbot, "next case")
    for undo in (widget.restore, widget.next_case):
        widget.shown.labels.data[2] = 1
        widget.draft.keep()
        qtbot.waitUntil(folder.case("bad", DRAFT).is_file, timeout=60_000)
        undo()
        wait(widget, qtbot)
        widget.draft.keep()
        assert not list(folder.case("bad").glob("draft*"))
    assert case_of(widget) == "fair"


def test_a_change_undone_while_it_is_written_is_kept_when_it_is_made_again(
    widget: ReviewWidget, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The late end of the first writing said that the second was on the disk already."""

    def slowly(*of: Any) -> None:
        keep_draft(*of)
        time.sleep(0.5)

    monkeypatch.setattr(review_draft, "keep_draft", slowly)
    folder = make_cohort(tmp_path)
    opened(widget, qtbot, folder)
    press(widget, qtbot, "next case")
    before = widget.shown.labels.data.copy()
    draft = folder.case("bad", DRAFT)
    widget.shown.labels.data[2] = 1
    widget.draft.keep()
    qtbot.waitUntil(draft.is_file, timeout=60_000)
    widget.shown.labels.data[:] = before
    widget.draft.keep()
    assert not draft.exists()
    qtbot.wait(800)
    widget.shown.labels.data[2] = 1
    widget.draft.keep()
    qtbot.waitUntil(draft.is_file, timeout=5_000)


def test_another_cohort_is_opened_once_changes_are_saved(
    widget: ReviewWidget, qtbot: Any, tmp_path: Path, notices: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, other = make_cohort(tmp_path), make_cohort(tmp_path / "other")
    opened(widget, qtbot, folder)
    press(widget, qtbot, "next case")
    widget.shown.labels.data[2] = 1
    monkeypatch.setattr(widget, "ask_edits", lambda: "save")
    widget.open(other.root)
    qtbot.waitUntil(lambda: widget.folder.root == other.root, timeout=60_000)
    assert review_of(folder, "bad")["verdict"] == "corrected"
    wait(widget, qtbot)


def test_a_correction_is_taken_back(widget: ReviewWidget, qtbot: Any, tmp_path: Path, notices: list[Any]) -> None:
    folder = make_cohort(tmp_path)
    opened(widget, qtbot, folder)
    for case in ("bad", "fair"):
        widget.go_to([row["case"] for row in widget.rows].index(case))
        wait(widget, qtbot)
        widget.shown.labels.data[2] = 1
        press(widget, qtbot, "correct")
    assert len(open_work(training_folder(folder, "ct")).items) == 2
    widget.go_to(1)
    wait(widget, qtbot)
    assert (widget.shown.labels.data[2] == 1).all()
    press(widget, qtbot, "accept")
    assert review_of(folder, "bad")["verdict"] == "corrected"
    widget.go_to(1)
    wait(widget, qtbot)
    widget.restore()
    press(widget, qtbot, "accept")
    assert review_of(folder, "bad")["verdict"] == "accepted" and not folder.case("bad", CORRECTED).exists()
    assert [item.image_name for item in open_work(training_folder(folder, "ct")).items] == ["fair"]


def test_a_full_disk_keeps_the_case_and_its_changes(
    widget: ReviewWidget, qtbot: Any, tmp_path: Path, notices: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_cohort(tmp_path)
    opened(widget, qtbot, folder)
    press(widget, qtbot, "next case")
    widget.shown.labels.data[2] = 1
    folder.case("bad", CORRECTED).mkdir()
    press(widget, qtbot, "correct")
    assert case_of(widget) == "bad" and widget.shown.is_edited and not folder.case("bad", REVIEW).exists()
    assert "folder" in notices[-1].message


def test_why_a_scan_could_not_be_read_is_told_once(
    widget: ReviewWidget, qtbot: Any, tmp_path: Path, notices: list[Any]
) -> None:
    folder = make_cohort(tmp_path)
    opened(widget, qtbot, folder)
    assert case_of(widget) == "unread-1" and widget.about.text().count("too early") == 1
    assert widget.box.message.text() == "0 of 4 cases are reviewed." and not notices
    widget.rows[1]["state"], widget.rows[1]["series"] = "failed", "CT 3"  # it could be read then
    (tmp_path / "bad.nii.gz").unlink()
    widget.next_case()
    wait(widget, qtbot)
    assert "not where it was" in widget.box.message.text() and len(notices) == 1


def test_who_goes_on_quickly_gets_the_last(
    widget: ReviewWidget, model_viewer: Any, qtbot: Any, tmp_path: Path, notices: list[Any]
) -> None:
    opened(widget, qtbot, make_cohort(tmp_path))
    for _ in range(3):
        widget.next_case()
    wait(widget, qtbot)
    assert [layer.name for layer in model_viewer.layers] == ["good", "good labels"]
    widget.open(tmp_path)
    assert "no results of a cohort" in notices[-1].message
