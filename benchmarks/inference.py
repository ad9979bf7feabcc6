"""Time and memory of the whole path array → labels, beside lungmask on the same voxels, machine and run.

Usage: ``python benchmarks/inference.py [SCAN] [--model FILE] [--slices N] [--repeats 5] [--no-lungmask]
[--no-memory] [--json]``

SCAN is a CT (a folder of DICOM, a NIfTI …); without one a phantom of 512 × 512 pixels a slice is made. The whole scan (or
``--slices`` from its middle) is segmented by the bundled ``ct-lungs`` in each precision that the machine has, and by
lungmask's ``LMInferer(volume_postprocessing=False)`` with R231's architecture and random weights, plus lungmask's own
post-processing of *our* labels on its 256 × 256 grid (random weights would give it absurd ones). lungmask needs about a
second a slice on two cores. Ours looks at 6 slices four more times, however many there are, to say how sure the result
is: a block of few slices pays more for that, a slice, than a scan. "Not network" is all the time outside the network's
forward pass. Peak memory is that of a fresh process which segments 300 × 512 × 512 voxels.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_lungseg import Volume, load_model, read, segment
from napari_lungseg.models.catalog import Model
from napari_lungseg.segmentation.predict import SegmentSettings

BIG = (300, 512, 512)


def scan(path: Path | None, count: int, rows: int = 512) -> Volume:
    """A CT or the phantom at full size; of it ``count`` slices from the middle, all of them where that is 0."""
    volume = next(item for item in read(path) if isinstance(item, Volume)).load() if path else phantom(rows)
    view, _ = volume.reoriented()
    count = count or view.geometry.shape[0]
    start = max(0, (view.geometry.shape[0] - count) // 2)
    array = np.ascontiguousarray(view.array[start : start + count])
    return dataclasses.replace(view, array=array, geometry=dataclasses.replace(view.geometry, shape=array.shape))


def phantom(rows: int) -> Volume:
    """The phantom patient with slices of ``rows`` pixels a side."""
    from napari_lungseg.phantom import thorax_ct

    small, _ = thorax_ct(shape=(64, rows // 2, rows // 2))
    array = small.array.repeat(2, axis=1).repeat(2, axis=2)
    z, y, x = small.geometry.spacing
    geometry = dataclasses.replace(small.geometry, shape=array.shape, spacing=(z, y / 2, x / 2))
    return dataclasses.replace(small, array=array, geometry=geometry)


@dataclass
class Stopwatch:
    """Seconds that passed while it ran."""

    seconds: float = 0.0
    started: float = 0.0

    def start(self, *_: Any) -> None:
        """Begin."""
        self.started = time.perf_counter()

    def stop(self, *_: Any) -> None:
        """End, and add what has passed."""
        self.seconds += time.perf_counter() - self.started


@contextmanager
def timed_network(model: Model, device: str = "cpu") -> Iterator[Stopwatch]:
    """Time what passes in a model's network (the cached one, which `segment` uses as well)."""
    watch = Stopwatch()
    network = model.network(device)
    hooks = [network.register_forward_pre_hook(watch.start), network.register_forward_hook(watch.stop)]
    try:
        yield watch
    finally:
        for hook in hooks:
            hook.remove()


def seconds_of(work: Callable[[], Any]) -> tuple[float, Any]:
    """Wall time of a call, and what it returned."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def ours(volume: Volume, model: Model, precision: str, repeats: int) -> tuple[dict[str, float], np.ndarray]:
    """Median milliseconds a slice, whole and outside the network, after one run to warm up; and the labels."""
    settings = SegmentSettings(precision=precision)
    labels = segment(volume, model, settings=settings, device="cpu")
    whole, rest = [], []
    for _ in range(repeats):
        with timed_network(model) as watch:
            seconds, _ = seconds_of(lambda: segment(volume, model, settings=settings, device="cpu"))
        whole.append(1000 * seconds / len(volume.array))
        rest.append(whole[-1] - 1000 * watch.seconds / len(volume.array))
    return {"ms_per_slice": statistics.median(whole), "not_network_ms": statistics.median(rest)}, np.asarray(
        labels.array
    )


def lungmask(array: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Milliseconds a slice of lungmask: inference with random weights, and post-processing of given labels."""
    import torch
    from lungmask import LMInferer, utils
    from lungmask.resunet import UNet

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "r231-random.pth"))
        network = UNet(n_classes=3, padding=True, depth=5, up_mode="upsample", batch_norm=True, residual=False)
        torch.save(network.state_dict(), path)
        inferer = LMInferer(modelpath=path, force_cpu=True, volume_postprocessing=False, tqdm_disable=True)
    inferer.apply(array[:1])
    inference, _ = seconds_of(lambda: inferer.apply(array))
    steps = [np.arange(256) * size // 256 for size in labels.shape[1:]]
    small = labels[:, steps[0][:, None], steps[1]]
    tidying, _ = seconds_of(lambda: utils.postprocessing(small, disable_tqdm=True))
    per_slice = [1000 * seconds / len(array) for seconds in (inference, tidying)]
    return {"inference_ms": per_slice[0], "postprocessing_ms": per_slice[1], "ms_per_slice": sum(per_slice)}


def peak_memory(model: str) -> dict[str, float]:
    """Segment a big volume in a process of its own: its peak memory in GB (resident), and the seconds it took."""
    call = [sys.executable, __file__, "--big", "--model", model]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def segment_big(model: Model) -> dict[str, float]:
    """What `peak_memory` runs."""
    block = scan(None, 60)
    array = np.resize(block.array, BIG)
    volume = dataclasses.replace(block, array=array, geometry=dataclasses.replace(block.geometry, shape=BIG))
    del block
    before = peak_gb()
    seconds, _ = seconds_of(lambda: segment(volume, model, device="cpu"))
    return {"peak_gb": peak_gb(), "before_gb": before, "seconds": seconds}


def peak_gb() -> float:
    """Most memory that this process has held, GB."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells on Linux includes the parent, whose memory a new process starts with
        return next(int(line.split()[1]) / 1e6 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)


def report(volume: Volume, model: Model, arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything, as one JSON-ready object."""
    import torch

    from napari_lungseg.segmentation.devices import has_bfloat16_units

    about = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpu": cpu_name(),
        "date": time.strftime("%F"),
    }
    result: dict[str, Any] = {"machine": about, "model": model.spec.name, "shape": volume.array.shape, "ours": {}}
    for precision in ("bfloat16", "float32") if has_bfloat16_units() else ("float32",):
        result["ours"][precision], labels = ours(volume, model, precision, arguments.repeats)
    if arguments.lungmask:
        result["lungmask"] = lungmask(volume.array, labels)
        for figures in result["ours"].values():
            figures["times_faster"] = result["lungmask"]["ms_per_slice"] / figures["ms_per_slice"]
            figures["not_network_share"] = figures["not_network_ms"] / result["lungmask"]["ms_per_slice"]
    if arguments.memory:
        result["memory"] = peak_memory(str(model.path))
    return result


def cpu_name() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def show(result: dict[str, Any]) -> None:
    """Print it for a person."""
    machine = result["machine"]
    print(f"{machine['date']}  {machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}")
    print(f"{result['model']} on {' × '.join(map(str, result['shape']))}")
    for precision, figures in result["ours"].items():
        print(
            f"  ours, {precision:9} {figures['ms_per_slice']:8.1f} ms a slice, {figures['not_network_ms']:.1f} of it not network"
        )
    if "lungmask" in result:
        theirs = result["lungmask"]
        print(
            f"  lungmask        {theirs['ms_per_slice']:8.1f} ms a slice, {theirs['postprocessing_ms']:.1f} of it post-processing"
        )
        for precision, figures in result["ours"].items():
            share = 1 / figures["not_network_share"]
            print(
                f"  {precision}: {figures['times_faster']:.1f} times faster; not network 1/{share:.0f} of lungmask's time"
            )
    if "memory" in result:
        memory = result["memory"]
        size = " × ".join(map(str, BIG))
        print(
            f"  {size}: peak {memory['peak_gb']:.2f} GB ({memory['before_gb']:.2f} before), {memory['seconds']:.1f} s"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path, nargs="?", help="a CT; a phantom where none is given")
    parser.add_argument("--model", default="ct-lungs")
    parser.add_argument("--slices", type=int, default=0, help="so many from the middle; 0: all")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-lungmask", dest="lungmask", action="store_false")
    parser.add_argument("--no-memory", dest="memory", action="store_false")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--big", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    if arguments.big:
        print(json.dumps(segment_big(model)))
        return
    result = report(scan(arguments.scan, arguments.slices), model, arguments)
    print(json.dumps(result, indent=1)) if arguments.json else show(result)


if __name__ == "__main__":
    main()
