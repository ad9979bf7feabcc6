"""How often rounds of a training come, and whether one is late."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

# Until it is known how long a round takes, and at least.
_FIRST_S, _LEAST_S = 60.0, 10.0
_TIMES = 3
_ENOUGH = 2


class Rhythm:
    """Times between rounds.

    Parameters
    ----------
    clock : returns seconds
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lengths: list[float] = []
        self.rest()

    def rest(self) -> None:
        """What is over so far does not count: a training begins, or goes on after a pause."""
        self._since = self._clock()

    def beat(self) -> None:
        """A round is over."""
        self._lengths.append(self._clock() - self._since)
        self._since = self._clock()

    @property
    def is_late(self) -> bool:
        """Whether the round at hand has taken far longer than others did."""
        known = len(self._lengths) >= _ENOUGH
        limit = max(_LEAST_S, _TIMES * median(self._lengths)) if known else _FIRST_S
        return self._clock() - self._since > limit
