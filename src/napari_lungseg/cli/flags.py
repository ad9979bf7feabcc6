"""Command-line flags from a settings dataclass, so that nothing is said twice."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Annotated, Any, Literal, TypeVar

from cyclopts import Parameter

from ..settings import SettingInfo, fields_of

Settings = TypeVar("Settings")


def flags_of(
    settings: type, *, given_only: bool = False, show_defaults: bool = False, without: Collection[str] = ()
) -> type:
    """A dataclass with the same fields and defaults, whose annotations carry help and choices for cyclopts.

    Parameters
    ----------
    settings : the dataclass
    given_only : every default is None, so that what was typed can be told from what was not
    show_defaults : tell the dataclass's defaults all the same
    without : fields that have no flag
    """
    fields: list[Any] = [
        (info.name, _annotation(info, given_only, show_defaults), None if given_only else info.default)
        for info in fields_of(settings)
        if info.name not in without
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


def _annotation(info: SettingInfo, or_none: bool, show_default: bool) -> Any:
    kind = Literal[tuple(info.choices)] if info.choices else info.annotation
    kind = kind | None if or_none else kind
    bounds = f" From {info.min:g} to {info.max:g}." if info.min is not None and info.max is not None else ""
    unit = f" In {info.unit}." if info.unit else ""
    default = str(info.default) if show_default else None
    return Annotated[kind, Parameter(help=f"{info.help}{unit}{bounds}", show_default=default)]
