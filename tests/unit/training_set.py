"""A tiny data set on disk, quick to learn: two dark lungs on a bright chest, the patient's right one taller."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from napari_lungseg.training.recipe import Recipe, load_recipe

ROWS, COLUMNS = 48, 64

RECIPE = """
title = "tiny"
[model]
architecture = "unet"
options = { encoder = "resnet18", decoder_channels = [8, 4] }
[preprocessing]
size = [32, 32]
percentiles = [0.0, 100.0]
[augmentation]
rotation = 5.0
mirror = 0.0
elastic = 0.0
[training]
epochs = 3
batch_size = 4
learning_rate = 1e-2
workers = 0
precision = "float32"
"""

NORMED = RECIPE.replace(
    'architecture = "unet"\noptions = { encoder = "resnet18", decoder_channels = [8, 4] }',
    'architecture = "improved-unet"\noptions = { base = 4, depth = 3, dropout = 0.0, summed = 2 }',
).replace("[augmentation]\nrotation = 5.0\nmirror = 0.0\nelastic = 0.0\n", "")
"""Without what mixes the images of a batch or changes them at random."""


def chest(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) uint8 image and labels 0, 1, 2."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:ROWS, :COLUMNS]
    top, low = rng.integers(4, 9), rng.integers(30, 38)
    labels = np.zeros((ROWS, COLUMNS), np.uint8)
    labels[((y - 22) / 18) ** 2 + ((x - 18 - top / 4) / 9) ** 2 < 1] = 1
    labels[((y - 20) / (low / 3)) ** 2 + ((x - 46) / 8) ** 2 < 1] = 2
    image = np.where(labels > 0, 60, 190) + rng.normal(0, 12, labels.shape)
    return np.clip(image, 0, 255).astype(np.uint8), labels


def make_training_set(folder: Path, count: int = 12, first: int = 0) -> Path:
    """Write ``images/`` and ``masks/`` of ``count`` chests."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(first, first + count):
        image, labels = chest(number)
        Image.fromarray(image).save(folder / "images" / f"case{number:03}.png")
        Image.fromarray(labels).save(folder / "masks" / f"case{number:03}.png")
    return folder


def tiny_recipe(folder: Path, **settings: object) -> Recipe:
    """A recipe whose network trains in a second."""
    path = folder / "tiny.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return load_recipe(path).changed(**settings)
