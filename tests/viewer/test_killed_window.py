"""napari killed while somebody paints in its window, and while it trains on the paint: what is lost, what is left behind."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import window_session
from napari.layers import Labels
from tiny_model import save_tiny
from window_session import LAUNCHING, PAINTING, TRAINING

from napari_lungseg.models.weights import read_spec, read_weights
from napari_lungseg.phantom import thorax_ct
from napari_lungseg.plugin.layers import KEY
from napari_lungseg.plugin.leftovers import Leftover, leftovers
from napari_lungseg.plugin.opening import add_item
from napari_lungseg.plugin.painting import painting_of
from napari_lungseg.plugin.recovery import INTERVAL_MS, recovery_of
from napari_lungseg.plugin.run_folders import FOLDER_VARIABLE
from napari_lungseg.plugin.warm import load_torch
from napari_lungseg.training.work import open_work

pytestmark = pytest.mark.viewer
# What may be lost, and what is left of it for a save, with the interval that is shipped.
LOST_S = 30.0
SAVING_S = LOST_S - INTERVAL_MS / 1000
# Until the training process has noticed that its window is gone.
GONE_S = 3.0
PATIENCE_S = 180.0
# From when, and for how long at most, a session goes on until it is killed.
MOMENTS = {PAINTING: ("saved", 6.0), LAUNCHING: ("train", 10.0), TRAINING: ("round", 6.0)}


@dataclass(frozen=True)
class Killed:
    """A session that was killed.

    Parameters
    ----------
    folder : its autosaves, trainings and log
    at_s : when, by the monotonic clock
    children : processes it had then
    """

    folder: Path
    at_s: float
    children: list[psutil.Process]

    def told(self, kind: str) -> list[tuple[float, str]]:
        """When and what, of the lines of one kind."""
        return lines_of(self.folder / "log", kind)


def lines_of(log: Path, kind: str) -> list[tuple[float, str]]:
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    lines = [line.rstrip("\n").split(" ", 2) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [(float(seconds), what) for seconds, told, what in lines if told == kind]


# A kill of each kind in every run, twenty more where there is time.
KILLS = [(PAINTING, 0), (TRAINING, 0)]
MORE_KILLS = [
    (way, 1 + number) for way, count in ((PAINTING, 10), (LAUNCHING, 5), (TRAINING, 5)) for number in range(count)
]


@pytest.mark.parametrize(
    ("way", "seed"), [*KILLS, *(pytest.param(*kill, marks=pytest.mark.slow) for kill in MORE_KILLS)]
)
def test_a_killed_window_loses_no_more_than_the_time_between_saves(
    way: str,
    seed: int,
    viewer: Any,
    tmp_path: Path,
    qtbot: Any,
    monkeypatch: pytest.MonkeyPatch,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    if sys.platform == "darwin":
        pytest.skip("The canvas needs the true pointer there.")
    assert SAVING_S > 0
    load_torch()
    monkeypatch.setenv("LUNGSEG_RECOVERY", str(tmp_path / "recovery"))
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "painted"))
    killed = paint_until_killed(tmp_path, save_tiny(tmp_path), way, seed)
    gone_s = wait_for(lambda: all(map(is_gone, killed.children)), GONE_S)
    lost_s, last = what_is_lost(killed)
    save_s = longest_save(killed)
    told = {kind: len(killed.told(kind)) for kind in ("paint", "saved", "round")}
    figures = f"lost {lost_s:.2f} s, longest save {save_s:.2f} s, gone after {gone_s:.2f} s, {told}"
    record_testsuite_property(f"{way} {seed}", figures)
    # A save keeps the next one waiting on a busy machine; with the interval that is shipped it does not.
    assert save_s < INTERVAL_MS / 1000
    assert lost_s <= max(window_session.INTERVAL_MS / 1000, save_s) + SAVING_S
    models_are_whole(tmp_path / "painted")
    if last is not None:
        reopen(viewer, last, qtbot)


def paint_until_killed(folder: Path, model: Path, way: str, seed: int) -> Killed:
    """Run a session of its own until a random moment."""
    log, printed = folder / "log", folder / "printed"
    command = [sys.executable, window_session.__file__, str(log), str(seed), str(model), way]
    kind, longest_s = MOMENTS[way]
    with printed.open("w") as stream, subprocess.Popen(command, stdout=stream, stderr=stream) as process:
        try:
            wait_for(lambda: bool(lines_of(log, kind)) or process.poll() is not None)
            time.sleep(random.Random(f"{way} {seed}").uniform(0, longest_s))
            assert process.poll() is None, printed.read_text()
            # Held for a moment, so that none of its children is missed.
            session = psutil.Process(process.pid)
            session.suspend()
            children = session.children(recursive=True)
        finally:
            process.kill()
        killed = Killed(folder, time.monotonic(), children)
    assert not killed.told("notice") and "Traceback" not in printed.read_text(), printed.read_text()
    if way != PAINTING:
        assert killed.told("train")[0][1] in {str(child.pid) for child in children}, "it was still training"
    return killed


def wait_for(condition: Callable[[], bool], seconds: float = PATIENCE_S) -> float:
    """Wait for something; returns for how long."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        time.sleep(0.02)
    return time.monotonic() - began


def is_gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE  # nobody may be there to take note of its end
    except psutil.NoSuchProcess:
        return True


def what_is_lost(killed: Killed) -> tuple[float, Leftover | None]:
    """For how long was painted after the state that is on the disk; and what that is."""
    painted, saved = killed.told("paint"), killed.told("saved")
    states = [state for _, state in painted]
    found = leftovers()
    if not found:
        assert not saved
        return killed.at_s - painted[0][0], None
    (leftover,) = found
    (item,) = open_work(leftover.folder).items
    kept = last_of(states, window_session.digest(item.labels.array))
    if saved:
        assert kept >= last_of(states, saved[-1][1]), "older than a save that had ended"
    lost_from = painted[kept + 1][0] if kept + 1 < len(painted) else killed.at_s
    return killed.at_s - lost_from, leftover


def longest_save(killed: Killed) -> float:
    """Of the saves that ended, in seconds; until the window took note of it."""
    begun = [seconds for seconds, _ in killed.told("saving")]
    return max((ended - max(each for each in begun if each <= ended) for ended, _ in killed.told("saved")), default=0.0)


def last_of(states: list[str], state: str) -> int:
    """Number of the last event after which labels were in this state, voxel for voxel."""
    return len(states) - 1 - states[::-1].index(state)


def models_are_whole(painted: Path) -> None:
    for model in painted.glob("*/model.safetensors"):
        assert read_spec(model).names == {window_session.LUNG: "lung"} and read_weights(model)


def reopen(viewer: Any, leftover: Leftover, qtbot: Any) -> None:
    """The next session: the same image is opened, and what was painted comes back, as it lay on the disk."""
    _, widget = viewer.window.add_plugin_dock_widget("napari-lungseg", "Train on painted labels")
    add_item(viewer, thorax_ct(shape=window_session.SHAPE)[0])
    qtbot.waitUntil(widget.offers.restore_button.isVisible, timeout=30_000)
    before = open_work(leftover.folder).items[0].labels.array
    widget.offers.restore_button.click()
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=30_000)
    layer = viewer.layers[1]
    assert isinstance(layer, Labels) and before.any() and np.array_equal(layer.data, before)
    painting = painting_of(layer)
    assert painting is not None and painting.background == window_session.BACKGROUND
    assert layer.metadata[KEY]["names"][window_session.LUNG] == "lung"
    # It is this session's now.
    qtbot.waitUntil(lambda: not leftover.folder.exists(), timeout=30_000)
    widget.close_down()
    recovery_of(viewer).close()
