"""Keys of the widgets, bound to the viewer while a widget is open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# None of these is taken by napari itself.
KEYS: Mapping[str, str] = {
    "segment": "Control-Alt-S",
    "cancel": "Control-Alt-C",
    "next": ".",
    "previous": ",",
    "swap": "Shift-X",
    "lung": "Alt-1",
    "mediastinum": "Alt-2",
    "bone": "Alt-3",
    "front": "Alt-0",
    "train": "Shift-T",
    "stop": "Shift-S",
    "complete": "Shift-C",
    "next slice": "Shift-N",
    "worse": "Shift-W",
    "accept": "Shift-Y",
    "correct": "Shift-E",
    "reject": "Shift-R",
    "notes": "Shift-M",
    "next case": "PageDown",
    "previous case": "PageUp",
}


class Shortcuts:
    """Keys that call commands on a viewer.

    Parameters
    ----------
    viewer : napari viewer or viewer model
    commands : name in `KEYS` → function without arguments
    """

    def __init__(self, viewer: Any, commands: Mapping[str, Callable[[], object]]) -> None:
        self._viewer = viewer
        self._keys = [KEYS[name] for name in commands]
        for name, command in commands.items():
            viewer.bind_key(KEYS[name], _without_viewer(command), overwrite=True)

    def remove(self) -> None:
        """Give the keys back."""
        for key in self._keys:
            self._viewer.bind_key(key, None)
        self._keys = []


def _without_viewer(command: Callable[[], object]) -> Callable[[Any], None]:
    def call(viewer: Any) -> None:
        command()

    return call
