"""Cohorts of phantoms: random anatomy and spacing, mixed formats, names that must not get out, a part of them broken."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from dicom_phantom import ct_series, places

from napari_lungseg import write
from napari_lungseg.phantom import thorax_ct, thorax_xray

SECRET = "Mustermann"
"""In the name of every input; the patient's name in the DICOM files, too."""
_FORMATS = (".nii.gz", ".mha", ".nrrd", "dicom", ".png", ".mhd")


def make_cohort(folder: Path, count: int, *, seed: int = 5, broken: float = 0.1) -> list[Path]:
    """Write ``count`` inputs, of which a share is cut short; returns the broken ones."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [_make(folder, number, rng) for number in range(count)]
    files = [number for number, path in enumerate(paths) if path.suffix in (".gz", ".nrrd", ".png")]
    bad = (
        [paths[number] for number in rng.choice(files, max(1, round(broken * count)), replace=False)] if broken else []
    )
    for path in bad:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    return bad


def _make(folder: Path, number: int, rng: np.random.Generator) -> Path:
    kind = _FORMATS[number % len(_FORMATS)]
    stem = f"{SECRET}_{number:03d}"
    if kind == ".png":
        volume, _ = thorax_xray((48, 56), seed=int(rng.integers(1 << 30)))
        return write(volume, folder / f"{stem}.png")
    shape = (int(rng.integers(6, 12)), int(rng.integers(36, 48)), int(rng.integers(36, 48)))
    spacing = tuple(extent / size * rng.uniform(0.9, 1.1) for extent, size in zip((288, 304, 340), shape, strict=True))
    volume, _ = thorax_ct(shape, spacing, seed=int(rng.integers(1 << 30)))
    if kind != "dicom":
        return write(volume, folder / f"{stem}{kind}")
    stored = (np.asarray(volume.array) + 1024).astype(np.uint16)
    tags = {"PixelSpacing": list(spacing[1:]), "SeriesInstanceUID": f"1.2.3.{number}", "ConvolutionKernel": "B70f"}
    tags |= {"SliceThickness": 1.25, "RescaleIntercept": -1024, "StudyID": SECRET}
    positions = places(len(stored), (1, 0, 0, 0, 1, 0), gap=spacing[0])
    ct_series(folder / stem, stored, positions, **tags)  # type: ignore[arg-type]
    return folder / stem


def lungseg(*arguments: object, cwd: Path | None = None) -> subprocess.Popen[str]:
    """``lungseg`` as a process of its own."""
    command = [sys.executable, "-m", "napari_lungseg", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd, env=quick())


def quick() -> dict[str, str]:
    """An environment in which processes do not fight for the processor."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def ended(process: subprocess.Popen[str], timeout: float = 500) -> tuple[int, str]:
    """Exit code of a process and all that it said."""
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out + err


def finished(out: Path) -> set[str]:
    """Inputs that are recorded as finished."""
    return {path.stem for path in (out / "records").glob("*.json")}


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str] | None = None, timeout: float = 400) -> None:
    """Wait until something holds, or fail when the process ends first or it takes too long."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        assert process is None or process.poll() is None, f"it ended too early: {ended(process)}"
        time.sleep(0.05)


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Worker processes of a client."""
    below = psutil.Process(process.pid).children(recursive=True)
    return [child for child in below if "spawn_main" in " ".join(child.cmdline())]


def rows_of(out: Path) -> list[dict[str, str]]:
    """The table."""
    with (out / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def states_of(out: Path) -> dict[str, int]:
    """State → number of rows."""
    states = [row["state"] for row in rows_of(out)]
    return {state: states.count(state) for state in set(states)}


def check_whole(out: Path) -> None:
    """Everything that is there can be read, everything recorded is there, and nothing half-written is left."""
    import nibabel

    for path in (out / "records").glob("*.json"):
        for row in json.loads(path.read_text())["rows"]:
            if row["state"] == "done":
                labels = nibabel.load(out / "cases" / row["case"] / "labels.nii.gz")
                assert labels.shape[2] == row["slices"]
                assert np.asarray(labels.dataobj).max() <= 2
    assert not list(out.rglob(".writing-*"))


def changed(out: Path) -> dict[str, int]:
    """Label map → when it was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("cases/*/labels.nii.gz")}
