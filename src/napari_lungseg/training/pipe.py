"""Messages between the window and the training process: what flows through a pipe, and how it is put together again.

A message is four letters, the length of a header, the header (JSON: kind, content, data types and shapes of the arrays)
and the bytes of the arrays one after another. Nothing is pickled: a message can hold plain values, arrays and the
dataclasses of `_KINDS`, and nothing else; these check themselves when they are made again.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import TrainingProcessError
from ..findings import Finding
from ..progress import Progress
from ..volume import Geometry, LabelMap, Volume
from .painted import Painted, Strokes
from .rounds import PaintSettings, Preview, Ranking, Remarks, Round, Update

_FIRST = b"LSP1"
_PREFIX = struct.Struct("<4sI")
_LONGEST_HEADER = 2**26
# Large arrays are handed on in pieces of so many bytes, so that a window can see to other things in between.
PIECE = 2**20

_KINDS: Mapping[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        Finding,
        Geometry,
        LabelMap,
        Painted,
        PaintSettings,
        Preview,
        Progress,
        Ranking,
        Remarks,
        Round,
        Strokes,
        Update,
        Volume,
    )
}


@dataclass(frozen=True, eq=False)
class Message:
    """One message.

    Parameters
    ----------
    kind : what it is about
    content : plain values, tuples, sets, mappings, paths, arrays of numbers, and the dataclasses of training
    """

    kind: str
    content: Mapping[str, Any] = field(default_factory=dict)


class Reading(Protocol):
    """What `read` needs of a stream."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill (a part of) the buffer; returns how much, 0 at the end."""


class Writing(Protocol):
    """What `write` needs of a stream: `write` takes all it is given."""

    def write(self, data: bytes | memoryview, /) -> object:
        """Take these bytes."""

    def flush(self) -> object:
        """Send what is held back."""


def write(stream: Writing, message: Message) -> None:
    """Write a message and send it off."""
    for piece in pack(message):
        stream.write(piece)
    stream.flush()


def read(stream: Reading) -> Message | None:
    """Wait for the next message; None where the stream ends before it begins.

    Raises
    ------
    TrainingProcessError
        When the stream ends within a message, or holds something else.
    """
    parts = _parts()
    hole = next(parts)
    begun = False
    while True:
        while len(hole):
            size = stream.readinto(hole)
            if not size:
                if not begun:
                    return None
                raise TrainingProcessError("The pipe to the training process ended in the middle of a message.")
            begun, hole = True, hole[size:]
        try:
            hole = next(parts)
        except StopIteration as end:
            message: Message = end.value
            return message


class Parser:
    """Puts messages together from whatever pieces arrive; every byte is copied once, to where it belongs."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._parts = _parts()
        self._hole = next(self._parts)

    def feed(self, data: bytes) -> list[Message]:
        """Take what arrived; returns the messages that are now complete.

        Raises
        ------
        TrainingProcessError
            When this is no message.
        """
        messages: list[Message] = []
        rest = memoryview(data)
        while len(rest) >= len(self._hole):
            size = len(self._hole)
            self._hole[:] = rest[:size]
            rest = rest[size:]
            try:
                self._hole = next(self._parts)
            except StopIteration as end:
                messages.append(end.value)
                self._begin()
        self._hole[: len(rest)] = rest
        self._hole = self._hole[len(rest) :]
        return messages


def pack(message: Message) -> Iterator[bytes | memoryview]:
    """The bytes of a message, in pieces of about `PIECE`.

    The header is made at once. Arrays are looked at when it is their turn (lazy ones are loaded then), so they must not
    change until the last piece was taken.

    Raises
    ------
    TypeError
        When the content holds something that has no place in a message.
    """
    arrays: list[Any] = []
    content = {name: _plain(value, arrays) for name, value in message.content.items()}
    described = [[array.dtype.str, list(array.shape)] for array in arrays]
    header = json.dumps({"kind": message.kind, "content": content, "arrays": described}).encode()
    return chain([_PREFIX.pack(_FIRST, len(header)) + header], chain.from_iterable(map(_pieces, arrays)))


def _pieces(array: Any) -> Iterator[memoryview]:
    whole = np.atleast_1d(np.asarray(array))
    if whole.flags.c_contiguous:
        whole = whole.reshape(-1)
    rows = max(1, PIECE // max(1, whole[:1].nbytes))
    for start in range(0, len(whole), rows):
        slab = np.ascontiguousarray(whole[start : start + rows]).reshape(-1).view(np.uint8).data
        yield from (slab[at : at + PIECE] for at in range(0, len(slab), PIECE))


def _parts() -> Generator[memoryview, None, Message]:
    """Asks for one hole after another to be filled with bytes; returns the message that they make."""
    prefix = bytearray(_PREFIX.size)
    yield memoryview(prefix)
    first, size = _PREFIX.unpack(prefix)
    if first != _FIRST or size > _LONGEST_HEADER:
        raise TrainingProcessError(f"The pipe to the training process holds something else than messages: {first!r}.")
    header = bytearray(size)
    yield memoryview(header)
    words = json.loads(header)
    arrays = []
    for name, shape in words["arrays"]:
        array = np.empty(shape, _numbers(np.dtype(name)))
        yield array.reshape(-1).view(np.uint8).data
        arrays.append(array)
    return Message(words["kind"], {name: _meant(value, arrays) for name, value in words["content"].items()})


def _numbers(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind not in "biuf":
        raise TypeError(f"A message holds arrays of numbers, not of {dtype}.")
    return dtype


# Plain values stand for themselves. Everything else is an object with one entry, whose key says what it is.


def _plain(value: Any, arrays: list[Any]) -> Any:
    """A value as JSON; the arrays in it go to the end of ``arrays``."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return _plain(value.item(), arrays)
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, Mapping):
        return {"mapping": [[_plain(key, arrays), _plain(entry, arrays)] for key, entry in value.items()]}
    if isinstance(value, tuple | frozenset | set | list):
        name = next(kind.__name__ for kind in (tuple, frozenset, set, list) if isinstance(value, kind))
        return {name: [_plain(entry, arrays) for entry in value]}
    if _KINDS.get(type(value).__name__) is type(value):
        fields = {one.name: _plain(getattr(value, one.name), arrays) for one in dataclasses.fields(value)}
        return {type(value).__name__: fields}
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        _numbers(value.dtype)
        arrays.append(value)
        return {"array": len(arrays) - 1}
    raise TypeError(f"A message cannot hold a {type(value).__name__}.")


def _meant(plain: Any, arrays: Sequence[np.ndarray]) -> Any:
    """The value that `_plain` was given."""
    if not isinstance(plain, dict):
        return plain
    [(name, entry)] = plain.items()
    if name == "array":
        return arrays[entry]
    if name == "path":
        return Path(entry)
    if name == "mapping":
        return {_meant(key, arrays): _meant(value, arrays) for key, value in entry}
    if name in _SERIES:
        return _SERIES[name](_meant(part, arrays) for part in entry)
    return _KINDS[name](**{key: _meant(value, arrays) for key, value in entry.items()})


_SERIES: Mapping[str, Callable[[Iterator[Any]], Any]] = {
    "tuple": tuple,
    "frozenset": frozenset,
    "set": set,
    "list": list,
}
