"""Saves painted work over and over, each time something else; run as a program to be killed, imported to know what it saved."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np

from napari_lungseg.training.work import Work, WorkItem, save_work
from napari_lungseg.volume import Geometry, LabelMap

IMAGES = 3
GEOMETRY = Geometry((12, 96, 80), (2.5, 0.7, 0.9), (-120.5, 33.25, -81.0))


def labels_of(image: int, number: int) -> np.ndarray:
    """What is painted on an image in the save of this number: one image changes in each save."""
    last = number - (number - image) % IMAGES
    return np.random.default_rng([image, max(last, 0)]).integers(0, 4, GEOMETRY.shape, np.uint8)


def work_of(number: int) -> Work:
    """The work in the save of this number."""
    items = [
        WorkItem(
            LabelMap(labels_of(image, number), GEOMETRY, {1: f"class of {number}"}), complete=frozenset({number % 12})
        )
        for image in range(IMAGES)
    ]
    return Work(tuple(items), start=f"{number}")


if __name__ == "__main__":
    for number in itertools.count():
        save_work(Path(sys.argv[1]), work_of(number))
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
