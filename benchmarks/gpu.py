"""The same path on a CUDA device: time, memory, survival of a full memory, agreement with the CPU.

Usage: ``python benchmarks/gpu.py [SCAN] [--model FILE] [--depth 300] [--batch-size 32] [--repeats 5] [--json]``

SCAN is a CT; without one a phantom is made. Its slices are repeated to the depth asked for. Aims: 300 × 512 × 512 in under
a second after warm-up; device memory bounded by the batch, not the depth; the run goes on with half the batch when memory
runs out (which is brought about here by a cap); the CPU's labels in at least 99.9 % of the voxels. Where there is no CUDA
device, this says so and ends with 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inference import scan, seconds_of, timed_network

from napari_lungseg import Volume, load_model, segment
from napari_lungseg.findings import has_finding
from napari_lungseg.models.catalog import Model
from napari_lungseg.segmentation.predict import SegmentSettings

DEVICE = "cuda"


def deepened(block: Volume, depth: int) -> Volume:
    """The block's slices, forth and back, until there are as many as asked for."""
    once = np.concatenate([block.array, block.array[::-1]])
    array = once[np.arange(depth) % len(once)]
    return dataclasses.replace(block, array=array, geometry=dataclasses.replace(block.geometry, shape=array.shape))


def timing(volume: Volume, model: Model, settings: SegmentSettings, repeats: int) -> dict[str, float]:
    """Median seconds after a warm-up, the part spent waiting on the network, and the peak of device memory."""
    segment(volume, model, device=DEVICE, settings=settings)
    torch.cuda.reset_peak_memory_stats()
    runs = [seconds_of(lambda: segment(volume, model, device=DEVICE, settings=settings))[0] for _ in range(repeats)]
    with timed_network(model, DEVICE) as watch:
        segment(volume, model, device=DEVICE, settings=settings)
    return {
        "seconds": statistics.median(runs),
        "slowest_seconds": max(runs),
        "network_launch_seconds": watch.seconds,
        "peak_device_gb": torch.cuda.max_memory_allocated() / 1e9,
    }


@contextmanager
def capped_memory(extra_bytes: float) -> Iterator[None]:
    """Let this process have only so much more device memory than it holds now."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + extra_bytes) / total))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def survives_full_memory(volume: Volume, model: Model, peak_gb: float) -> bool:
    """Whether a big batch under a cap of half the memory that it needs is halved, and finishes."""
    settings = SegmentSettings(batch_size=256)
    deep = deepened(volume, 256)
    with capped_memory(max(0.3e9, peak_gb * 1e9 / 2)):
        labels = segment(deep, model, device=DEVICE, settings=settings)
    return has_finding(labels.findings, "out-of-memory") and labels.array.shape == deep.array.shape


def agreement(volume: Volume, model: Model) -> dict[str, float]:
    """Share of voxels with the CPU's label (float32), of all and of those that either calls lung."""
    reference = segment(volume, model, device="cpu", settings=SegmentSettings(precision="float32")).array
    shares = {}
    for precision in ("auto", "float32"):
        labels = segment(volume, model, device=DEVICE, settings=SegmentSettings(precision=precision)).array
        same, lung = labels == reference, (labels > 0) | (reference > 0)
        shares |= {
            precision: float(same.mean()),
            f"{precision}_of_lung": float(same[lung].mean()) if lung.any() else 1.0,
        }
    return shares


def report(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything, as one JSON-ready object."""
    model = load_model(arguments.model)
    block = scan(arguments.scan, 60)
    settings = SegmentSettings(batch_size=arguments.batch_size)
    volume = deepened(block, arguments.depth)
    timed = timing(volume, model, settings, arguments.repeats)
    half = timing(deepened(block, arguments.depth // 2), model, settings, 1)
    large = timing(deepened(block, 256), model, SegmentSettings(batch_size=256), 1)
    return {
        "date": time.strftime("%F"),
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "model": model.spec.name,
        "shape": volume.array.shape,
        "batch_size": arguments.batch_size,
        **timed,
        "peak_device_gb_half_depth": half["peak_device_gb"],
        "survives_full_memory": survives_full_memory(block, model, large["peak_device_gb"]),
        "same_label_share": agreement(block, model),
    }


def main() -> None:
    """Measure and print, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path, nargs="?", help="a CT; a phantom where none is given")
    parser.add_argument("--model", default="ct-lungs")
    parser.add_argument("--depth", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("PyTorch finds no CUDA device on this machine, so there is nothing to measure. Run this where one is.")
    result = report(arguments)
    if arguments.json:
        print(json.dumps(result, indent=1))
        return
    for name, value in result.items():
        print(f"{name:28} {value:.4f}" if isinstance(value, float) else f"{name:28} {value}")


if __name__ == "__main__":
    main()
