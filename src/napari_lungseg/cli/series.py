"""``--series``: one of the several volumes that a path may hold, by its number, its neutral name or its size."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from ..errors import ReadError
from ..io import LARGEST_CT

if TYPE_CHECKING:
    from ..io import AsLabels
    from ..io.series_entry import SeriesEntry
    from ..volume import LabelMap, Modality, Volume

    Item = TypeVar("Item", Volume, LabelMap, Volume | LabelMap)


def read_picked(
    path: Path, series: str | None, *, modality: Modality | None = None, labels: AsLabels = None
) -> list[Volume | LabelMap]:
    """Read a path, or of one that holds several series only that which is meant.

    Raises
    ------
    ReadError
        When nothing can be read, or no series is meant.
    """
    from ..io import read
    from ..io.discover import is_container
    from ..io.series_list import is_row, iter_list_series, some_of
    from . import show

    if series is not None and is_container(path):
        # Names of volumes say more than those of series where one is taken apart ("CT series 4 (2)"): they are tried below.
        rows: tuple[SeriesEntry, ...] = ()
        entries: list[SeriesEntry] = []
        with suppress(ReadError):
            listing = show.drained(iter_list_series(path), path.name)
            rows, entries = listing.entries, listing.pick(series)
        if is_row(series) and rows and not entries:
            raise ReadError(f"There is no {series}; `lungseg series` lists {len(rows)} series.")
        if len(entries) > 1:
            fitting = some_of([f"row-{row} {each.name}" for row, each in enumerate(rows, 1) if each in entries])
            show.note(f"  ! --series {series} means {len(entries)} series: {fitting}. A row means one.")
        if entries:
            return [item for each in entries for item in read(path, modality=modality, labels=labels, series=each)]
    return pick(read(path, modality=modality, labels=labels), series)


def pick(items: Sequence[Item], series: str | None) -> list[Item]:
    """Those of a path's volumes that ``--series`` means; all of them without it.

    Parameters
    ----------
    items : what the path holds
    series : the series' number ("4"), the name or the beginning of the name that `lungseg info` shows, or
        "largest-ct"

    Raises
    ------
    ReadError
        When none is meant; the message lists what is there.
    """
    from ..io.series_list import nothing_meant

    if series is None:
        return list(items)
    wanted = series.casefold().strip()
    if wanted == LARGEST_CT and (scans := [item for item in items if getattr(item, "modality", "") == "ct"]):
        return [max(scans, key=lambda item: item.geometry.shape[0])]
    for means in (_is_number, _is_name, _begins):
        found = [item for item in items if means(item.name.casefold(), wanted)]
        if found:
            return found
    raise ReadError(nothing_meant(series, [item.name for item in items]))


def read_image(path: Path, series: str | None, modality: Modality | None) -> Volume:
    """The one image of a path; a file whose kind was told is one, whatever it looks like.

    Raises
    ------
    ReadError
        When it is a label map, or there are several.
    """
    items = read_picked(path, series, modality=modality, labels=False if modality else "skip")
    return cast("Volume", only(items, path.name))


def only(items: Sequence[Item], what: str) -> Item:
    """The one volume there is.

    Raises
    ------
    ReadError
        When there are several; the message lists them.
    """
    from ..io.series_list import some_of

    if len(items) != 1:
        names = some_of([item.name for item in items])
        raise ReadError(
            f"{len(items)} volumes of {what} are meant, but one is wanted: {names}. Pick one with --series: its number, its "
            "name, or row-N of `lungseg series`."
        )
    return items[0]


def _is_number(name: str, wanted: str) -> bool:
    return (
        re.search(rf"\bseries {re.escape(wanted)}(?!\d)", name) is not None if wanted.lstrip("-").isdigit() else False
    )


def _is_name(name: str, wanted: str) -> bool:
    return name == wanted


def _begins(name: str, wanted: str) -> bool:
    return bool(wanted) and name.startswith(wanted)
