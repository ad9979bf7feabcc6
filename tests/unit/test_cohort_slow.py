"""Two hundred scans while everything dies that can, real scans, and a worker's memory over five hundred."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from cohort_phantoms import (
    changed,
    check_whole,
    dask_cluster,
    ended,
    fill,
    finished,
    inputs_in,
    is_broken,
    lungseg,
    make_cohort,
    rows_of,
    small_disk,
    wait_for,
    workers_of,
)
from tiny_model import save_tiny

from napari_lungseg import evaluate, read, segment

pytestmark = pytest.mark.slow

COUNT, SEED = 200, 1
ROUNDS = ("worker", "client", "scheduler", "disk", "worker", "scheduler", "client")


@pytest.mark.parametrize("bundled", [False, True])
def test_two_hundred_scans_while_everything_dies(tmp_path: Path, bundled: bool) -> None:
    """CT and radiographs in six formats, of which a tenth is damaged; the tiny model knows CT alone, and is quick."""
    scans, disk = tmp_path / "in", tmp_path / "disk"
    model = None if bundled else str(save_tiny(tmp_path))
    make_cohort(scans, COUNT, seed=SEED)
    started, kills = time.monotonic(), 0
    with small_disk(disk, 100) as mounted:
        rounds = [what for what in ROUNDS if mounted or what != "disk"]
        run = _Disturbed(scans, disk / "out", np.random.default_rng(SEED), model)
        for number, what in enumerate(rounds, start=1):
            before, dates = finished(run.out), changed(run.out)
            getattr(run, f"{what}_dies")(COUNT * number // (len(rounds) + 2))
            check_whole(run.out, killed=True)
            assert finished(run.out) > before, what
            assert {case: changed(run.out)[case] for case in dates} == dates, what
            kills += what != "disk"
        before, dates = finished(run.out), changed(run.out)
        code, said = ended(lungseg(*run.command), timeout=3000)
        assert code == 2, said
        already = int(re.search(r"(\d+) input\(s\) were finished already", said)[1])  # type: ignore[index]
        # Empty files have one record together.
        assert 0 <= already - len(before) <= COUNT - len(finished(run.out))
        assert {case: changed(run.out)[case] for case in dates} == dates
        sys.stderr.write(f"\n{COUNT} scans, {kills} kills, {time.monotonic() - started:.0f} s; {_machine()}\n")
        _check_nothing_is_lost(scans, run.out, bundled=bundled)
        _check_against_undisturbed(run.out, np.random.default_rng(SEED), model)


def _check_nothing_is_lost(scans: Path, out: Path, *, bundled: bool) -> None:
    """One row for each input; what is sound is done, and what is damaged, or not for the model, says so."""
    check_whole(out)
    inputs = inputs_in(scans)
    broken = {path for path in inputs if is_broken(path) or (path.suffix == ".png" and not bundled)}
    rows = {row["case"]: row for row in rows_of(out)}
    with (out / "private" / "inputs.csv").open(newline="") as file:
        cases = {Path(line["path"]): line["case"] for line in csv.DictReader(file)}
    assert set(cases) == set(inputs)
    assert len(rows_of(out)) == COUNT
    assert {path for path, case in cases.items() if rows[case]["state"] == "failed"} == broken
    assert {rows[cases[path]]["state"] for path in inputs if path not in broken} == {"done"}
    reasons = [rows[cases[path]]["reason"] for path in broken]
    assert all(reasons)
    assert not [reason for reason in reasons if "unexpected" in reason or "worker" in reason]


def _check_against_undisturbed(out: Path, rng: np.random.Generator, model: str | None, count: int = 30) -> None:
    """Labels of scans drawn at random are those that an undisturbed process makes, to the voxel."""
    done = {row["case"] for row in rows_of(out) if row["state"] == "done"}
    with (out / "private" / "inputs.csv").open(newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["case"] in done]
    for number in rng.choice(len(lines), count, replace=False):
        (volume,) = read(lines[number]["path"])
        (kept,) = read(out / "cases" / lines[number]["case"] / "labels.nii.gz", labels=True)
        np.testing.assert_array_equal(kept.array, segment(volume, model, device="cpu").array)


class _Disturbed:
    """Runs of one cohort, each of which is ended by something, once so many of its inputs are finished."""

    def __init__(self, scans: Path, out: Path, rng: np.random.Generator, model: str | None) -> None:
        self.out, self.rng = out, rng
        self.shared = ("cohort", scans, "-o", out, "--device", "cpu", *(("--model", model) if model else ()))
        self.command = (*self.shared, "--workers", 2)

    def worker_dies(self, at: int) -> None:
        """A worker is killed; the run goes on, until its client is killed."""
        process = self._until(at - 5, lungseg(*self.command))
        self.rng.choice(np.array(workers_of(process))).kill()
        self._kill(self._until(max(at, len(finished(self.out)) + 3), process))

    def client_dies(self, at: int) -> None:
        """The client is killed, and with it the scheduler that it holds."""
        self._kill(self._until(at, lungseg(*self.command)))

    def scheduler_dies(self, at: int) -> None:
        """A scheduler of its own is killed; the run says so. The next begins while the workers are still at it."""
        with dask_cluster(2) as (address, processes):
            process = lungseg(*self.shared, "--scheduler", address)
            wait_for(lambda: len(finished(self.out)) >= at, process, timeout=3000)
            time.sleep(self.rng.uniform(0, 2))
            processes[0].kill()
            code, said = ended(process, timeout=300)
        assert code == 2, said
        assert "connection to the Dask scheduler" in said

    def disk_dies(self, at: int) -> None:
        """The disk is full when so many are finished; the run says so."""
        process = self._until(at, lungseg(*self.command))
        filler = fill(self.out.parent, 20_000)
        code, said = ended(process, timeout=300)
        assert code == 2, said
        assert "disk of the results is full" in said
        filler.unlink()

    def _until(self, count: int, process: subprocess.Popen[str]) -> subprocess.Popen[str]:
        wait_for(lambda: len(finished(self.out)) >= count and bool(workers_of(process)), process, timeout=3000)
        time.sleep(self.rng.uniform(0, 0.5))
        return process

    def _kill(self, process: subprocess.Popen[str]) -> None:
        workers = workers_of(process)
        process.kill()
        process.communicate()
        wait_for(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in workers))


def _machine() -> str:
    with Path("/proc/cpuinfo").open() as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return f"{os.cpu_count()} cores, {names[0] if names else 'unknown'}"


def test_real_scans(tmp_path: Path, test_data: Path) -> None:
    """The bundled models on whole DICOM series, single slices, label maps and radiographs; a worker is killed."""
    scans, out = tmp_path / "in", tmp_path / "out"
    for place, count in (("xray", 20), ("xray-paediatric", 5), ("ct/unlabelled/tcga", 10), ("ct/unlabelled/nysbu", 5)):
        files = sorted(path for path in (test_data / place).rglob("*") if path.suffix in (".jpg", ".jpeg", ".dcm"))
        for path in files[:: len(files) // count][:count]:
            (scans / place).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, scans / place)
    arguments = (scans, test_data / "ct" / "small", test_data / "ct" / "dicom")
    process = lungseg("cohort", *arguments, "-o", out, "--device", "cpu", "--workers", 2)
    wait_for(lambda: len(finished(out)) >= 10, process, timeout=3000)
    workers_of(process)[0].kill()
    code, said = ended(process, 3000)
    rows = rows_of(out)
    assert code == 0, [row["reason"] for row in rows if row["state"] == "failed"]
    done = [row for row in rows if row["state"] == "done"]
    assert len(done) >= 40 + 3, said
    assert {row["modality"] for row in done} == {"ct", "xray"}
    assert all("label map" in row["reason"] for row in rows if row["state"] == "left out")
    check_whole(out)
    _check_against_contours(test_data, out, done)


def _check_against_contours(test_data: Path, out: Path, done: Sequence[dict[str, Any]]) -> None:
    """Labels of the three whole series against those of people."""
    with (out / "private" / "inputs.csv").open(newline="") as file:
        cases = {Path(line["path"]).name: line["case"] for line in csv.DictReader(file)}
    for mask in sorted((test_data / "ct" / "masks").glob("*.nii.gz")):
        (reference,) = read(mask, labels=True)
        (labels,) = read(out / "cases" / cases[mask.name.removesuffix(".nii.gz")] / "labels.nii.gz", labels=True)
        assert min(record["dice"] for record in evaluate(labels, reference).records()) > 0.9, mask.name


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
    code, said = ended(process)
    assert (code, len(finished(out))) == (0, 500), said
    early, late = (
        np.median([rss for count, rss in held if low < count <= high]) for low, high in ((50, 200), (350, 500))
    )
    assert late < 1.1 * early
