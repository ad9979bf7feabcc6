"""The command line. `main` is the one place that ends the process with an exit code."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence

from ..errors import LungSegError

__all__ = ["main"]

DONE, FAILED, INTERRUPTED = 0, 2, 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``lungseg`` and exit: 0 done, 2 with one line that says what was wrong, 130 after Ctrl-C."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run ``lungseg`` and return its exit code."""
    from . import show
    from .app import app

    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # what libraries mutter about a file; what matters is a finding
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        return int(app(list(arguments)) or DONE)
    except LungSegError as error:
        show.error(str(error))
        return FAILED
    except KeyboardInterrupt:
        show.error("Stopped. Finished files are complete, and no other was begun.")
        return INTERRUPTED
