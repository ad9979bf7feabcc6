"""Make the pictures of the documentation: the phantom, segmented by the bundled models, in the whole napari window.

Usage: ``python tools/with_display.py python docs/images/make.py``
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import napari
from napari.layers import Labels
from qtpy.QtCore import QEventLoop, QTimer

from napari_lungseg.phantom import thorax_ct, thorax_xray
from napari_lungseg.plugin.opening import add_item

HERE = Path(__file__).parent


def wait(milliseconds: int) -> None:
    """Let the window live for a while."""
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


def segment(viewer: Any, widget: Any) -> Labels:
    """Press Segment and wait for the result."""
    widget.run_button.click()
    while widget.job is not None:
        wait(50)
    if widget.result is None:
        raise SystemExit("The run gave no result; see the notification above.")
    return widget.result


def main() -> None:
    """Write ``segment-ct.png`` and ``segment-xray.png`` beside this file."""
    viewer = napari.Viewer()
    viewer.window.resize(1400, 860)
    _, widget = viewer.window.add_plugin_dock_widget("napari-lungseg", "Segment lungs")
    for name, make in (("ct", thorax_ct), ("xray", thorax_xray)):
        viewer.layers.clear()
        widget.result = None
        volume, _ = make() if name == "xray" else make(shape=(96, 256, 288))
        add_item(viewer, volume)
        segment(viewer, widget)
        viewer.reset_view()
        wait(6000)  # until the notifications are gone
        viewer.screenshot(str(HERE / f"segment-{name}.png"), canvas_only=False, flash=False)
    viewer.close()


if __name__ == "__main__":
    main()
