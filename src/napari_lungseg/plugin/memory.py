"""What the widgets remember from one session to the next."""

from __future__ import annotations

import json
from typing import Any

from qtpy.QtCore import QSettings


def _store() -> QSettings:
    return QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, "napari-lungseg", "widgets")


def recall(widget: str) -> dict[str, Any]:
    """What `remember` kept for a widget, or an empty dictionary."""
    text = _store().value(widget, "")
    try:
        values = json.loads(str(text)) if text else {}
    except json.JSONDecodeError:
        return {}
    return values if isinstance(values, dict) else {}


def remember(widget: str, values: dict[str, Any]) -> None:
    """Keep JSON-ready values for a widget."""
    _store().setValue(widget, json.dumps(values))
