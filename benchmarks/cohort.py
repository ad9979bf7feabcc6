"""What a cohort costs per scan: workers, the engine itself, memory, and lungmask on the same scans.

Usage: ``python benchmarks/cohort.py {scaling,engine,join,lungmask,memory} [--cases 24] [--shape 64 256 256] [--model NAME]
[--work FOLDER] [--plot FILE]``

Scans are phantoms of random anatomy and spacing. Times per scan are taken between the first and the last scan that was
finished, by the dates of their records, so that starting processes does not count; starting is told apart.

``scaling``: one worker with all threads, with one and two scans at once, and as many workers as processors.
``engine``: the same work in a plain loop, without Dask, and with one worker that holds one scan: the difference is the
engine's. ``join``: a scheduler with one worker, which a second joins after a third of the scans. ``lungmask``: its command in
a shell loop and its ``LMInferer`` held in memory, with R231's architecture and random weights, without its post-processing,
which random weights would make absurdly long, and its post-processing of our labels added (as in ``inference.py``).
``memory``: resident memory of a worker over the scans; pass ``--cases 500``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from napari_lungseg import read, write
from napari_lungseg.phantom import thorax_ct

PYTHON = sys.executable
EXTENT_MM = (288.0, 304.0, 340.0)


def make_scans(folder: Path, count: int, shape: tuple[int, int, int], *, vary: bool) -> Path:
    """Write phantoms; those of another size are made anew."""
    rng = np.random.default_rng(7)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        factor = rng.uniform(0.5, 1.0) if vary else 1.0
        size = (max(4, int(shape[0] * factor)), shape[1], shape[2])
        spacing = tuple(
            extent / pixels * rng.uniform(0.95, 1.05) for extent, pixels in zip(EXTENT_MM, size, strict=True)
        )
        path = folder / f"{number:04d}-{'x'.join(map(str, shape))}.nii.gz"
        if not path.exists():
            write(thorax_ct(size, spacing, seed=number)[0], path)
    return folder


def command(scans: Path, out: Path, model: str, *more: object) -> list[str]:
    base = [
        PYTHON,
        "-m",
        "napari_lungseg",
        "cohort",
        f"{scans}/*.nii.gz",
        "-o",
        out,
        "--model",
        model,
        "--device",
        "cpu",
    ]
    return [str(part) for part in (*base, *more)]


def finish_times(out: Path) -> list[float]:
    """When each scan was finished, in order."""
    return sorted(path.stat().st_mtime_ns / 1e9 for path in (out / "records").glob("*.json"))


def per_scan(times: list[float], skip: int = 1) -> float:
    """Seconds a scan between the first ones finished and the last."""
    return (times[-1] - times[skip - 1]) / (len(times) - skip)


def run(scans: Path, out: Path, model: str, *more: object) -> dict[str, float]:
    started = time.time()
    subprocess.run(command(scans, out, model, *more), check=True, capture_output=True)
    times = finish_times(out)
    rows = json.loads((out / "results.json").read_text())
    parts = {name: statistics.median(row[name] for row in rows) for name in ("read_s", "device_s", "write_s")}
    return {"s_per_scan": per_scan(times, skip=4), "to_the_first_s": times[0] - started, **parts}


def scaling(scans: Path, work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    cores = os.cpu_count() or 1
    ways = {
        "1 worker, 1 scan at once": (1, 1),
        "1 worker, 2 scans at once": (1, 2),
        f"{cores} workers, 1 scan": (cores, 1),
    }
    ways[f"{cores} workers, 2 scans"] = (cores, 2)
    return {
        name: run(scans, work / f"scaling-{number}", arguments.model, "--workers", workers, "--overlap", overlap)
        for number, (name, (workers, overlap)) in enumerate(ways.items())
    }


LOOP = """
import sys, time
from pathlib import Path
from napari_lungseg.cohort.case import Task, work_on
from napari_lungseg.cohort.inputs import iter_inputs
from napari_lungseg.progress import drain
import os
items = drain(iter_inputs([sys.argv[1]], Path("nowhere")))
task = Task(Path(sys.argv[2]), "key", sys.argv[3], "cpu")
for item in items:
    assert work_on(task, item, "cpu", os.cpu_count())["recorded"]
"""


def engine(scans: Path, work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    plain, dask = [], []
    for repeat in range(arguments.repeats):
        out = work / f"loop-{repeat}"
        subprocess.run([PYTHON, "-c", LOOP, f"{scans}/*.nii.gz", str(out), arguments.model], check=True)
        plain.append(per_scan(finish_times(out)))
        out = work / f"engine-{repeat}"
        run(scans, out, arguments.model, "--workers", 1, "--overlap", 1)
        dask.append(per_scan(finish_times(out)))
    loop, whole = statistics.median(plain), statistics.median(dask)
    return {
        "loop_s_per_scan": loop,
        "engine_s_per_scan": whole,
        "overhead_percent": 100 * (whole / loop - 1),
        "all": [plain, dask],
    }


def join(scans: Path, work: Path, arguments: argparse.Namespace) -> dict[str, float]:
    place, out = work / "scheduler.json", work / "join"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = [
        PYTHON,
        "-m",
        "distributed.cli.dask_scheduler",
        "--port",
        "0",
        "--no-dashboard",
        "--scheduler-file",
        place,
    ]
    processes = [subprocess.Popen([str(part) for part in scheduler], **quiet)]
    try:
        while not place.exists():
            time.sleep(0.1)
        address = json.loads(place.read_text())["address"]
        worker = [PYTHON, "-m", "distributed.cli.dask_worker", address, "--nthreads", "2", "--no-dashboard"]
        processes.append(subprocess.Popen(worker, **quiet))
        client = subprocess.Popen(command(scans, out, arguments.model, "--scheduler", address), **quiet)
        while client.poll() is None and len(finish_times(out)) < arguments.cases // 3:
            time.sleep(0.1)
        joined, processes_before = time.time(), len(finish_times(out))
        processes.append(subprocess.Popen(worker, **quiet))
        client.wait()
    finally:
        for process in processes:
            process.terminate()
    times = finish_times(out)
    alone, rest = [t for t in times if t <= joined], [t for t in times if t > joined]
    settled = rest[min(4, len(rest) - 2) :]  # the newcomer has to load its model first
    return {
        "alone_s_per_scan": per_scan(alone),
        "joined_s_per_scan": per_scan(settled),
        "finished_before": processes_before,
    }


def lungmask(scans: Path, work: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Theirs in a shell loop and held in memory, beside a cohort of ours, on the same scans."""
    import SimpleITK
    import torch
    from lungmask import LMInferer, utils
    from lungmask.resunet import UNet

    weights = work / "r231-random.pth"
    network = UNet(n_classes=3, padding=True, depth=5, up_mode="upsample", batch_norm=True, residual=False)
    torch.save(network.state_dict(), weights)
    files = sorted(scans.glob("*.nii.gz"))
    ours = run(scans, work / "ours", arguments.model)
    tidying = _their_postprocessing(work / "ours", utils)
    shell = []
    for path in files[: arguments.loop]:
        call = [
            Path(PYTHON).with_name("lungmask"),
            path,
            work / "theirs.nii.gz",
            "--modelpath",
            weights,
            "--cpu",
            "--nopostprocess",
            "--noprogress",
        ]
        started = time.perf_counter()
        subprocess.run([str(part) for part in call], check=True, capture_output=True)
        shell.append(time.perf_counter() - started)
    inferer = LMInferer(modelpath=str(weights), force_cpu=True, volume_postprocessing=False, tqdm_disable=True)
    held = []
    for path in files[: arguments.loop]:
        started = time.perf_counter()
        image = SimpleITK.ReadImage(str(path))
        result = SimpleITK.GetImageFromArray(inferer.apply(image))
        result.CopyInformation(image)
        SimpleITK.WriteImage(result, str(work / "theirs.nii.gz"))
        held.append(time.perf_counter() - started)
    return {
        "ours_s_per_scan": ours["s_per_scan"],
        "shell_loop_s_per_scan": statistics.median(shell) + tidying,
        "held_in_memory_s_per_scan": statistics.median(held) + tidying,
        "their_postprocessing_s": tidying,
    }


def _their_postprocessing(out: Path, utils: Any) -> float:
    """Seconds a scan for lungmask's post-processing of our labels, on its grid of 256 × 256."""
    seconds = []
    for path in sorted(out.glob("cases/*/labels.nii.gz"))[:5]:
        labels = np.asarray(read(path, labels=True)[0].array)
        steps = [np.arange(256) * size // 256 for size in labels.shape[1:]]
        started = time.perf_counter()
        utils.postprocessing(labels[:, steps[0][:, None], steps[1]], disable_tqdm=True)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def memory(scans: Path, work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    out = work / "memory"
    client = subprocess.Popen(
        command(scans, out, arguments.model, "--workers", 1), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    seen: list[tuple[int, float]] = []
    while client.poll() is None:
        workers = [child for child in psutil.Process(client.pid).children(recursive=True) if _is_worker(child)]
        if workers:
            seen.append((len(finish_times(out)), _resident_mb(workers[0])))
        time.sleep(0.25)
    done = np.array([count for count, _ in seen])
    held = np.array([megabytes for _, megabytes in seen])
    total = int(done.max())
    thirds = [
        float(np.median(held[(done >= a * total) & (done <= b * total)])) for a, b in ((0.1, 0.4), (0.4, 0.7), (0.7, 1))
    ]
    if arguments.plot:
        _plot(done, held, arguments.plot)
    return {"scans": total, "median_mb_by_third": thirds, "peak_mb": float(held.max())}


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def _resident_mb(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss / 1e6)
    except psutil.Error:
        return float("nan")


def _plot(done: np.ndarray, held: np.ndarray, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.plot(done, held, ".", markersize=2, alpha=0.4)
    axis.set(
        xlabel="scans finished", ylabel="resident memory of the worker (MB)", ylim=(0, 1.15 * float(np.nanmax(held)))
    )
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measures = {"scaling": scaling, "engine": engine, "join": join, "lungmask": lungmask, "memory": memory}
    parser.add_argument("what", choices=measures)
    parser.add_argument("--cases", type=int, default=24)
    parser.add_argument("--shape", type=int, nargs=3, default=(64, 256, 256))
    parser.add_argument("--model", default="ct-lungs")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--loop", type=int, default=5, help="scans for lungmask, which is slow")
    parser.add_argument("--work", type=Path, help="folder for scans, which are kept, and results")
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as results:
        folder = (arguments.work or Path(results)) / f"scans-{arguments.cases}-{'x'.join(map(str, arguments.shape))}"
        scans = make_scans(folder, arguments.cases, tuple(arguments.shape), vary=arguments.what == "memory")
        figures = measures[arguments.what](scans, Path(results), arguments)
    machine = {
        "processors": os.cpu_count(),
        "date": time.strftime("%F"),
        "load": os.getloadavg()[0],
        "model": arguments.model,
    }
    print(
        json.dumps(
            {"what": arguments.what, **machine, "cases": arguments.cases, "shape": arguments.shape, **figures}, indent=1
        )
    )


if __name__ == "__main__":
    main()
