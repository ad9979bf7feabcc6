"""Long work is a generator: it yields `Progress` and returns its result."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Progress:
    """One step of long work.

    Parameters
    ----------
    done, total : steps finished and expected; ``total`` 0 means not known
    message : what is going on, for a person
    payload : anything a shell may want to show, e.g. a preview
    """

    done: int
    total: int
    message: str = ""
    payload: Any = None

    @property
    def fraction(self) -> float:
        """Share that is done, 0 to 1 (0 while the total is unknown)."""
        return min(1.0, self.done / self.total) if self.total else 0.0


def drain(steps: Generator[Progress, None, Result], progress: Callable[[Progress], object] | None = None) -> Result:
    """Run a generator to its end and return its result.

    Parameters
    ----------
    steps : the long work
    progress : called with every `Progress`, in the caller's thread
    """
    try:
        while True:
            step = next(steps)
            if progress is not None:
                progress(step)
    except StopIteration as stop:
        result: Result = stop.value
        return result
    finally:
        steps.close()
