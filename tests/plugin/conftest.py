"""What the plugin's tests share: a platform for Qt, small scans in every orientation, a stand-in for the network."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fake_network import FakeNetwork

from napari_lungseg.volume import Geometry, LabelMap, Volume

if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

TILT = np.deg2rad(20)
OBLIQUE = (
    (float(np.cos(TILT)), float(np.sin(TILT)), 0.0),
    (-float(np.sin(TILT)), float(np.cos(TILT)), 0.0),
    (0.0, 0.0, 1.0),
)
# Array axis → patient axis, as columns of (head, back, left).
DIRECTIONS = {
    "axial": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "feet first": ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "RAS": ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0)),
    "sagittal": ((0.0, -1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)),
    "coronal": ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)),
    "oblique": OBLIQUE,
}


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Any, qapp: Any) -> None:
    """Widgets remember in a folder of the test."""
    from qtpy.QtCore import QSettings

    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(tmp_path / "settings"))


def make_volume(direction: str = "axial", shape: tuple[int, int, int] = (6, 40, 48), **kwargs: Any) -> Volume:
    """A small CT whose voxels all differ, off centre and anisotropic."""
    array = (np.arange(np.prod(shape), dtype=np.int16).reshape(shape) % 3000) - 1000
    geometry = Geometry(shape, (3.0, 0.7, 0.9), (-120.5, 33.25, -81.0), DIRECTIONS[direction])
    return Volume(array.astype(np.int16), geometry, name="CT 3", **kwargs)


def make_labels(volume: Volume) -> LabelMap:
    """Right and left lung as two blocks of different size."""
    array = np.zeros(volume.geometry.shape, np.uint8)
    array[1:4, 5:20, 4:12] = 1
    array[2:5, 5:25, 20:40] = 2
    return LabelMap(array, volume.geometry, names={1: "right lung", 2: "left lung"}, name="lungs")


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> FakeNetwork:
    """A `FakeNetwork` in the place of `iter_segment`."""
    fake = FakeNetwork()
    monkeypatch.setattr("napari_lungseg.segmentation.predict.iter_segment", fake)
    monkeypatch.setattr("napari_lungseg.plugin.segmenting.load_torch", lambda: None)
    return fake


@pytest.fixture
def notices(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Notifications that were shown."""
    from napari.utils.notifications import notification_manager

    shown: list[Any] = []
    monkeypatch.setattr(notification_manager, "dispatch", shown.append)
    return shown


@pytest.fixture
def model_viewer() -> Any:
    """A viewer without a window."""
    from napari.components import ViewerModel

    return ViewerModel()


@pytest.fixture
def make_widget(model_viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    """Makes *Segment lungs* widgets on `model_viewer`."""
    from napari_lungseg.plugin import warm
    from napari_lungseg.plugin.segment_widget import SegmentWidget

    monkeypatch.setattr(warm, "QUIET_MS", 10**8)
    made: list[Any] = []

    def make() -> Any:
        widget = SegmentWidget(model_viewer)
        qtbot.addWidget(widget)
        made.append(widget)
        return widget

    yield make
    for widget in made:
        widget.close_down()
