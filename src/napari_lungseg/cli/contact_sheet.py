"""Many small images with the outlines of their masks, to see at a glance whether they belong together."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..volume import label_colour

if TYPE_CHECKING:
    from ..training.datasets import Case, DataSet

_TILES, _COLUMNS, _TILE, _CAPTION = 24, 6, 240, 16  # how many, how many in a row, pixels, pixels
_PERCENTILES = (0.5, 99.5)
_NAME_LETTERS = 36


def save_contact_sheet(dataset: DataSet, path: Path) -> Path:
    """Draw cases, evenly spread over the data set, into a PNG file, complete or not at all.

    Of a volume the slice with most of its labels is shown.

    Raises
    ------
    WriteError
        When the disk refuses.
    """
    from PIL import Image

    from ..io.atomic import replacing
    from ..training.datasets import spread

    cases = spread(dataset.cases, _TILES)
    columns = min(_COLUMNS, len(cases))
    rows = math.ceil(len(cases) / columns) if cases else 0
    sheet = Image.new("RGB", (max(1, columns) * _TILE, max(1, rows) * (_TILE + _CAPTION)))
    for number, case in enumerate(cases):
        row, column = divmod(number, columns)
        sheet.paste(_tile(dataset, case), (column * _TILE, row * (_TILE + _CAPTION)))
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG")
    return path


def _tile(dataset: DataSet, case: Case) -> Any:
    """One image with its outlines and its name, _TILE pixels wide and a caption higher."""
    from PIL import Image, ImageDraw

    volume, labels = dataset.read(case)
    level = volume.geometry.shape[0] // 2 if labels is None else int(np.argmax((labels > 0).sum(axis=(1, 2))))
    _, height, width = volume.geometry.spacing
    grey = _bytes(np.asarray(volume.array[level]))
    rows, columns = grey.shape[0] * height, grey.shape[1] * width
    scale = _TILE / max(rows, columns)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    picture = np.array(Image.fromarray(grey).convert("RGB").resize(size, Image.Resampling.BOX))
    if labels is not None:
        _outline(picture, np.array(Image.fromarray(labels[level]).resize(size, Image.Resampling.NEAREST)))
    tile = Image.new("RGB", (_TILE, _TILE + _CAPTION))
    tile.paste(Image.fromarray(picture), ((_TILE - size[0]) // 2, (_TILE - size[1]) // 2))
    caption = f"{case.split} {case.name}".strip()[:_NAME_LETTERS]
    ImageDraw.Draw(tile).text((2, _TILE + 2), caption, fill="white")
    return tile


def _bytes(array: np.ndarray) -> np.ndarray:
    """Grey levels between two percentiles as 8 bits; colour stays as it is."""
    if array.ndim == 3:
        return array.astype(np.uint8)
    low, high = np.percentile(array, _PERCENTILES)
    scaled = (array.astype(np.float32) - low) / max(float(high - low), 1e-6)
    return np.asarray(np.clip(scaled * 255, 0, 255), dtype=np.uint8)


def _outline(picture: np.ndarray, labels: np.ndarray) -> None:
    """Colour, in place, the labelled pixels that have a neighbour of another label."""
    from PIL import ImageColor

    padded = np.pad(labels, 1)
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    edge = np.any([neighbour != labels for neighbour in neighbours], axis=0)
    for label in np.unique(labels[labels > 0]):
        picture[edge & (labels == label)] = ImageColor.getrgb(label_colour(int(label)))
