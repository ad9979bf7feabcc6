"""What opening the plugin's widgets imports."""

from __future__ import annotations

import os
import subprocess
import sys

_OPEN_WIDGET = """
import sys
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication
application = QApplication([])
from napari.components import ViewerModel
from napari_lungseg.plugin.segment_widget import SegmentWidget
from napari_lungseg.plugin.open_widget import OpenWidget
viewer = ViewerModel()
widgets = SegmentWidget(viewer), OpenWidget(viewer)
application.processEvents()
import napari_lungseg.plugin.contributions
heavy = {"torch", "torchvision", "segmentation_models_pytorch", "SimpleITK", "highdicom"}
print("heavy:", *heavy & set(sys.modules))
for widget in widgets:  # as napari does; Qt may crash over widgets that Python takes apart at its end
    widget.deleteLater()
del widget, widgets
application.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
"""


def test_widgets_open_without_torch() -> None:
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    command = [sys.executable, "-c", _OPEN_WIDGET]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1].strip() == "heavy:"
