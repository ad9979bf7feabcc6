"""How late the window's event loop is while a network learns from paint beside it and somebody paints.

A timer is to fire every 5 ms; what it is late by is what a person feels. The window shows the phantom at the size of a true
CT; strokes are painted, and the slider is moved, all the while. Figures come for the window at rest, for the same painting
without training, and for painting while it trains.

Usage: ``python tools/with_display.py python benchmarks/window_latency.py [SECONDS] [--scan PATH]``
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QEventLoop, Qt, QTimer

from napari_lungseg import read
from napari_lungseg.phantom import thorax_ct
from napari_lungseg.plugin.opening import add_item
from napari_lungseg.training.rounds import PaintSettings
from napari_lungseg.volume import Volume

TICK_MS = 5
SHAPE = (150, 512, 512)
LIMIT_MS = 100


class Ticks:
    """Times between ticks, ms."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(lambda: self.times.append(time.perf_counter()))
        self._timer.start(TICK_MS)

    def since(self, first: int) -> np.ndarray:
        """Milliseconds by which ticks were late, from one on."""
        return 1000 * np.diff(self.times[first:]) - TICK_MS


def wait(milliseconds: int) -> None:
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


def work(viewer: Any, layer: Any, seconds: float, rng: np.random.Generator) -> None:
    """Paint as a person does: a stroke with forty moves of the brush each second, and another slice now and then."""
    until = time.perf_counter() + seconds
    moves = 0
    while time.perf_counter() < until:
        z = int(viewer.dims.current_step[0])
        if moves % 120 == 0:
            z = int(rng.integers(layer.data.shape[0]))
            viewer.dims.set_current_step(0, z)
        if moves % 40 == 0:
            row, column = rng.integers(100, 400, 2)
            label = int(rng.choice([1, 100]))
        row, column = row + rng.integers(-6, 7), column + rng.integers(-6, 7)
        layer.paint((z, int(row), int(column)), label)
        moves += 1
        wait(25)


def told(name: str, late: np.ndarray) -> str:
    worst = np.percentile(late, 95)
    verdict = "" if worst < LIMIT_MS else f"  (over {LIMIT_MS} ms)"
    return (
        f"{name:<32} median {np.median(late):6.1f}   95 % {worst:6.1f}   99 % {np.percentile(late, 99):6.1f}   "
        f"worst {late.max():7.1f} ms   {len(late)} ticks{verdict}"
    )


def opened(path: Path | None) -> Volume:
    if path is None:
        return thorax_ct(shape=SHAPE)[0]
    return next(item for item in read(path) if isinstance(item, Volume)).load()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", nargs="?", type=float, default=30)
    parser.add_argument("--scan", type=Path, help="a CT instead of the phantom")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LUNGSEG_RECOVERY"], os.environ["LUNGSEG_PAINTED"] = f"{folder}/recovery", f"{folder}/painted"
        measure(opened(options.scan), options.seconds)


def measure(volume: Volume, seconds: float) -> None:
    rng = np.random.default_rng(0)
    viewer = napari.Viewer()
    viewer.window.resize(1400, 900)
    add_item(viewer, volume)
    _, widget = viewer.window.add_plugin_dock_widget("napari-lungseg", "Train on painted labels")
    widget.paint.new_button.click()
    widget.training.form.update(dataclasses.asdict(PaintSettings()))
    layer = widget.paint.pairs[0].labels
    layer.brush_size = 15
    while not widget.run.process.is_ready:
        wait(100)
    ticks = Ticks()
    phases = []

    def phase(name: str, act: Any) -> None:
        first = len(ticks.times)
        act()
        phases.append((name, ticks.since(first)))

    phase("at rest", lambda: wait(5000))
    phase("painting", lambda: work(viewer, layer, seconds, rng))
    began = time.perf_counter()
    phase("Train is pressed (3 s)", lambda: (widget.training.train_button.click(), wait(3000)))
    while not widget.run.rounds:
        wait(100)
    first_round = time.perf_counter() - began
    phase("training, nobody paints", lambda: wait(round(1000 * seconds)))
    phase("training and painting", lambda: work(viewer, layer, seconds, rng))
    rounds, learned = widget.run.rounds[-1].number, widget.run.rounds[-1].seconds
    widget.training.stop_button.click()
    while widget.run.is_running:
        wait(20)
    print(f"{volume.geometry.shape} voxels, {os.cpu_count()} processors; late by:")
    for name, late in phases:
        print(told(name, late))
    print(f"first round {first_round:.1f} s after Train was pressed; {rounds} rounds in {learned:.0f} s")
    widget.close_down()
    widget.recovery.close()
    viewer.close()


if __name__ == "__main__":
    main()
