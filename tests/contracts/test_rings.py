"""What a module loads when it is imported, seen in a Python of its own: the rings hold at run time too."""

from __future__ import annotations

import subprocess
import sys

import pytest

GUI = {"PyQt6", "PySide6", "magicgui", "napari", "npe2", "qtpy", "superqt", "vispy"}
TENSORS = {"segmentation_models_pytorch", "torch", "torchvision"}
FORMATS = {"SimpleITK", "highdicom", "nibabel", "pydicom", "skimage"}
WORDS = ["errors", "findings", "models.spec", "progress", "registry", "settings"]
ARRAYS = ["io", "phantom", "volume"]
LEARNING = [
    "cohort.folder",
    "cohort.run",
    "analysis.measure",
    "analysis.metrics",
    "analysis.table",
    "models",
    "models.catalog",
    "segmentation.predict",
    "training.pipe",
    "training.rounds",
    "training.work",
]
SHELLS = ["cli"]


def loaded_by(module: str) -> set[str]:
    """Top-level packages in ``sys.modules`` after importing one module of this package."""
    code = f"import sys, napari_lungseg.{module}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("module", WORDS)
def test_words_need_only_the_standard_library(module: str) -> None:
    assert not loaded_by(module) & (GUI | TENSORS | FORMATS | {"numpy", "scipy", "dask"})


@pytest.mark.parametrize("module", ARRAYS)
def test_arrays_load_numpy_and_no_format_before_it_is_used(module: str) -> None:
    assert not loaded_by(module) & (GUI | TENSORS | FORMATS)


@pytest.mark.parametrize("module", LEARNING)
def test_learning_loads_torch_only_when_used(module: str) -> None:
    assert not loaded_by(module) & (GUI | TENSORS | FORMATS)


@pytest.mark.parametrize("module", SHELLS)
def test_the_command_line_starts_without_napari_and_torch(module: str) -> None:
    assert not loaded_by(module) & (GUI | TENSORS | FORMATS)


def test_the_probe_sees_what_a_module_loads() -> None:
    assert loaded_by("segmentation.preprocess") & TENSORS
