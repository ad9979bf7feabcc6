"""Two hundred scans under random kills, and a worker's memory over five hundred."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import nibabel
import numpy as np
import psutil
import pytest
from cohort_phantoms import (
    changed,
    check_whole,
    ended,
    finished,
    lungseg,
    make_cohort,
    rows_of,
    states_of,
    wait_for,
    workers_of,
)
from tiny_model import save_tiny

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", [1])
def test_two_hundred_scans_under_random_kills(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scans, out, model = tmp_path / "in", tmp_path / "out", save_tiny(tmp_path)
    bad = make_cohort(scans, 200, seed=seed)
    xrays = len(list(scans.glob("*.png")))
    command = ("cohort", scans, "-o", out, "--model", model, "--device", "cpu", "--workers", 2)
    for kill in ("worker", "client", "worker", "client", "worker"):
        process = lungseg(*command)
        aim = min(190, len(finished(out)) + int(rng.integers(10, 45)))
        wait_for(lambda aim=aim: len(finished(out)) >= aim, process)  # type: ignore[misc]
        if kill == "worker":
            workers_of(process)[int(rng.integers(2))].kill()
            time.sleep(rng.uniform(0, 3))
        process.kill()
        process.communicate()
        wait_for(lambda: not _cohort_workers())
    before = {row: changed(out)[row] for row in changed(out)}
    done = finished(out)
    code, said = ended(lungseg(*command), timeout=1500)
    assert code == 2, said
    assert f"{len(done)} input(s) were finished already" in said
    sound = 200 - xrays - sum(path.suffix != ".png" for path in bad)
    assert states_of(out) == {"done": sound, "failed": 200 - sound}
    assert all(row["reason"] for row in rows_of(out) if row["state"] == "failed")
    kept = {row["case"] for row in rows_of(out) if row["input"] in done and row["state"] == "done"}
    assert {case: changed(out)[case] for case in kept} == {case: before[case] for case in kept}
    check_whole(out)


def _cohort_workers() -> list[psutil.Process]:
    """Workers whose client is gone; they end by themselves."""
    orphans = [
        child for child in psutil.process_iter(["ppid", "cmdline"]) if "spawn_main" in str(child.info["cmdline"])
    ]
    return [child for child in orphans if child.info["ppid"] == 1 and child.status() != "zombie"]


def test_real_scans(tmp_path: Path, test_data: Path) -> None:
    """The bundled models on DICOM series, single slices, label maps and a folder of radiographs."""
    xrays = tmp_path / "xrays"
    xrays.mkdir()
    for path in sorted((test_data / "xray" / "images").glob("*.jpg"))[:3]:
        shutil.copy(path, xrays)
    out = tmp_path / "out"
    code, said = ended(
        lungseg("cohort", test_data / "ct" / "small", test_data / "ct" / "dicom", xrays, "-o", out), 3000
    )
    rows = rows_of(out)
    assert sum(row["state"] == "done" for row in rows) >= 7, said
    assert {row["modality"] for row in rows if row["state"] == "done"} == {"ct", "xray"}
    assert all("label map" in row["reason"] for row in rows if row["state"] == "left out")
    assert code in (0, 2)
    check_whole(out)


def test_memory_stays_flat_over_five_hundred_scans(tmp_path: Path) -> None:
    scans, out, model = tmp_path / "in", tmp_path / "out", save_tiny(tmp_path)
    scans.mkdir()
    rng = np.random.default_rng(3)
    for number in range(500):
        shape = (48, 48, int(rng.integers(6, 20)))
        voxels = rng.integers(-1000, 400, shape, dtype=np.int16)
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-6.0, -6.0, 16.0, 1.0])), scans / f"{number}.nii")
    process = lungseg("cohort", scans, "-o", out, "--model", model, "--device", "cpu", "--workers", 1)
    held: list[tuple[int, int]] = []
    while process.poll() is None:
        for worker in workers_of(process)[:1]:
            held.append((len(finished(out)), worker.memory_info().rss))
        time.sleep(0.2)
    assert len(finished(out)) == 500, ended(process)
    early, late = (
        np.median([rss for count, rss in held if low < count <= high]) for low, high in ((50, 200), (350, 500))
    )
    assert late < 1.1 * early
