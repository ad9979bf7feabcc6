"""Settings, said once: a field's help, unit and bounds serve the API, the flags, the form and the record.

A task has one frozen dataclass whose fields are made by `setting`. `fields_of` hands the same facts to
whoever builds flags or widgets from them; `validate` is called by the dataclass itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints

from .errors import LungSegError

_KEY = "napari_lungseg"


@dataclass(frozen=True)
class SettingInfo:
    """What is known about one field beside its default.

    Parameters
    ----------
    name, annotation, default : of the dataclass field
    help : a sentence
    unit : of the value, or ""
    min, max : inclusive bounds, or None
    choices : allowed values, or ()
    advanced : folded away in a form
    """

    name: str
    annotation: Any
    default: Any
    help: str
    unit: str = ""
    min: float | None = None
    max: float | None = None
    choices: tuple[Any, ...] = ()
    advanced: bool = False


def setting(
    default: Any,
    help: str,
    *,
    unit: str = "",
    min: float | None = None,
    max: float | None = None,
    choices: Sequence[Any] = (),
    advanced: bool = False,
) -> Any:
    """Make a dataclass field that knows its help text, unit, bounds and choices."""
    facts = {"help": help, "unit": unit, "min": min, "max": max, "choices": tuple(choices), "advanced": advanced}
    return dataclasses.field(default=default, metadata={_KEY: facts})


def fields_of(settings: Any) -> list[SettingInfo]:
    """Describe every field of a settings dataclass (the class or an instance), in order."""
    kind = settings if isinstance(settings, type) else type(settings)
    hints = get_type_hints(kind)
    return [
        SettingInfo(name=field.name, annotation=hints[field.name], default=field.default, **field.metadata[_KEY])
        for field in dataclasses.fields(kind)
        if _KEY in field.metadata
    ]


def validate(settings: Any) -> None:
    """Check every field against its bounds and choices.

    Raises
    ------
    LungSegError
        Naming the field, the value found and what is allowed.
    """
    for info in fields_of(settings):
        value = getattr(settings, info.name)
        if info.choices and value not in info.choices:
            raise LungSegError(f"{info.name} is {value!r}, but must be one of {', '.join(map(str, info.choices))}.")
        too_low = info.min is not None and value is not None and value < info.min
        too_high = info.max is not None and value is not None and value > info.max
        if too_low or too_high:
            unit = f" {info.unit}" if info.unit else ""
            raise LungSegError(f"{info.name} is {value}{unit}, but must lie between {info.min} and {info.max}{unit}.")
