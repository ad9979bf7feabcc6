"""The whole napari window; needs a display."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest


@pytest.fixture(scope="session")
def display() -> None:
    """Skip, and say so, where there is no display."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        pytest.skip("No display: run `tox`, or `python tools/with_display.py python -m pytest tests/viewer`.")


@pytest.fixture
def viewer(display: None, make_napari_viewer: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A napari viewer in its window, with settings of its own."""
    from qtpy.QtCore import QSettings

    from napari_lungseg.plugin import warm

    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(tmp_path / "settings"))
    monkeypatch.setattr(warm, "QUIET_MS", 10**8)
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1200, 800)
    yield viewer
    with suppress(RuntimeError):  # a test may have closed the window itself
        viewer.window.remove_dock_widget("all")
