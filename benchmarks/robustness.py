"""Read mutated files of every format: what opened, what was refused, what it took.

    python benchmarks/robustness.py 2000 [SEED]
    python benchmarks/robustness.py 600 --containers [SEED]

prints the tables of docs/reference/robustness.md. Harmful files, if there are any, are kept.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit"))

import fuzz_sources
import fuzzing


def main(count: int = 2000, seed: int = fuzzing.SEED, formats: Sequence[str] = fuzz_sources.FORMATS) -> None:
    kept = Path(tempfile.mkdtemp(prefix="fuzzing-"))
    outcomes = fuzzing.run(((seed, number) for number in range(count)), kept, formats=formats)
    for outcome in filter(fuzzing.is_harm, outcomes):
        print(outcome)
    print(f"seed {seed}, {count} files; harmful ones are kept in {kept}\n{fuzzing.table(outcomes)}")


if __name__ == "__main__":
    given = [word for word in sys.argv[1:] if word != "--containers"]
    chosen = fuzz_sources.CONTAINERS if "--containers" in sys.argv else fuzz_sources.FORMATS
    main(*map(int, given), formats=chosen)
