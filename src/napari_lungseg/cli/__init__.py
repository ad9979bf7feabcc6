"""The command line. `main` is the one place that ends the process with an exit code."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import LungSegError

if TYPE_CHECKING:
    from cyclopts import CycloptsError

__all__ = ["main"]

DONE, FAILED, INTERRUPTED = 0, 2, 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``lungseg`` and exit: 0 done, 2 with one line that says what was wrong, 130 after Ctrl-C."""
    _quieten()
    try:
        code = run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:  # while the commands were being imported
        code = INTERRUPTED
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run ``lungseg`` and return its exit code."""
    from cyclopts import CycloptsError

    from . import show
    from .app import app

    try:
        return int(app(list(arguments), print_error=False, exit_on_error=False) or DONE)
    except CycloptsError as error:
        show.error(f"{_plain(error)} See --help.")
        return FAILED
    except LungSegError as error:
        show.error(str(error))
        return FAILED
    except KeyboardInterrupt:
        show.error("Stopped. Finished files are complete, and no other was begun.")
        return INTERRUPTED


def _plain(error: CycloptsError) -> str:
    """The error; of an argument that nobody typed, that it is missing rather than that it "requires an argument"."""
    from cyclopts import MissingArgumentError

    if not isinstance(error, MissingArgumentError) or error.keyword or error.argument is None:
        return str(error)
    return f"{' or '.join(error.argument.names)} is missing: `lungseg {' '.join(error.command_chain or ())}` needs it."


def _quieten() -> None:
    """Keep libraries from muttering about a file; what matters of it is a finding or an error."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    if not logging.getLogger().handlers:
        logging.getLogger().addHandler(logging.NullHandler())
