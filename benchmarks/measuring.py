"""Time and memory to measure a CT of 300 × 512 × 512 with both lungs labelled, and to compare two label maps of it.

    python benchmarks/measuring.py [--slices 300] [--size 512] [--float] [--erode 0] [--rounds 5]

The scan is a phantom, enlarged to the size; its lungs take about a tenth of the voxels. --full labels half of the image
instead, more than lungs ever fill; --float makes the voxels float32; --erode leaves out a rim (mm). Memory is the growth of
the process's resident set while it measures, at its highest, as a multiple of the volume's own bytes.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import threading
import time
from collections.abc import Callable

import numpy as np
import psutil

from napari_lungseg.analysis.comparing import compare_slices
from napari_lungseg.analysis.measure import MeasureSettings, measure
from napari_lungseg.analysis.metrics import evaluate
from napari_lungseg.analysis.profile import histogram, profile
from napari_lungseg.phantom import thorax_ct
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


def tasks(volume: Volume, labels: LabelMap, settings: MeasureSettings) -> dict[str, Callable[[], object]]:
    """Everything that is measured or compared, by name; the other label map is moved by two voxels a slice."""
    moved = dataclasses.replace(labels, array=np.roll(labels.array, 2, axis=2))
    return {
        "measure": lambda: measure(volume, labels, settings=settings),
        "profile": lambda: profile(volume, labels, settings=settings),
        "histogram": lambda: histogram(volume, labels, settings=settings),
        "evaluate": lambda: evaluate(moved, labels),
        "compare_slices": lambda: compare_slices(moved, labels),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--float", action="store_true", dest="floating")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--erode", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    volume, labels = enlarged(args.slices, args.size, args.floating, args.full)
    share = np.count_nonzero(labels.array) / labels.array.size
    print(f"{volume.array.dtype} {volume.geometry.shape}, {100 * share:.0f} % labelled")
    for name, task in tasks(volume, labels, MeasureSettings(erode_mm=args.erode)).items():
        walls, processors, peaks = [], [], []
        for _ in range(args.rounds):
            with Growth() as growth:
                wall, processor = time.perf_counter(), time.process_time()
                task()
                walls.append(time.perf_counter() - wall)
                processors.append(time.process_time() - processor)
            peaks.append(growth.bytes / volume.array.nbytes)
        print(
            f"{name}: median {statistics.median(walls):.2f} s, longest {max(walls):.2f} s, "
            f"processor {statistics.median(processors):.2f} s, memory {max(peaks):.2f} × the volume at most"
        )


if __name__ == "__main__":
    main()
