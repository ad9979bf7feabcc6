"""Time and memory of everything that is said about a result: a CT of 300 × 512 × 512 with both lungs labelled.

    python benchmarks/measuring.py [--slices 300] [--size 512] [--float] [--erode 0] [--rounds 5] [--only NAME …]

Each by itself, and the three that a user waits for one after the other ("all together"): ``confidence`` (what a
segmentation takes longer for saying how sure it is: other views of 6 slices through the network, its soft-max summed up,
the sanity checks, the light), ``compare`` (every metric, slice by slice, the disagreement) and ``report`` (measurements,
profile, histogram, pictures, the page). A first round, in which libraries are imported, does not count.

The scan is a phantom, enlarged to the size; its lungs take about a tenth of the voxels. --full labels half of the image
instead, more than lungs ever fill; --float makes the voxels float32; --erode leaves out a rim (mm). Memory is the growth of
the process's resident set while it measures, at its highest, as a multiple of the volume's own bytes.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import torch

from napari_lungseg.analysis.case_report import write_case_report
from napari_lungseg.analysis.comparing import compare_slices, disagreement, iter_compare
from napari_lungseg.analysis.measure import MeasureSettings, measure
from napari_lungseg.analysis.metrics import evaluate
from napari_lungseg.analysis.profile import histogram, profile
from napari_lungseg.models.catalog import load_model
from napari_lungseg.phantom import thorax_ct
from napari_lungseg.progress import drain
from napari_lungseg.segmentation.evidence import Evidence, agreement_of, counts_of, looked_at, sums_of
from napari_lungseg.segmentation.predict import SegmentSettings, _judged, _Run, mirror_order
from napari_lungseg.segmentation.preprocess import boxes_of, to_network
from napari_lungseg.volume import LUNG_NAMES, Geometry, LabelMap, Volume

PHANTOM = (100, 128, 128)


def enlarged(slices: int, size: int, floating: bool, full: bool) -> tuple[Volume, LabelMap]:
    """The phantom's voxels repeated to the shape, with noise so that no two slices are alike."""
    small, lungs = thorax_ct(PHANTOM)
    shape = (slices, size, size)
    index = np.ix_(*(np.arange(wanted) * found // wanted for wanted, found in zip(shape, PHANTOM, strict=True)))
    labels = lungs.array[index]
    if full:
        labels[:, :, : size // 4], labels[:, :, size // 4 : size // 2], labels[:, :, size // 2 :] = 1, 2, 0
    array = small.array[index]
    rng = np.random.default_rng(0)
    for part in array:
        part += rng.integers(-30, 30, part.shape, dtype=np.int16)
    grid = Geometry(shape, (1.0, 0.7, 0.7))
    return Volume(array.astype(np.float32) if floating else array, grid), LabelMap(labels, grid, LUNG_NAMES)


class Growth:
    """Highest resident memory in the meantime, beyond what it was at the beginning; bytes."""

    def __enter__(self) -> Growth:
        self._process, self._over = psutil.Process(), threading.Event()
        self._first = self._highest = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.002):
            self._highest = max(self._highest, self._process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def bytes(self) -> int:
        """By how much."""
        return self._highest - self._first


def confidence(volume: Volume, labels: LabelMap) -> Callable[[], object]:
    """What ``segment`` does beside making the labels; the slices' first pass through the network is done beforehand."""
    model, settings = load_model("ct-lungs"), SegmentSettings()
    run, (view, _) = _Run.prepare(model, "cpu", settings), volume.reoriented()
    depth, batch = view.geometry.shape[0], settings.batch_size
    again = np.flatnonzero(looked_at(depth, each=False))
    with torch.inference_mode():
        slices = torch.from_numpy(np.ascontiguousarray(view.array[again]))
        images = to_network(slices, boxes_of(slices, model.spec.preprocessing), model.spec.preprocessing)
        images = images.to(memory_format=torch.channels_last)
        scores = run._forward(images)

    def task() -> object:
        evidence = Evidence.empty(depth, model.spec.classes)
        with torch.inference_mode():
            for k, z in enumerate(again):
                one = slice(k, k + 1)
                found = agreement_of(run._in_batches, images[one], scores[one], mirror_order(model.spec.names))
                evidence.agreement[z] = found.numpy()
            for start in range(0, depth, batch):
                sums = evidence.sums[start : start + batch]
                sums[:] = sums_of(scores[: len(sums)]).numpy()
        for plane, pixels in zip(labels.array, evidence.pixels, strict=True):
            pixels[:] = counts_of(plane, len(pixels))
        return _judged(labels.array, view, evidence, model.spec, [])

    return task


def tasks(volume: Volume, labels: LabelMap, settings: MeasureSettings, folder: Path) -> dict[str, Callable[[], object]]:
    """Everything by name; the label map that is compared with is moved by two voxels a slice."""
    moved = dataclasses.replace(labels, array=np.roll(labels.array, 2, axis=2))
    waited = {
        "confidence": confidence(volume, labels),
        "compare": lambda: drain(iter_compare(moved, labels)),
        "report": lambda: write_case_report(volume, labels, folder / "report.html"),
    }
    return {
        "measure": lambda: measure(volume, labels, settings=settings),
        "profile": lambda: profile(volume, labels, settings=settings),
        "histogram": lambda: histogram(volume, labels, settings=settings),
        "evaluate": lambda: evaluate(moved, labels),
        "compare_slices": lambda: compare_slices(moved, labels),
        "disagreement": lambda: disagreement(moved, labels),
        **waited,
        "all together": lambda: [task() for task in waited.values()],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--float", action="store_true", dest="floating")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--erode", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="names of tasks")
    args = parser.parse_args()
    volume, labels = enlarged(args.slices, args.size, args.floating, args.full)
    share = np.count_nonzero(labels.array) / labels.array.size
    print(f"{volume.array.dtype} {volume.geometry.shape}, {100 * share:.0f} % labelled")
    with tempfile.TemporaryDirectory() as folder:
        for name, task in tasks(volume, labels, MeasureSettings(erode_mm=args.erode), Path(folder)).items():
            if not args.only or name in args.only:
                print(f"{name}: {timed(task, args.rounds, volume.array.nbytes)}", flush=True)


def timed(task: Callable[[], object], rounds: int, size: int) -> str:
    """Seconds and memory of a task, as multiples of a size in bytes."""
    walls, processors, peaks = [], [], []
    for _ in range(rounds + 1):
        with Growth() as growth:
            wall, processor = time.perf_counter(), time.process_time()
            task()
            walls.append(time.perf_counter() - wall)
            processors.append(time.process_time() - processor)
        peaks.append(growth.bytes / size)
    return (
        f"median {statistics.median(walls[1:]):.2f} s, longest {max(walls[1:]):.2f} s, "
        f"processor {statistics.median(processors[1:]):.2f} s, memory {max(peaks):.2f} × the volume at most"
    )


if __name__ == "__main__":
    main()
