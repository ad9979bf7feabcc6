"""Random changes to a batch of images and labels, drawn first and applied second, in torch on the generator's device.

Lungs are told apart by where they lie in the standard view (the patient's right at the viewer's left), so mirroring
an image swaps its right and left labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from .draw import chance, normal, smooth, uniform
from .losses import IGNORE


@dataclass(frozen=True)
class Augmentation:
    """How far images may be changed.

    Parameters
    ----------
    size : (rows, columns) of the result
    rotation : degrees either way
    scale : (smallest, largest) magnification
    shift : of the image's size, either way
    stretch : largest relative change of the aspect
    elastic : standard deviation of the elastic displacements, of the image's size
    elastic_cells : displacements are drawn on a grid of so many points a side and interpolated bicubically
        (Ronneberger et al. 2015, §3.1: 3 points, 10 pixels)
    mirror, turn_over : probabilities of a left–right flip (right and left labels swapped) and of a front–back flip
    contrast, brightness, gamma : largest change of each, on images scaled to 0…1
    noise, blur : largest standard deviation, in grey levels 0…1 and in pixels
    invert : probability of an inverted grey scale
    border : probability of blanked margins
    """

    size: tuple[int, int] = (256, 256)
    rotation: float = 15.0
    scale: tuple[float, float] = (0.8, 1.25)
    shift: float = 0.08
    stretch: float = 0.12
    elastic: float = 0.015
    elastic_cells: int = 7
    mirror: float = 0.5
    turn_over: float = 0.0
    contrast: float = 0.2
    brightness: float = 0.1
    gamma: float = 0.35
    noise: float = 0.06
    blur: float = 1.2
    invert: float = 0.0
    border: float = 0.0


def draw_grid(n: int, how: Augmentation, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw where each pixel of the result is taken from.

    Returns
    -------
    (n, rows, columns, 2) sampling grid for `torch.nn.functional.grid_sample`, and (n,) bool: which are mirrored
    """
    angle = uniform(n, generator=generator, low=-how.rotation, high=how.rotation) * math.pi / 180
    zoom = torch.exp(uniform(n, generator=generator, low=math.log(how.scale[0]), high=math.log(how.scale[1])))
    stretch = torch.exp(uniform(n, generator=generator, low=-how.stretch, high=how.stretch))
    mirrored = chance(n, how.mirror, generator)
    over = chance(n, how.turn_over, generator)
    sign_x = 1 - 2 * mirrored.float()
    sign_y = 1 - 2 * over.float()
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    shift = uniform(2 * n, generator=generator, low=-2 * how.shift, high=2 * how.shift).view(n, 2)
    x, y = (_centres(length, generator.device) for length in how.size[::-1])
    across = torch.stack([sign_x * cos * stretch, sign_y * sin], 1)[..., None, None] * x
    down = torch.stack([sign_x * -sin, sign_y * cos / stretch], 1)[..., None, None] * y[:, None]
    cells = how.elastic_cells
    field = normal(n, 2, cells, cells, generator=generator) * how.elastic * 2
    grid = smooth(field, how.size, align_corners=True).add_(across + shift[..., None, None]).add_(down)
    return grid.movedim(1, -1), mirrored


def _centres(length: int, device: torch.device) -> torch.Tensor:
    """Where the pixels of a side lie, which runs from -1 to 1."""
    return (2 * torch.arange(length, device=device) + 1) / length - 1


def apply_grid(
    images: torch.Tensor,
    labels: torch.Tensor,
    grid: torch.Tensor,
    mirrored: torch.Tensor,
    order: Sequence[int] = (0, 2, 1),
    outside: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample a batch at a grid from `draw_grid`.

    Parameters
    ----------
    images : (n, channels, y, x)
    labels : (n, y, x) integers; `IGNORE` where not known
    order : which class each class becomes where the image is mirrored (`segmentation.predict.mirror_order`)
    outside : label of what lies outside the image, 0 or `IGNORE`

    Returns
    -------
    (n, channels, rows, columns) and (n, rows, columns) int64
    """
    warped = functional.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
    shifted = (labels.float() - outside)[:, None]  # what is sampled outside is 0
    found = functional.grid_sample(shifted, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    found = found[:, 0].long() + outside
    becomes = torch.arange(IGNORE + 1, device=labels.device)
    becomes[: len(order)] = torch.tensor(order, device=labels.device)
    found[mirrored] = becomes[found[mirrored]]
    return warped, found


def change_grey(images: torch.Tensor, how: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Change contrast, brightness, gamma, sharpness and noise of (n, channels, y, x) images in 0…1."""
    n = len(images)

    def each(low: float, high: float) -> torch.Tensor:
        return uniform(n, generator=generator, low=low, high=high)[:, None, None, None]

    # In place where it can be: a batch is large, and fresh memory costs as much as the arithmetic.
    images = images.clamp(0, 1).pow_(torch.exp(each(-how.gamma, how.gamma)))
    images.sub_(0.5).mul_(1 + each(-how.contrast, how.contrast))
    images.add_(0.5 + each(-how.brightness, how.brightness))
    if how.blur and chance(1, 0.3, generator):
        images = _blur(images, float(uniform(1, generator=generator, low=0.3, high=how.blur)))
    noise = normal(*images.shape, generator=generator)
    images.add_(noise.mul_(each(0, 1) ** 2 * how.noise))
    inverted = each(0, 1) < how.invert
    # 1 - x where inverted, x elsewhere
    return images.mul_(1 - 2 * inverted.float()).add_(inverted).clamp_(0, 1)


def _blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    radius = max(1, round(2 * sigma))
    taps = [math.exp(-0.5 * (step / sigma) ** 2) for step in range(-radius, radius + 1)]
    blurred = functional.pad(images, (radius,) * 4)
    for axis in (2, 3):  # sums of shifted images: on a CPU ten times as fast as a convolution of single channels
        shifted = [blurred.narrow(axis, step, images.shape[axis]) for step in range(len(taps))]
        weighted = [tap / sum(taps) * image for tap, image in zip(taps, shifted, strict=True)]
        blurred = torch.stack(weighted).sum(0)
    return blurred
