"""Command-line flags from a settings dataclass, so that nothing is said twice."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal, TypeVar

from cyclopts import Parameter

from ..settings import SettingInfo, fields_of

Settings = TypeVar("Settings")


def flags_of(settings: type, *, given_only: bool = False) -> type:
    """A dataclass with the same fields and defaults, whose annotations carry help and choices for cyclopts.

    Parameters
    ----------
    settings : the dataclass
    given_only : every default is None, so that what was typed can be told from what was not
    """
    fields: list[Any] = [
        (info.name, _annotation(info, given_only), None if given_only else info.default) for info in fields_of(settings)
    ]
    # cyclopts takes classes of the module "types" for built in, and would not look into this one.
    return dataclasses.make_dataclass(
        f"{settings.__name__}Flags", fields, frozen=True, namespace={"__module__": __name__}
    )


def settings_from(flags: Any, settings: type[Settings]) -> Settings:
    """The settings that the flags stand for.

    Raises
    ------
    LungSegError
        When a value is outside its bounds.
    """
    return settings(**dataclasses.asdict(flags))


def given(flags: Any) -> dict[str, Any]:
    """The flags that were typed, of those made with ``given_only``."""
    return {name: value for name, value in dataclasses.asdict(flags).items() if value is not None}


def _annotation(info: SettingInfo, or_none: bool) -> Any:
    kind = Literal[tuple(info.choices)] if info.choices else info.annotation
    kind = kind | None if or_none else kind
    bounds = f" From {info.min:g} to {info.max:g}." if info.min is not None and info.max is not None else ""
    unit = f" In {info.unit}." if info.unit else ""
    return Annotated[kind, Parameter(help=f"{info.help}{unit}{bounds}")]
