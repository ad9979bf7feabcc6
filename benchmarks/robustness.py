"""Read mutated files of every format: what opened, what was refused, what it took.

    python benchmarks/robustness.py 2000 [SEED]

prints the table of docs/reference/robustness.md. Harmful files, if there are any, are kept.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit"))

import fuzzing


def main(count: int = 2000, seed: int = fuzzing.SEED) -> None:
    kept = Path(tempfile.mkdtemp(prefix="fuzzing-"))
    outcomes = fuzzing.run(((seed, number) for number in range(count)), kept)
    for outcome in filter(fuzzing.is_harm, outcomes):
        print(outcome)
    print(f"seed {seed}, {count} files; harmful ones are kept in {kept}\n{fuzzing.table(outcomes)}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
