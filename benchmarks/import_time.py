"""What `import napari_lungseg` adds to starting Python.

Each run is a Python of its own; the modules that it loads are counted beside the time.

Usage: ``python benchmarks/import_time.py [RUNS]``
"""

from __future__ import annotations

import statistics
import subprocess
import sys

CODE = """
import sys, time
before = len(sys.modules)
start = time.perf_counter()
import napari_lungseg
print(1000 * (time.perf_counter() - start), len(sys.modules) - before)
"""


def one_run() -> tuple[float, int]:
    """Milliseconds and modules that the import took, in a fresh Python."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    milliseconds, modules = done.stdout.split()
    return float(milliseconds), int(modules)


def main(runs: int = 20) -> None:
    one_run()  # compiles the package, once for all
    figures = [one_run() for _ in range(runs)]
    times = [milliseconds for milliseconds, _ in figures]
    print(
        f"import napari_lungseg: median {statistics.median(times):.1f} ms, best {min(times):.1f}, worst {max(times):.1f}"
    )
    print(f"({runs} runs, {figures[0][1]} modules, Python {sys.version.split()[0]})")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
