"""Tables of names, each resolved to the thing it names only when it is first used."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from .errors import UnknownNameError


class Table(Mapping[str, str]):
    """Names mapped to ``"package.module:attribute"``.

    Parameters
    ----------
    what : what the names stand for, in the singular ("architecture"); used in messages
    entries : the table
    """

    def __init__(self, what: str, entries: Mapping[str, str]) -> None:
        self.what = what
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> str:
        try:
            return self._entries[name]
        except KeyError:
            close = difflib.get_close_matches(name, self._entries, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise UnknownNameError(
                f"There is no {self.what} named {name!r}.{hint} Known: {', '.join(sorted(self._entries))}."
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def resolve(self, name: str) -> Any:
        """Import and return what ``name`` stands for.

        Raises
        ------
        UnknownNameError
            When the table has no such name; the message offers the nearest one.
        """
        module, _, attribute = self[name].partition(":")
        return getattr(import_module(module), attribute)
