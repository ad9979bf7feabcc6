"""PyTorch imported in a quiet moment, so that the first run need not wait for it.

Importing it stops the window for most of a second, even from a thread. That happens when nobody has touched the
mouse or the keyboard for a while, or else in the first run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import suppress
from importlib import import_module

from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QApplication

from ..progress import Progress
from .jobs import Job

QUIET_MS = 4000
_INPUT = (
    QEvent.Type.KeyPress,
    QEvent.Type.MouseButtonPress,
    QEvent.Type.MouseButtonRelease,
    QEvent.Type.MouseMove,
    QEvent.Type.Wheel,
)


class Warmer(QObject):
    """Imports PyTorch once the application has been left alone for `QUIET_MS`.

    Parameters
    ----------
    parent : owner; waiting ends with it
    """

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(QUIET_MS)
        self._timer.timeout.connect(self._warm)
        if "torch" not in sys.modules:
            application = QApplication.instance()
            if application is not None:
                application.installEventFilter(self)
            self._timer.start()

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 (Qt's name)
        """Wait on while the user is busy."""
        if event is not None and event.type() in _INPUT and self._timer.isActive():
            self._timer.start()
        return False

    def stop(self) -> None:
        """Wait no longer."""
        self._timer.stop()
        application = QApplication.instance()
        if application is not None:
            application.removeEventFilter(self)

    def _warm(self) -> None:
        self.stop()
        Job(_import_steps, on_error=lambda error: None)


def _import_steps() -> Generator[Progress, None, None]:
    yield Progress(0, 2, "Loading PyTorch …")
    load_torch()
    yield Progress(1, 2, "Loading network code …")
    import segmentation_models_pytorch  # noqa: F401


def load_torch() -> None:
    """Import PyTorch into a process that draws with OpenGL. Every import of it in the plugin begins here.

    PyTorch on Linux brings Triton, which holds an LLVM of its own. Mesa's drivers (llvmpipe, radeonsi) load another one
    with global symbols; Triton then takes some of those for its own, and the process dies (segmentation fault at
    ``import torchvision``, seen with Mesa 22.3 and Triton 3). Bound to itself first, Triton keeps to its own.
    """
    if sys.platform.startswith("linux") and "triton" not in sys.modules:
        flags = sys.getdlopenflags()
        sys.setdlopenflags(flags | os.RTLD_DEEPBIND)
        try:
            with suppress(ImportError):
                import_module("triton")
        finally:
            sys.setdlopenflags(flags)
    import_module("torch")
