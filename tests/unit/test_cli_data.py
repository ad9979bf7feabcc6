"""``lungseg data``: the summary, JSON, the contact sheet and the split file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import runner
from made_datasets import make_finding_lungs, make_folders, make_isic, make_montgomery, make_split_csv
from PIL import Image

from napari_lungseg.training.splits import read_splits
from napari_lungseg.volume import label_colour


@pytest.fixture
def lungseg(capsys):
    return runner(capsys)


def test_the_summary_tells_pairs_sizes_labels_and_problems(lungseg, tmp_path: Path) -> None:
    make_montgomery(tmp_path)
    done = lungseg("data", tmp_path)
    assert (done.code, done.err) == (0, "")
    for words in (
        "layout montgomery, xray in a.u.",
        "3 of 4 cases can be used, 3 with masks; labels: 1 right lung, 2 left lung",
        "44 × 60 (3)",
        "0 1 2 (3)",
        "not split: 3 cases, 2 patients",
        "MCUCXR_0300_0.png has only 1 of 2 masks",
        "MCUCXR_0009_0 is left out",
    ):
        assert words in done.out


def test_json_is_all_there_is_and_names_every_case(lungseg, tmp_path: Path) -> None:
    make_split_csv(tmp_path)
    done = lungseg("data", tmp_path, "--json")
    facts = json.loads(done.out)
    assert facts["layout"] == "split-csv"
    assert facts["labels"] == {"1": "right lung", "2": "left lung"}
    assert facts["parts"] == {"train": 2, "val": 1, "test": 1}
    assert {problem["code"] for problem in facts["problems"]} >= {"missing-file", "unusable"}
    assert [case["case"] for case in facts["cases"]] == ["0", "1", "2", "3", "4"]
    assert facts["cases"][4]["rows"] is None
    assert 0 < facts["cases"][0]["foreground_%"] < 100


def test_many_alike_problems_are_counted(lungseg, tmp_path: Path) -> None:
    make_folders(tmp_path)
    for number in range(9):
        (tmp_path / f"images/lonely{number}.png").write_bytes((tmp_path / "images/MCUCXR_0100.png").read_bytes())
    done = lungseg("data", tmp_path)
    assert done.out.count("has no mask") == 5
    assert "5 more of orphan-image" in done.out


def test_copies_in_another_part_are_counted(lungseg, tmp_path: Path) -> None:
    make_split_csv(tmp_path)
    (tmp_path / "images/3.png").write_bytes((tmp_path / "images/0.png").read_bytes())
    done = lungseg("data", tmp_path)
    assert "0 and 3 have the same pixels, one in train and one in test." in done.out
    assert "! 1 cases of train and val belong to patients with a copy in another part." in done.out
    assert json.loads(lungseg("data", tmp_path, "--json").out)["copies"] == [["0", "3"]]


def test_a_split_is_drawn_and_written_once(lungseg, tmp_path: Path) -> None:
    make_folders(tmp_path / "in")
    target = tmp_path / "mine.csv"
    done = lungseg("data", tmp_path / "in", "--split-file", target, "--seed", 3)
    assert done.code == 0
    assert str(target) in done.out
    written = target.read_text()
    assert len(read_splits(target)) == 3  # what cannot be used is not split
    again = lungseg("data", tmp_path / "in", "--split-file", target, "--seed", 4)
    assert again.code == 0
    assert target.read_text() == written
    assert "is not in mine.csv" in again.out


def test_the_split_file_is_a_data_set_of_its_own(lungseg, tmp_path: Path) -> None:
    make_montgomery(tmp_path / "in")
    lungseg("data", tmp_path / "in", "--split-file", tmp_path / "mine.csv")
    done = lungseg("data", tmp_path / "mine.csv")
    assert "layout split-csv" in done.out
    assert "3 of 3 cases can be used" in done.out
    assert "0 1 2 (3)" in done.out


@pytest.mark.parametrize("make", [make_montgomery, make_isic, make_finding_lungs])
def test_the_contact_sheet_shows_images_with_outlines(lungseg, tmp_path: Path, make) -> None:
    make(tmp_path / "in")
    target = tmp_path / "out" / "sheet.png"
    done = lungseg("data", tmp_path / "in", "--contact-sheet", target)
    assert done.code == 0
    assert str(target) in done.out
    sheet = np.asarray(Image.open(target))
    assert sheet.shape[1] == 3 * 240
    colour = tuple(int(label_colour(1)[k : k + 2], 16) for k in (1, 3, 5))
    for tile in np.split(sheet, 3, axis=1):
        outlined = np.all(tile == colour, axis=-1)
        assert 50 < outlined.sum() < 2500
        assert len(np.unique(tile[~outlined])) > 20


def test_a_folder_that_is_no_data_set_is_one_line(lungseg, tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("hello")
    done = lungseg("data", tmp_path)
    assert done.code == 2
    assert done.out == ""
    assert len(done.err.splitlines()) == 1
    assert "readme.txt" in done.err
