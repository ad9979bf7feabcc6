"""`import napari_lungseg` costs next to nothing; its names come when they are used."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import napari_lungseg

HEAVY = {"PyQt6", "SimpleITK", "dask", "magicgui", "napari", "numpy", "pydicom", "qtpy", "scipy", "skimage", "torch"}
# The best of several runs, so that a busy machine does not decide; twenty milliseconds is what was promised.
LIMIT_MS = 20
MEASURE = """
import sys, time
start = time.perf_counter()
import napari_lungseg
print(1000 * (time.perf_counter() - start))
print(*{name.partition(".")[0] for name in sys.modules})
"""


def run(code: str) -> list[str]:
    """Lines that the code prints in a Python of its own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.splitlines()


def loaded_after(statement: str) -> set[str]:
    """Heavy packages that are loaded after a statement."""
    (line,) = run(f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})")
    return HEAVY & set(line.split())


def test_importing_the_package_loads_nothing_heavy_and_is_quick() -> None:
    runs = [run(MEASURE) for _ in range(5)]
    assert HEAVY.isdisjoint(runs[0][1].split())
    assert min(float(took) for took, _ in runs) <= LIMIT_MS


def test_the_probe_sees_what_is_loaded() -> None:
    assert "numpy" in loaded_after("import napari_lungseg; napari_lungseg.Volume")


def test_settings_and_segment_are_at_hand_without_torch() -> None:
    assert "torch" not in loaded_after("from napari_lungseg import SegmentSettings, segment; SegmentSettings()")


def test_reading_needs_neither_torch_nor_napari() -> None:
    assert not {"torch", "napari", "qtpy"} & loaded_after("from napari_lungseg import read, write")


def test_listing_the_models_needs_no_torch() -> None:
    assert "torch" not in loaded_after("import napari_lungseg; napari_lungseg.list_models()")


@pytest.mark.parametrize("name", napari_lungseg.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(napari_lungseg, name)
    assert name == "__version__" or value.__doc__
    assert name in dir(napari_lungseg)


def test_no_public_name_hides_a_module() -> None:
    code = "import napari_lungseg as p, pkgutil; print(*{m.name for m in pkgutil.iter_modules(p.__path__)} & set(p.__all__))"
    assert run(code) == [""]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'train_everything'"):
        napari_lungseg.train_everything  # noqa: B018


def test_the_version_is_the_distributions() -> None:
    assert napari_lungseg.__version__ == version("napari-lungseg")
