"""``lungseg cohort status``: while a run goes on, and when it was killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from filelock import FileLock

from napari_lungseg.cli.cohort import status
from napari_lungseg.cohort.folder import STATUS, write_json
from napari_lungseg.errors import ReadError

TOLD = {
    "state": "running",
    "inputs": 9,
    "finished": 4,
    "done": 3,
    "failed": 1,
    "left out": 0,
    "running": 2,
    "workers": 1,
    "per_hour": 120.0,
    "seconds_left": 150,
    "updated": "2030-01-01T00:00:00Z",
}


def said(folder: Path, capsys: pytest.CaptureFixture[str], **told: object) -> str:
    write_json(folder / STATUS, TOLD | told)
    status(folder)
    return capsys.readouterr().out


def test_how_far_a_run_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(tmp_path, capsys)
    assert "4 of 9 inputs: 3 done, 1 failed, 0 left out; running" in text
    assert "2 under way on 1 worker, 120 an hour, about 2 min left" in text
    status(tmp_path, as_json=True)
    assert json.loads(capsys.readouterr().out)["finished"] == 4


def test_a_run_without_a_word_was_killed_unless_it_still_holds_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = {"updated": "2020-01-01T00:00:00Z", "workers": 0}
    assert "it was killed" in said(tmp_path, capsys, **old)
    with FileLock(tmp_path / ".lock"):
        text = said(tmp_path, capsys, **old)
    assert "workers are starting" in text
    assert "killed" not in text


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="no results of a cohort"):
        status(tmp_path)
