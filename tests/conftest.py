"""What every test gets: a home of its own, seeded randomness, and the real images where they are."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

DATA_VARIABLE = "LUNGSEG_TEST_DATA"
# The same examples in every run, and no clock: a busy machine is no failure.
settings.register_profile("lungseg", deadline=None, derandomize=True, database=None)
settings.load_profile("lungseg")
_home = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep settings and caches of napari, Qt and this package away from the user's own, before any is imported."""
    home = tempfile.mkdtemp(prefix="lungseg-tests-")
    config.stash[_home] = home
    folders = {"HOME": "", "XDG_CONFIG_HOME": "config", "XDG_CACHE_HOME": "cache", "XDG_DATA_HOME": "data"}
    for variable, folder in folders.items():
        path = Path(home, folder)
        path.mkdir(exist_ok=True)
        os.environ[variable] = str(path)
    os.environ["NAPARI_CONFIG"] = ""  # settings in memory only


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the home made for this run."""
    shutil.rmtree(config.stash.get(_home, ""), ignore_errors=True)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real images named by LUNGSEG_TEST_DATA; tests that need it are skipped where it is missing."""
    folder = os.environ.get(DATA_VARIABLE)
    if not folder:
        pytest.skip(f"{DATA_VARIABLE} is not set: set it to the folder of real images to run this test.")
    if not Path(folder, "README.md").is_file():
        pytest.skip(f"{DATA_VARIABLE} is {folder}, where there are no real images (no README.md).")
    return Path(folder)


@pytest.fixture
def rng() -> np.random.Generator:
    """Randomness that is the same in every run."""
    return np.random.default_rng(20_240_229)
