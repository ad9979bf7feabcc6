"""Memory that a network gave back is there for its next batch."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

_PAGES = """
import resource
import numpy as np
if {kept}:
    from napari_lungseg.segmentation.devices import keep_freed_memory
    keep_freed_memory()
np.ones(20_000_000, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(20_000_000, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages(kept: bool) -> int:
    """Fresh pages asked for by twenty arrays of 20 MB, one after the other, in a process set up as Dask sets up its workers."""
    command = [sys.executable, "-c", _PAGES.format(kept=kept)]
    # Pages of the usual size: on some machines NumPy asks for huge ones.
    how = {"MALLOC_TRIM_THRESHOLD_": "65536", "NUMPY_MADVISE_HUGEPAGE": "0"}
    printed = subprocess.run(command, env=os.environ | how, capture_output=True, text=True, check=True)
    return int(printed.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_memory_is_used_again_even_where_dask_wants_it_given_back() -> None:
    assert pages(kept=False) > 50_000 > 5_000 > pages(kept=True)
