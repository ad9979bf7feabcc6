"""A form made from a settings dataclass: one row per field, with its help, unit and bounds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, get_args

from magicgui.widgets import Container, create_widget
from magicgui.widgets.bases import ValueWidget
from qtpy.QtWidgets import QDoubleSpinBox

from ..errors import LungSegError
from ..settings import SettingInfo, fields_of

_DIGITS = 6
# Rows that are called what their unit is.
_SPELLED = {"s": "seconds"}


class SettingsForm:
    """Rows for the fields of a settings dataclass.

    Parameters
    ----------
    settings : the dataclass (its class); every field needs a default
    on_change : called after every edit
    without : fields that have no row and keep their defaults

    Attributes
    ----------
    plain, advanced : `magicgui.widgets.Container`
        The rows to show, and those to fold away.
    """

    def __init__(
        self, settings: type, on_change: Callable[[], object] | None = None, without: Collection[str] = ()
    ) -> None:
        self._kind = settings
        self._rows: dict[str, ValueWidget[Any]] = {}
        groups: dict[bool, list[ValueWidget[Any]]] = {False: [], True: []}
        for info in fields_of(settings):
            if info.name in without:
                continue
            row = _row(info)
            if on_change is not None:
                row.changed.connect(lambda _value: on_change())
            self._rows[info.name] = row
            groups[info.advanced].append(row)
        self.plain = Container(widgets=groups[False], labels=True)
        self.advanced = Container(widgets=groups[True], labels=True)

    @property
    def values(self) -> dict[str, Any]:
        """Field → value, as the rows show them."""
        return {name: _plain(row.value) for name, row in self._rows.items()}

    @property
    def settings(self) -> Any:
        """The settings as the rows show them."""
        return self._kind(**self.values)

    def update(self, values: Mapping[str, Any]) -> None:
        """Set rows from remembered values; what no longer fits keeps its default."""
        for name, value in values.items():
            if name not in self._rows:
                continue
            before = self._rows[name].value
            try:
                self._rows[name].value = value
                self._kind(**self.values)
            except (ValueError, TypeError, LungSegError):
                self._rows[name].value = before


def _row(info: SettingInfo) -> ValueWidget[Any]:
    label = info.name.replace("_", " ")
    options: dict[str, Any] = {"tooltip": info.help}
    if info.choices:
        options |= {"choices": info.choices, "widget_type": "ComboBox"}
    elif _is_number(info.annotation):
        options |= {key: value for key, value in (("min", info.min), ("max", info.max)) if value is not None}
    row: ValueWidget[Any] = create_widget(  # type: ignore[assignment]
        value=info.default,
        annotation=info.annotation,
        label=f"{label} ({info.unit})" if info.unit and _SPELLED.get(info.unit) != label else label,
        options=options,
    )
    if float in (info.annotation, *get_args(info.annotation)):
        _show_digits(row, info.default)
    return row


def _show_digits(row: ValueWidget[Any], default: float | None) -> None:
    """Room for the digits of small numbers, which would be rounded to two, and steps of their size."""
    box: Any = row.native
    if default is not None and abs(default) < 0.1 and isinstance(box, QDoubleSpinBox):
        box.setDecimals(_DIGITS)
        box.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
        row.value = default


def _is_number(annotation: Any) -> bool:
    kinds = get_args(annotation) or (annotation,)
    return any(kind in (int, float) for kind in kinds)


def _plain(value: Any) -> Any:
    """The value without the enum that magicgui may wrap a choice in."""
    return value.value if hasattr(value, "value") and hasattr(value, "name") else value
