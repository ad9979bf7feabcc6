"""``lungseg demo``: from nothing to labels, a picture and a table."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from . import show

if TYPE_CHECKING:
    from ..volume import LabelMap, Volume

# All metrics are in the file; so many fit a window.
_SHOWN = ("image", "name", "dice", "iou", "hd95", "assd", "nsd")
_BINDINGS = ("PyQt6", "PySide6", "PyQt5", "PySide2")


def run_demo(out: Path, *, device: str = "auto", napari: bool = True) -> int:
    """Segment both phantoms, write everything into ``out``, and open napari where there is a display."""
    from ..analysis.metrics import evaluate
    from ..analysis.table import joined
    from ..io import write
    from ..phantom import thorax_ct, thorax_xray
    from ..segmentation.predict import iter_segment
    from ..volume import LUNG_NAMES, label_colour
    from .picture import panels_of, save_picture

    makers: dict[str, Callable[[], tuple[Volume, LabelMap]]] = {"ct": thorax_ct, "xray": thorax_xray}
    tables, panels, opened = {}, [], []
    for kind, make in makers.items():
        volume, truth = make()
        labels = show.drained(iter_segment(volume, device=device), f"{kind} phantom")
        tables[kind] = evaluate(labels, truth)
        dice = tables[kind].column("dice")[-1]
        show.line(f"{volume.name}: Dice {dice:.3f} against the true labels ({labels.record.get('seconds', 0):.1f} s)")
        show.findings((*volume.findings, *labels.findings))
        panels += panels_of(volume, labels, f"{volume.name}, Dice {dice:.3f}")
        opened.append(
            [write(volume, out / f"{kind}-phantom.nii.gz"), write(labels, out / f"{kind}-phantom-labels.nii.gz")]
        )
    picture = save_picture(panels, {label: label_colour(label) for label in LUNG_NAMES}, out / "demo.png")
    table = joined(tables, "image")
    table.write(out / "demo.csv")
    show.table(table.only(*_SHOWN))
    for path in (*(path for pair in opened for path in pair), picture, out / "demo.csv"):
        show.line(str(path))
    if napari:
        open_napari(opened)
    return 0


def why_no_window() -> str:
    """Why napari cannot be opened here, or "" where it can."""
    if find_spec("napari") is None or not any(find_spec(name) for name in _BINDINGS):
        return "napari or a Qt binding is not installed (pip install 'napari[all]')"
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display"
    return ""


def open_napari(pairs: Sequence[Sequence[Path]]) -> None:
    """Open each image with its labels in a napari of its own, and wait until all are closed."""
    reason = why_no_window()
    if reason:
        show.line(f"napari is not opened: {reason}.")
        return
    command = [sys.executable, "-m", "napari", "--plugin", "napari-lungseg"]
    windows = [subprocess.Popen([*command, *map(str, pair)]) for pair in pairs]
    for window in windows:
        window.wait()
