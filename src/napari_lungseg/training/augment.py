"""Random changes to a batch of images and labels, drawn first and applied second, in torch.

Labels are told apart by where they lie in the standard view (the patient's right at the viewer's left), so mirroring
an image swaps its right and left labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional


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
    elastic : amplitude of the elastic field, of the image's size (Simard et al. 2003; Ronneberger et al. 2015)
    mirror, turn_over : probabilities of a left–right flip (labels 1 and 2 swapped) and of a front–back flip
    contrast, brightness, gamma : largest change of each, on images scaled to 0…1
    noise, blur : largest standard deviation, in grey levels 0…1 and in pixels
    invert : probability of an inverted grey scale
    """

    size: tuple[int, int] = (256, 256)
    rotation: float = 15.0
    scale: tuple[float, float] = (0.8, 1.25)
    shift: float = 0.08
    stretch: float = 0.12
    elastic: float = 0.015
    mirror: float = 0.5
    turn_over: float = 0.0
    contrast: float = 0.2
    brightness: float = 0.1
    gamma: float = 0.35
    noise: float = 0.06
    blur: float = 1.2
    invert: float = 0.0


def _uniform(n: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    return torch.rand(n, generator=generator) * (high - low) + low


def draw_grid(n: int, how: Augmentation, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw where each pixel of the result is taken from.

    Returns
    -------
    (n, rows, columns, 2) sampling grid for `torch.nn.functional.grid_sample`, and (n,) bool: which are mirrored
    """
    angle = _uniform(n, -how.rotation, how.rotation, generator) * math.pi / 180
    zoom = torch.exp(_uniform(n, math.log(how.scale[0]), math.log(how.scale[1]), generator))
    stretch = torch.exp(_uniform(n, -how.stretch, how.stretch, generator))
    mirrored = torch.rand(n, generator=generator) < how.mirror
    over = torch.rand(n, generator=generator) < how.turn_over
    sign_x = 1 - 2 * mirrored.float()
    sign_y = 1 - 2 * over.float()
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    shift = _uniform(2 * n, -2 * how.shift, 2 * how.shift, generator).view(n, 2)
    theta = torch.stack(
        [
            torch.stack([sign_x * cos * stretch, sign_x * -sin, shift[:, 0]], 1),
            torch.stack([sign_y * sin, sign_y * cos / stretch, shift[:, 1]], 1),
        ],
        1,
    )
    grid = functional.affine_grid(theta, [n, 1, *how.size], align_corners=False)
    field = torch.randn(n, 2, 7, 7, generator=generator) * how.elastic * 2
    field = functional.interpolate(field, size=how.size, mode="bicubic", align_corners=False)
    return grid + field.movedim(1, -1), mirrored


def apply_grid(
    images: torch.Tensor, labels: torch.Tensor, grid: torch.Tensor, mirrored: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample images (n, 1, y, x) and labels (n, y, x) of 0, 1, 2 at a grid from `draw_grid`."""
    warped = functional.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
    layers = torch.stack([labels == 1, labels == 2], 1).float()
    layers = functional.grid_sample(layers, grid, padding_mode="zeros", align_corners=False)
    layers = torch.where(mirrored[:, None, None, None], layers.flip(1), layers)
    best, which = layers.max(dim=1)
    return warped, torch.where(best > 0.5, which + 1, 0)


def change_grey(images: torch.Tensor, how: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Change contrast, brightness, gamma, sharpness and noise of (n, channels, y, x) images in 0…1."""
    n = len(images)

    def each(low: float, high: float) -> torch.Tensor:
        return _uniform(n, low, high, generator)[:, None, None, None]

    images = images.clamp(0, 1) ** torch.exp(each(-how.gamma, how.gamma))
    images = (images - 0.5) * (1 + each(-how.contrast, how.contrast)) + 0.5 + each(-how.brightness, how.brightness)
    if how.blur and torch.rand(1, generator=generator) < 0.3:
        images = _blur(images, float(_uniform(1, 0.3, how.blur, generator)))
    images = images + torch.randn(images.shape, generator=generator) * each(0, 1) ** 2 * how.noise
    inverted = (torch.rand(n, generator=generator) < how.invert)[:, None, None, None]
    return torch.where(inverted, 1 - images, images).clamp_(0, 1)


def _blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    radius = max(1, round(2 * sigma))
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    taps = (taps / taps.sum()).repeat(images.shape[1], 1)
    channels = images.shape[1]
    rows = functional.conv2d(images, taps[:, None, :, None], padding=(radius, 0), groups=channels)
    return functional.conv2d(rows, taps[:, None, None, :], padding=(0, radius), groups=channels)
