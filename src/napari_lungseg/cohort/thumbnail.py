"""A small picture of a result: a radiograph itself, of a CT the axial and the coronal slice with most lung."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..io.atomic import replacing

if TYPE_CHECKING:
    from ..volume import LabelMap, Volume

HEIGHT, WIDEST = 150, 300  # pixels
_LUNG_WINDOW_HU = (-1350.0, 150.0)  # width 1500, level −600: the usual one to look at lungs
_JPEG_QUALITY = 80


def save_thumbnail(volume: Volume, labels: LabelMap, path: Path) -> Path:
    """Draw a result, `HEIGHT` pixels high, into a JPEG file.

    Raises
    ------
    WriteError
        When the disk refuses.
    """
    from PIL import Image

    view, turn = volume.reoriented()
    marks = turn.apply(np.asarray(labels.array))
    z, y, x = view.geometry.spacing
    level = int(np.argmax(np.count_nonzero(marks, axis=(1, 2))))
    cuts = [(view.array[level], marks[level], y / x)]
    if not view.is_frames and view.geometry.shape[0] > 1:
        depth = int(np.argmax(np.count_nonzero(marks, axis=(0, 2))))
        cuts.append((view.array[::-1, depth], marks[::-1, depth], z / x))
    tiles = [_tile(np.asarray(image), cut, aspect, view, labels) for image, cut, aspect in cuts]
    picture = Image.new("RGB", (sum(tile.width for tile in tiles), HEIGHT))
    left = 0
    for tile in tiles:
        picture.paste(tile, (left, 0))
        left += tile.width
    with replacing(path) as temporary:
        picture.save(temporary, format="JPEG", quality=_JPEG_QUALITY)
    return path


def _tile(image: np.ndarray, marks: np.ndarray, aspect: float, view: Volume, labels: LabelMap) -> Any:
    """One cut with outlines, as high as the picture and as wide as its pixels say; flat ones in black."""
    from PIL import Image, ImageColor

    rows, columns = image.shape[:2]
    scale = min(HEIGHT / (rows * aspect), WIDEST / columns)
    size = (max(1, round(scale * columns)), max(1, round(scale * rows * aspect)))
    grey = _grey(image, _LUNG_WINDOW_HU if view.unit == "HU" else view.window)
    picture = np.array(Image.fromarray(grey).convert("RGB").resize(size, Image.Resampling.BILINEAR))
    small = np.array(Image.fromarray(marks.astype(np.uint8)).resize(size, Image.Resampling.NEAREST))
    padded = np.pad(small, 1)
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    edge = np.any([neighbour != small for neighbour in neighbours], axis=0)
    for label, colour in labels.colours.items():
        picture[edge & (small == label)] = ImageColor.getrgb(colour)
    tile = Image.new("RGB", (size[0], HEIGHT))
    tile.paste(Image.fromarray(picture), (0, (HEIGHT - size[1]) // 2))
    return tile


def _grey(image: np.ndarray, window: tuple[float, float] | None) -> np.ndarray:
    if image.ndim == 3:
        return image.astype(np.uint8)
    values = image.astype(np.float32)
    low, high = window or (float(np.percentile(values, 0.5)), float(np.percentile(values, 99.5)))
    return np.asarray(np.clip((values - low) / max(high - low, 1e-6), 0, 1) * 255, dtype=np.uint8)
