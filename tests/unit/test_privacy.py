"""Nothing that is written or shown names the patient: every command, every format, and what is the exception, and why."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import Outcome, runner
from needles import FILE, HEADER, PATHS, WORDS, found_in, leaks, planted
from tiny_model import save_tiny
from training_set import RECIPE, make_training_set

from napari_lungseg.cohort.case import Task
from napari_lungseg.cohort.folder import CohortFolder
from napari_lungseg.cohort.inputs import iter_inputs
from napari_lungseg.cohort.results import Results
from napari_lungseg.cohort.rows import empty_row
from napari_lungseg.cohort.settings import CohortSettings
from napari_lungseg.io import read, write
from napari_lungseg.progress import drain

# Below the folder of the results; `{…}` are the inputs.
COMMANDS: dict[str, tuple[str, ...]] = {
    "info": ("{scan}", "{segmentation}"),
    "info --json": ("{scan}", "{segmentation}", "--json"),
    "series": ("{scan}",),
    "series --json": ("{scan}", "--json"),
    **{
        f"segment {suffix}": ("{scan}", "-o", f"{{out}}/lungs{suffix}", "--model", "{model}", "--report", "--json")
        for suffix in (".nii.gz", ".seg.nrrd", ".mha", ".tif", ".seg.dcm", ".labelmap.dcm", ".rtstruct.dcm")
    },
    "segment": ("{scan}", "-o", "{out}", "--model", "{model}", "--uncertainty"),
    "measure": ("{scan}", "{labels}", "-o", "{out}/table.csv"),
    "measure --json": ("{scan}", "{labels}", "-o", "{out}/table.json", "--json"),
    "measure --profile": ("{scan}", "{labels}", "-o", "{out}/table.parquet", "--profile"),
    "measure --histogram": ("{scan}", "{segmentation}", "-o", "{out}/table.csv", "--histogram"),
    "report": ("{scan}", "{segmentation}", "-o", "{out}/page.html"),
    "evaluate": ("{labels}", "{labels}", "-o", "{out}", "--images", "{scan}"),
    "evaluate --slices": ("{labels}", "{labels}", "--slices", "{out}/a.csv", "--disagreement", "{out}/a.nii.gz"),
    "cohort": ("{scan}", "-o", "{out}", "--model", "{model}", "--device", "cpu", "--report"),
    "anonymise": ("{sound}", "{segmentation}", "-o", "{out}"),
    "train-painted": (
        *("{scan}", "{labels}", "-o", "{out}/m.safetensors", "--start-from", "{model}", "--seconds", "2"),
        *("--device", "cpu", "--work", "{out}/work"),
    ),
    "data": ("{data}", "--contact-sheet", "{out}/sheet.png"),
    "data prepare": ("{data}", "--recipe", "{recipe}", "--cache", "{out}"),
    "train": ("{data}", "--recipe", "{recipe}", "-o", "{out}", "--cache", "{out}", "--epochs", "1", "--device", "cpu"),
}
# They open no scan, or are tested with a server of their own (test_dicomweb.py, tests/plugin/test_pacs_widget.py).
WITHOUT = {"demo", "fetch", "store", "models", "models show", "models fetch", "models import", "models export"}
WITHOUT |= {"recipes", "cohort status"}
# File → what it must name, and why (docs/how-to/pacs-and-privacy.md).
MAY_NAME = {
    r"lungs\.(seg|labelmap|rtstruct)\.dcm": (WORDS, "the standard: a derived object carries its source's patient"),
    r"private/.*": (PATHS, "a cohort has to find its scans again; the folder is its owner's alone"),
    r"Ordnerling[^/]*": (PATHS, "results in a folder are called after their inputs; their content is not"),
    r"(cases\.csv|summary\.json|report\.html)": (PATHS, "pairs of labels are called after their files"),
    r"splits\.csv": (PATHS, "it says which file of the data set is in which part"),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Everything that a command is given; names of files and folders are needles, too."""
    home = tmp_path_factory.mktemp("inputs")
    scan, labels = planted(home)
    sound = home / "sound"
    sound.mkdir()
    for path in scan.glob(f"{FILE}_0*"):
        (sound / path.name).write_bytes(path.read_bytes())
    data = make_training_set(home / "data", 10)
    for path in [*data.glob("images/*"), *data.glob("masks/*")]:
        path.rename(path.with_name(path.name.replace("case", FILE)))
    (home / "tiny.toml").write_text(RECIPE)
    return {
        "scan": scan,
        "sound": sound,
        "labels": write(labels, home / f"{FILE}-labels.nii.gz"),
        "segmentation": write(labels, home / f"{FILE}.seg.dcm", reference=sound),
        "model": save_tiny(home),
        "data": data,
        "recipe": home / "tiny.toml",
    }


@pytest.fixture
def lungseg(capsys: Any) -> Callable[..., Outcome]:
    return runner(capsys)


def typed(arguments: tuple[str, ...], inputs: dict[str, Path], out: Path) -> list[str]:
    return [argument.format(out=out, **inputs) for argument in arguments]


def allowed(name: str) -> tuple[str, ...]:
    return tuple(word for pattern, (words, _) in MAY_NAME.items() if re.fullmatch(pattern, name) for word in words)


def test_the_needles_are_there_and_are_found(inputs: dict[str, Path]) -> None:
    held = leaks(inputs["sound"])
    assert len(held) == 9 and all(set(words) == {*WORDS, FILE} - {"1931-04-17"} for words in held.values())
    (volume,) = read(inputs["scan"])
    assert [finding for finding in volume.findings if FILE in finding.message]


@pytest.mark.parametrize("command", COMMANDS)
def test_nobody_is_named(
    command: str,
    inputs: dict[str, Path],
    tmp_path: Path,
    lungseg: Callable[..., Outcome],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    out = tmp_path / "out"
    out.mkdir()
    words = [word for word in command.split() if not word.startswith(("-", "."))]
    outcome = lungseg(*words, *typed(COMMANDS[command], inputs, out))
    assert outcome.code == 0, outcome.err
    # A terminal repeats the paths that were typed, and says which file of them is damaged.
    assert found_in(outcome.out + outcome.err + caplog.text, WORDS) == []
    found = {name: [word for word in held if word not in allowed(name)] for name, held in leaks(out).items()}
    assert {name: held for name, held in found.items() if held} == {}
    inside = [path for path in out.rglob("Ordnerling*") if found_in(path.read_bytes())]
    assert inside == []


def test_every_command_is_tried() -> None:
    from napari_lungseg.cli.app import app

    named = {" ".join(word for word in command.split() if not word.startswith(("-", "."))) for command in COMMANDS}
    there = set()
    for name in (name for name in app if not name.startswith("-")):
        below = [other for other in app[name] if not other.startswith("-")]
        there |= {name, *(f"{name} {other}" for other in below)}
    assert there == named | WITHOUT


def test_whoever_asks_is_told(inputs: dict[str, Path], tmp_path: Path, lungseg: Callable[..., Outcome]) -> None:
    whose = [HEADER["PatientName"], HEADER["PatientID"]]
    scan, labels, keep = inputs["scan"], inputs["labels"], "--keep-identifiers"
    for command in (("info", scan), ("info", inputs["segmentation"]), ("series", scan), ("measure", scan, labels)):
        told = lungseg(*command, keep)
        assert all(word in told.out for word in whose), told
        assert all(word in lungseg(*command, keep, "--json").out for word in whose)
    (record,) = json.loads(lungseg("info", inputs["labels"], keep, "--json").out)
    assert "patient_name" not in record


def test_a_cohort_whose_owner_asks_names_its_patients(inputs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "scans.csv").write_text(f"path,MRN,group,patient_id\n{inputs['sound']},4711,a,own\n")
    for keep, shown in ((False, (None, None, None)), (True, (HEADER["PatientID"], "4711", "own"))):
        task = Task(tmp_path / "out", "key", cohort=CohortSettings(keep_identifiers=keep))
        found = drain(iter_inputs([tmp_path / "scans.csv"], task.root, identifiers=keep))
        results = Results(CohortFolder(task.root), task, found, {})
        results.take(0, {"rows": [empty_row("c0", "c0", 0)], "recorded": True})
        results.end("finished")
        (row,) = CohortFolder(task.root).rows()
        assert tuple(row.get(name) for name in ("patient_id", "MRN", "input_patient_id")) == shown
        assert row["group"] == "a" and bool(leaks(task.root / "..", ("4711",)).get("out/results.csv")) is keep
