"""Cohorts of phantoms: random anatomy and spacing, mixed formats, names that must not get out, a part of them broken."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
_BROKEN = "_broken"


def make_cohort(folder: Path, count: int, *, seed: int = 5, broken: float = 0.1) -> None:
    """Write ``count`` inputs, of which a share is damaged, whatever their format; `is_broken` says which."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    bad = rng.choice(count, max(1, round(broken * count)), replace=False) if broken else ()
    for number in range(count):
        stem = f"{SECRET}_{number:03d}{_BROKEN if number in bad else ''}"
        path = _make(folder, stem, number, rng)
        if number in bad:
            _break(path, rng)


def inputs_in(folder: Path) -> list[Path]:
    """Files and series that `make_cohort` wrote, without what lies beside them."""
    return sorted(path for path in folder.iterdir() if not path.name.endswith((".json", ".zraw")))


def is_broken(path: Path) -> bool:
    """Whether an input cannot be read."""
    return _BROKEN in path.name


def _break(path: Path, rng: np.random.Generator) -> None:
    """Damage an input as disks, interrupted copies and wrong programs do."""
    ways: list[Callable[[bytes], bytes]] = [_cut, _flip, lambda content: b"", lambda content: rng.bytes(len(content))]
    way = ways[int(rng.integers(len(ways)))] if path.is_file() else _cut
    for file in path.glob("*") if path.is_dir() else [path.with_suffix(".zraw") if path.suffix == ".mhd" else path]:
        file.write_bytes(way(file.read_bytes()))


def _cut(content: bytes) -> bytes:
    return content[: 2 * len(content) // 3]


def _flip(content: bytes) -> bytes:
    """One bit, in the packed voxels."""
    changed = bytearray(content)
    changed[3 * len(content) // 4] ^= 1
    return bytes(changed)


def _make(folder: Path, stem: str, number: int, rng: np.random.Generator) -> Path:
    kind = _FORMATS[number % len(_FORMATS)]
    seed = int(rng.integers(1 << 30))
    if kind == ".png":
        volume, _ = thorax_xray((int(rng.integers(48, 80)), int(rng.integers(48, 80))), seed=seed)
        return write(volume, folder / f"{stem}.png")
    shape = (int(rng.integers(6, 12)), int(rng.integers(36, 48)), int(rng.integers(36, 48)))
    spacing = tuple(extent / size * rng.uniform(0.8, 1.2) for extent, size in zip((288, 304, 340), shape, strict=True))
    volume, _ = thorax_ct(shape, spacing, seed=seed, pathology=True)
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
    try:
        below = psutil.Process(process.pid).children(recursive=True)
        return [child for child in below if "spawn_main" in " ".join(child.cmdline())]
    except psutil.NoSuchProcess:  # one that ended while they were looked at
        return []


def rows_of(out: Path) -> list[dict[str, str]]:
    """The table."""
    with (out / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def states_of(out: Path) -> dict[str, int]:
    """State → number of rows."""
    states = [row["state"] for row in rows_of(out)]
    return {state: states.count(state) for state in set(states)}


def check_whole(out: Path, *, killed: bool = False) -> None:
    """Everything recorded is there and whole; unless somebody was killed just now, nothing half-written is left."""
    import nibabel

    for path in (out / "records").glob("*.json"):
        for row in json.loads(path.read_text())["rows"]:
            if row["state"] == "done":
                labels = nibabel.load(out / "cases" / row["case"] / "labels.nii.gz")
                assert labels.shape[2] == row["slices"]
                assert np.asarray(labels.dataobj).max() <= 2
    assert killed or not list(out.rglob(".writing-*"))


def changed(out: Path) -> dict[str, int]:
    """Case that is recorded as finished → when its labels were written; what is not recorded may be done again."""
    recorded = [row for path in (out / "records").glob("*.json") for row in json.loads(path.read_text())["rows"]]
    cases = {row["case"] for row in recorded if row["state"] == "done"}
    return {case: (out / "cases" / case / "labels.nii.gz").stat().st_mtime_ns for case in cases}


@contextmanager
def dask_cluster(workers: int = 1) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and workers of their own, as somebody else would run them; the scheduler is the first process."""
    place = Path(os.environ["HOME"]) / f"scheduler-{random.random()}.json"
    common = [sys.executable, "-m", "distributed.cli"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": quick()}
    scheduler = [
        *common[:2],
        "distributed.cli.dask_scheduler",
        "--port",
        "0",
        "--no-dashboard",
        "--scheduler-file",
        str(place),
    ]
    processes = [subprocess.Popen(scheduler, **quiet)]  # type: ignore[call-overload]
    try:
        wait_for(place.exists)
        address = json.loads(place.read_text())["address"]
        for _ in range(workers):
            processes.append(add_worker(address))
        yield address, processes
    finally:
        for process in processes[::-1]:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def add_worker(address: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "2", "--no-dashboard"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=quick())


@contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[bool]:
    """A disk in memory at a place, and whether there is one: only root may mount it."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False, capture_output=True).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def fill(disk: Path, left: int) -> Path:
    """A file that leaves at most so many bytes of a disk, whoever else writes to it meanwhile."""
    filler = disk / "filler"
    # Unbuffered, so that nothing is left to be written when it is closed.
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        for _ in range((shutil.disk_usage(disk).free - left) // 1024):
            file.write(bytes(1024))
    return filler
