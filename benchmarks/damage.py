"""Ways to spoil a scan, each graded from 1 (mild) to 5 (gross), for judging whether a model notices.

The kinds in ``CALIBRATE`` and those in ``TEST`` share nothing, so that what is judged was never seen. A damage changes the
image and, where it moves the anatomy, the reference with it. Randomness comes from a seed made of case, kind and grade.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage

Pair = tuple[np.ndarray, np.ndarray]
Damage = Callable[[np.ndarray, np.ndarray, int, np.random.Generator], Pair]


def rng_of(*words: object) -> np.random.Generator:
    """A generator that depends on the words alone."""
    return np.random.default_rng(zlib.crc32(" ".join(map(str, words)).encode()))


def spread(image: np.ndarray) -> tuple[float, float]:
    """Low and high end of the grey values, without outliers."""
    low, high = np.percentile(image[..., ::4, ::4], (1, 99))
    return float(low), float(max(high, low + 1e-6))


def moved(image: np.ndarray, labels: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> Pair:
    """Both sampled at new places of each slice; what lies outside takes the lowest value and no label."""
    low, places = spread(image)[0], np.stack([rows, columns])
    planes = [ndimage.map_coordinates(plane, places, order=1, cval=low) for plane in image]
    marks = [ndimage.map_coordinates(plane, places, order=0, cval=0) for plane in labels]
    return np.stack(planes), np.stack(marks)


def grid(image: np.ndarray) -> list[np.ndarray]:
    """Row and column of every pixel of a slice."""
    return list(np.indices(image.shape[1:], dtype=np.float32))


# For calibration


def blurred(image: np.ndarray, labels: np.ndarray, grade: int, rng: np.random.Generator) -> Pair:
    sigma = 0.003 * 2**grade * min(image.shape[1:])
    return np.stack([ndimage.gaussian_filter(plane, sigma) for plane in image]), labels


def covered(image: np.ndarray, labels: np.ndarray, grade: int, rng: np.random.Generator) -> Pair:
    image, (low, high) = image.copy(), spread(image)
    for _ in range(grade):
        height, width = (rng.uniform(0.12, 0.3, 2) * image.shape[1:]).astype(int)
        top, left = (
            int(rng.uniform(0.1, 0.9) * (n - s)) for n, s in zip(image.shape[1:], (height, width), strict=True)
        )
        image[:, top : top + height, left : left + width] = rng.uniform(low, high)
    return image, labels


def faded(image: np.ndarray, labels: np.ndarray, grade: int, rng: np.random.Generator) -> Pair:
    low, high = spread(image)
    power = (1 + 0.6 * grade) ** (1 if rng.random() < 0.5 else -1)
    return low + (high - low) * np.clip((image - low) / (high - low), 0, 1) ** power, labels


def warped(image: np.ndarray, labels: np.ndarray, grade: int, rng: np.random.Generator) -> Pair:
    side = min(image.shape[1:])
    shifts = [ndimage.gaussian_filter(rng.standard_normal(image.shape[1:]), side / 16) for _ in range(2)]
    rows, columns = (g + s / np.abs(s).max() * 0.025 * grade * side for g, s in zip(grid(image), shifts, strict=True))
    return moved(image, labels, rows, columns)


def pixelated(image: np.ndarray, labels: np.ndarray, grade: int, rng: np.random.Generator) -> Pair:
    step = max(2, round(min(image.shape[1:]) / 256 * 2**grade))
    rows, columns = (
        np.minimum(g // step * step + step // 2, n - 1) for g, n in zip(grid(image), image.shape[1:], strict=True)
    )
    return image[:, rows.astype(int), columns.astype(int)], labels


def squeezed(image: np.ndarray, labels: np.ndarray, grade: int, rng: np.random.Generator) -> Pair:
    axis, factor = int(rng.integers(2)), 1 + 0.3 * grade
    places, middle = grid(image), (image.shape[1 + axis] if axis == 0 else image.shape[2]) / 2
    places[axis] = (places[axis] - middle) * factor + middle
    return moved(image, labels, *places)


def shaded(image: np.ndarray, labels: np.ndarray, grade: int, rng: np.random.Generator) -> Pair:
    """A slope of brightness across the picture, as from a badly centred grid."""
    low, high = spread(image)
    angle, (rows, columns) = rng.uniform(0, 2 * np.pi), grid(image)
    slope = (np.sin(angle) * rows / image.shape[1] + np.cos(angle) * columns / image.shape[2]).astype(np.float32)
    return image + slope * 0.5 * grade * (high - low), labels


# For the test


def cropped(image: np.ndarray, labels: np.ndarray, grade: int, rng: np.random.Generator) -> Pair:
    keep = 1 - 0.12 * grade
    sides = [max(48, int(keep * n)) for n in image.shape[1:]]
    top, left = (int(rng.integers(0, max(1, n - s + 1))) for n, s in zip(image.shape[1:], sides, strict=True))
    part = (slice(None), slice(top, top + sides[0]), slice(left, left + sides[1]))
    return image[part], labels[part]


def noisy(image: np.ndarray, labels: np.ndarray, grade: int, rng: np.random.Generator) -> Pair:
    low, high = spread(image)
    return image + rng.normal(0, 0.05 * 2**grade * (high - low), image.shape), labels


def rotated(image: np.ndarray, labels: np.ndarray, grade: int, rng: np.random.Generator) -> Pair:
    angle = np.deg2rad((8, 15, 30, 60, 90)[grade - 1] * rng.choice((-1, 1)))
    middle = [(n - 1) / 2 for n in image.shape[1:]]
    rows, columns = (g - m for g, m in zip(grid(image), middle, strict=True))
    turned = np.cos(angle) * rows - np.sin(angle) * columns, np.sin(angle) * rows + np.cos(angle) * columns
    return moved(image, labels, turned[0] + middle[0], turned[1] + middle[1])


def wrong_values(image: np.ndarray, labels: np.ndarray, grade: int, rng: np.random.Generator) -> Pair:
    """CT: HU that are shifted or scaled; a radiograph: grey values cut off by a window that is too narrow."""
    if image.min() < -500:
        shift, scale = ((100, 1), (250, 1), (500, 1), (1024, 1), (0, 0.25))[grade - 1]
        return image * scale + shift, labels
    low, high = np.percentile(image, (min(9 * grade, 45), 100 - 9 * grade))
    return np.clip(image, low, max(high, low + 1)), labels


CALIBRATE: dict[str, Damage] = {d.__name__: d for d in (blurred, covered, faded, warped, pixelated, squeezed, shaded)}
TEST: dict[str, Damage] = {d.__name__: d for d in (cropped, noisy, rotated, wrong_values)}


def lamed(network: Any, grade: int, rng: np.random.Generator) -> Any:
    """A model that lost a share of its channels: the damaged model of the calibration."""
    import torch

    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d) and module.out_channels > 8:
            lost = rng.random(module.out_channels) < 0.006 * 2**grade
            module.weight.data[torch.from_numpy(lost)] = 0
    return network


def jolted(network: Any, grade: int, rng: np.random.Generator) -> Any:
    """A model whose weights carry noise: the wrong model of the test."""
    import torch

    network = copy.deepcopy(network)
    for weights in (p for p in network.parameters() if p.ndim > 1):
        noise = torch.from_numpy(rng.standard_normal(tuple(weights.shape)).astype(np.float32))
        weights.data += 0.06 * grade * weights.std() * noise
    return network
