"""Images and labels as the network wants them, made once and kept on disk, so that training only reads.

Every case becomes two ``.npy`` files, read through a memory map: a data set may be larger than memory. They are named by
the content of the case's files and by the preprocessing, so a changed mask or window is prepared again, and an
interrupted preparation goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import Dataset

from ..io.atomic import replacing
from ..models.spec import Preprocessing
from ..progress import Progress
from ..segmentation.preprocess import Box, boxes_of, fit_into, to_network
from .datasets import Case, DataSet
from .losses import IGNORE
from .recipe import Recipe

# To be raised whenever the same files would be prepared differently.
_VERSION = 1
_SLICES_AT_ONCE = 32


@dataclass(frozen=True)
class PreparedCase:
    """One case on disk.

    Parameters
    ----------
    name : of the case
    images : ``.npy`` of (slices, channels, rows, columns) float16 in 0…1
    labels : ``.npy`` of (slices, rows, columns) uint8, or None where nothing is known
    slices : how many
    """

    name: str
    images: Path
    labels: Path | None
    slices: int


def iter_prepare(
    dataset: DataSet, cases: Sequence[Case], steps: Preprocessing, folder: Path
) -> Generator[Progress, None, tuple[PreparedCase, ...]]:
    """Prepare cases for training, step by step.

    Parameters
    ----------
    dataset : that the cases belong to
    cases : to prepare
    steps : of the model; its ``size`` is the size of what is kept
    folder : for the files, made where it is missing

    Yields
    ------
    Progress after every case; cases that are there already take no time.

    Raises
    ------
    ReadError, TrainingDataError
        When a case cannot be read; what was prepared before stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    prepared = []
    for number, case in enumerate(cases):
        yield Progress(number, len(cases), f"preparing {case.name}")
        key = content_key(case, dataset, steps)
        images, labels = folder / f"{key}.images.npy", folder / f"{key}.labels.npy"
        if not images.is_file() or (case.masks and not labels.is_file()):
            _prepare(dataset, case, steps, images, labels)
        slices = len(np.load(images, mmap_mode="r"))
        prepared.append(PreparedCase(case.name, images, labels if case.masks else None, slices))
    return tuple(prepared)


def kept_size(recipe: Recipe) -> Preprocessing:
    """The preprocessing of what is kept on disk: finer than the network's input where the recipe says so."""
    steps = recipe.preprocessing
    finer = recipe.settings.canvas if recipe.augmentation else 1.0  # only augmentation brings it to size again
    rows, columns = (round(side * finer) for side in steps.size)
    return dataclasses.replace(steps, size=(rows, columns))


def default_cache() -> Path:
    """Where prepared images are kept unless a folder is named."""
    from platformdirs import user_cache_path

    return user_cache_path("napari-lungseg", appauthor=False) / "prepared"


def content_key(case: Case, dataset: DataSet, steps: Preprocessing) -> str:
    """Hexadecimal hash of all that decides what a case looks like to the network."""
    digest = hashlib.sha256()
    about = (dict(dataset.names), dataset.modality, dataset.offset, case.mask_labels, case.aspect)
    facts = [_VERSION, dataclasses.asdict(steps), *about]
    digest.update(json.dumps(facts, sort_keys=True).encode())
    for path in _files((case.image, *case.masks)):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:32]


def _files(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        yield from sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _prepare(dataset: DataSet, case: Case, steps: Preprocessing, images: Path, labels: Path) -> None:
    volume, truth = dataset.read(case)
    voxels = np.asarray(volume.array)
    seen, marked = [], []
    for start in range(0, len(voxels), _SLICES_AT_ONCE):
        part = slice(start, start + _SLICES_AT_ONCE)
        slices = torch.from_numpy(np.ascontiguousarray(voxels[part]).astype(np.float32))
        boxes = boxes_of(slices, steps)
        seen.append(to_network(slices, boxes, steps).half().numpy())
        if truth is not None:
            marked.append(labels_to_network(torch.from_numpy(truth[part]), boxes, steps).numpy())
    # Labels first: images alone are what an unlabelled case looks like.
    for path, arrays in ((labels, marked), (images, seen)):
        if arrays:
            with replacing(path) as partial:
                np.save(partial, np.concatenate(arrays))


def labels_to_network(labels: torch.Tensor, boxes: Sequence[Box], steps: Preprocessing) -> torch.Tensor:
    """Crop and resize labels as `to_network` does images; each pixel takes the label that covers most of it.

    Parameters
    ----------
    labels : (n, y, x) uint8; `IGNORE` where not known
    boxes : one per slice
    steps : of the model

    Returns
    -------
    (n, rows, columns) uint8 of ``steps.size``
    """
    present = [0, *(int(label) for label in torch.unique(labels) if label)]
    meaning = torch.tensor(present, dtype=torch.uint8)
    resized = []
    for truth, (top, bottom, left, right) in zip(labels, boxes, strict=True):
        crop = truth[top:bottom, left:right]
        layers = torch.stack([crop == label for label in present])[None].float()
        inner = fit_into(crop.shape, steps)
        layers = functional.interpolate(layers, size=inner.size, mode="bilinear", antialias=True)
        resized.append(functional.pad(meaning[layers[0].argmax(0)], inner.margins))
    return torch.stack(resized)


class Slices(Dataset[tuple[torch.Tensor, torch.Tensor, int]]):
    """The slices of prepared cases, one by one.

    Parameters
    ----------
    cases : prepared
    merge : whether all labels become 1

    An item is (channels, rows, columns) float16, (rows, columns) uint8, and the number of its case. Labels that are not
    there are `IGNORE` everywhere.
    """

    def __init__(self, cases: Sequence[PreparedCase], merge: bool = False) -> None:
        self.cases = tuple(cases)
        self.merge = merge
        self.index = [(number, z) for number, case in enumerate(self.cases) for z in range(case.slices)]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        number, z = self.index[position]
        case = self.cases[number]
        image = torch.from_numpy(np.load(case.images, mmap_mode="r")[z].copy())
        if case.labels is None:
            return image, torch.full(image.shape[-2:], IGNORE, dtype=torch.uint8), number
        labels = torch.from_numpy(np.load(case.labels, mmap_mode="r")[z].copy())
        if self.merge:
            labels = torch.where((labels > 0) & (labels != IGNORE), 1, labels)
        return image, labels, number
