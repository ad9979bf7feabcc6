"""What the command line prints: results on the standard output, all else on the error stream."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.markup import escape

from ..progress import Progress, drain

if TYPE_CHECKING:
    from pathlib import Path

    from ..analysis.table import Table
    from ..errors import LungSegError
    from ..findings import Finding

Result = TypeVar("Result")

# A turned table of more rows than this would be wider than a window.
_UPRIGHT = 8


def line(text: str) -> None:
    """One line of result; never broken, so that a path can be copied."""
    Console(file=sys.stdout, highlight=False, soft_wrap=True).print(text, markup=False)


def error(text: str) -> None:
    """One line on the error stream."""
    console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
    console.print(f"[bold red]lungseg:[/] {escape(' '.join(text.split()))}")


def note(text: str) -> None:
    """One line beside the result, on the error stream, so that the standard output stays what a program expects."""
    Console(file=sys.stderr, highlight=False, soft_wrap=True).print(text, markup=False)


def error_about(path: Path, problem: LungSegError) -> None:
    """One line on the error stream that begins with the path as it was typed."""
    text = str(problem)
    if path.name and text.startswith(path.name):
        error(f"{path}{text[len(path.name) :]}")
    else:
        error(f"{path}: {text}")


def findings(noticed: Iterable[Finding]) -> None:
    """What was noticed, one line each, under the result that it belongs to."""
    for finding in noticed:
        line(f"  ! {finding.message}")


def for_machines(value: Any) -> None:
    """JSON, and nothing else, on the standard output."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def table(values: Table) -> None:
    """A table with its units in the heading."""
    from rich.table import Table as RichTable

    from ..analysis.table import text_of

    shown = RichTable(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in values.columns:
        numeric = any(isinstance(value, (int, float)) for value in values.column(name))
        shown.add_column(values.title(name), justify="right" if numeric else "left")
    for row in values.rows:
        shown.add_row(*(escape(text_of(value)) for value in row))
    _print_table(shown)


def upright(values: Table, what: str = "metric") -> None:
    """A table of few rows and many columns, turned: one line per column (a ``what``), one column per row's name."""
    from ..analysis.table import Table

    if "frame" in values.columns or len(values) > _UPRIGHT:
        table(values)
        return
    lines = [(values.title(name), *values.column(name)) for name in values.columns if name not in ("label", "name")]
    table(Table((what, *values.column("name")), tuple(lines)))


def rows(columns: Iterable[str], lines: Iterable[Iterable[str]]) -> None:
    """A table of texts."""
    from rich.table import Table as RichTable

    shown = RichTable(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        shown.add_column(name, overflow="fold")
    for cells in lines:
        shown.add_row(*(escape(cell) for cell in cells))
    _print_table(shown)


def _print_table(shown: Any) -> None:
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        # In a file or pipe a row stays one line, however long.
        console = Console(file=sys.stdout, highlight=False, width=400)
    console.print(shown)


def drained(steps: Generator[Progress, None, Result], title: str) -> Result:
    """Run long work under a progress bar (on a terminal) and return its result."""
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = Console(file=sys.stderr)
    columns = (TextColumn("{task.fields[title]}"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", title=escape(title), total=None)

        def move(step: Progress) -> None:
            bar.update(task, completed=step.done, total=step.total or None, description=escape(step.message))

        return drain(steps, move)


def finding_records(noticed: Iterable[Finding]) -> list[Mapping[str, str]]:
    """Findings for machines."""
    return [{"code": finding.code, "message": finding.message} for finding in noticed]
