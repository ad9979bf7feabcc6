"""Chances of classes that follow what the image shows: a random walk with priors.

A network that has seen a few strokes knows where something is better than where it ends. Chances are spread over pixels that look
alike, and stop where the image has an edge (Grady 2005, "Multilabel random walker image segmentation using prior models", CVPR).
"""

from __future__ import annotations

import torch

# Neighbours that differ by so much of the range of grey values (32 HU of the CT window) share a third of what equal ones do.
_ALIKE = 0.02
# What neighbours across an edge share at least, so that every pixel hangs together with the others.
_LEAST = 1e-4
# How much a pixel holds on to its own chances, beside 1 for each neighbour that looks the same.
_PRIOR = 0.01
_MOST_STEPS = 100
_EXACT = 1e-3


def follow_edges(chances: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Spread chances over pixels that look alike.

    For each class the x that makes ``sum w_ij (x_i - x_j)² + prior · sum (x_i - p_i)²`` least, over neighbours i and j of one
    slice, by conjugate gradients.

    Parameters
    ----------
    chances : (n, classes, rows, columns) p, 0…1, with sum 1
    images : (n, channels, rows, columns) 0…1, as the network sees them

    Returns
    -------
    Chances of the same shape, float32, with sum 1
    """
    wanted = chances.float()
    down, across = _likeness(images.float(), 2), _likeness(images.float(), 3)
    degree = torch.full_like(wanted[:, :1], _PRIOR)
    degree[:, :, :-1] += down
    degree[:, :, 1:] += down
    degree[..., :-1] += across
    degree[..., 1:] += across

    def applied(x: torch.Tensor) -> torch.Tensor:
        result = degree * x
        result[:, :, :-1] -= down * x[:, :, 1:]
        result[:, :, 1:] -= down * x[:, :, :-1]
        result[..., :-1] -= across * x[..., 1:]
        result[..., 1:] -= across * x[..., :-1]
        return result

    x = wanted.clone()
    residual = _PRIOR * wanted - applied(x)
    scaled = residual / degree
    direction, left = scaled.clone(), _inner(residual, scaled)
    enough = _EXACT**2 * _inner(_PRIOR * wanted, _PRIOR * wanted / degree)
    for _ in range(_MOST_STEPS):
        if bool((left <= enough).all()):
            break
        turned = applied(direction)
        step = left / _inner(direction, turned).clamp_min(1e-30)
        x += step * direction
        residual -= step * turned
        scaled = residual / degree
        before, left = left, _inner(residual, scaled)
        direction = scaled + left / before.clamp_min(1e-30) * direction
    x = x.clamp_(1e-6, 1)  # logarithms are taken of them
    return x / x.sum(1, keepdim=True)


def _likeness(images: torch.Tensor, axis: int) -> torch.Tensor:
    """(n, 1, …) how much each pixel shares with the next along an axis."""
    return torch.exp(-((images.diff(dim=axis) / _ALIKE) ** 2).mean(1, keepdim=True)) + _LEAST


def _inner(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (one * other).sum((-2, -1), keepdim=True)
