"""``--series``: one of the several volumes that a path may hold, by its number or its neutral name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from ..errors import ReadError

if TYPE_CHECKING:
    from ..volume import LabelMap, Volume

    Item = TypeVar("Item", Volume, LabelMap, Volume | LabelMap)


def pick(items: Sequence[Item], series: str | None) -> list[Item]:
    """Those of a path's volumes that ``--series`` means; all of them without it.

    Parameters
    ----------
    items : what the path holds
    series : the series' number ("4"), or the name or the beginning of the name that `lungseg info` shows

    Raises
    ------
    ReadError
        When none is meant; the message lists what is there.
    """
    if series is None:
        return list(items)
    wanted = series.casefold().strip()
    for means in (_is_number, _is_name, _begins):
        found = [item for item in items if means(item.name.casefold(), wanted)]
        if found:
            return found
    raise ReadError(f"There is no series {series!r}; found {listed(items)}. Give a number or a name of these.")


def only(items: Sequence[Item], what: str) -> Item:
    """The one volume there is.

    Raises
    ------
    ReadError
        When there are several; the message lists them.
    """
    if len(items) != 1:
        raise ReadError(
            f"{what} holds {len(items)} volumes, but one is wanted: {listed(items)}. Pick one with --series NUMBER or NAME."
        )
    return items[0]


def listed(items: Sequence[Item]) -> str:
    """Their neutral names."""
    return ", ".join(repr(item.name) for item in items)


def _is_number(name: str, wanted: str) -> bool:
    return (
        re.search(rf"\bseries {re.escape(wanted)}(?!\d)", name) is not None if wanted.lstrip("-").isdigit() else False
    )


def _is_name(name: str, wanted: str) -> bool:
    return name == wanted


def _begins(name: str, wanted: str) -> bool:
    return bool(wanted) and name.startswith(wanted)
