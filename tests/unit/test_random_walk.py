"""Chances that follow the edges of an image: the system that is solved, what comes of it, and models that do it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import save_tiny

from napari_lungseg import Volume, segment
from napari_lungseg.models.catalog import load_model
from napari_lungseg.models.exchange import how_to_use
from napari_lungseg.models.spec import ModelSpec
from napari_lungseg.phantom import thorax_ct
from napari_lungseg.segmentation import random_walk
from napari_lungseg.segmentation.across import slice_positions, weights_of
from napari_lungseg.segmentation.predict import SegmentSettings
from napari_lungseg.segmentation.preprocess import (
    boxes_of,
    chances_from_network,
    chances_to_network,
    from_network,
    to_network,
)
from napari_lungseg.segmentation.random_walk import follow_edges

PLAIN = SegmentSettings(postprocess=False, precision="float32", look_again=False)


def by_hand(chances: np.ndarray, image: np.ndarray, likeness: float = 0.02, prior: float = 0.01) -> np.ndarray:
    """(classes, rows, columns): the same, with a dense matrix."""
    rows, columns = chances.shape[1:]
    number = np.arange(rows * columns).reshape(rows, columns)
    matrix = np.diag(np.full(rows * columns, prior))
    for one, other in ((number[1:], number[:-1]), (number[:, 1:], number[:, :-1])):
        for i, j in zip(one.ravel(), other.ravel(), strict=True):
            difference = image.reshape(len(image), -1)[:, i] - image.reshape(len(image), -1)[:, j]
            weight = np.exp(-((difference / likeness) ** 2).mean()) + 1e-4
            matrix[[i, j], [i, j]] += weight
            matrix[[i, j], [j, i]] -= weight
    found = np.linalg.solve(matrix, prior * chances.reshape(len(chances), -1).T)
    return found.T.reshape(chances.shape)


@pytest.mark.parametrize("channels", [1, 3])
def test_it_solves_the_system_of_a_random_walk_with_priors(channels: int) -> None:
    generator = torch.Generator().manual_seed(channels)
    chances = torch.randn(2, 3, 9, 14, generator=generator).softmax(1)
    images = 0.5 + 0.03 * torch.randn(2, channels, 9, 14, generator=generator)
    found = follow_edges(chances, images)
    for n in range(2):
        np.testing.assert_allclose(
            found[n], by_hand(chances[n].double().numpy(), images[n].double().numpy()), atol=2e-3
        )


def test_chances_stay_chances_and_what_is_even_stays_as_it_is() -> None:
    chances = torch.randn(2, 4, 16, 12, generator=torch.Generator().manual_seed(2)).mul(9).softmax(1)
    found = follow_edges(chances.half(), torch.rand(2, 1, 16, 12))
    torch.testing.assert_close(found.sum(1), torch.ones(2, 16, 12))
    assert found.dtype == torch.float32 and found.min() > 0  # so that logarithms can be taken
    even = torch.tensor([0.2, 0.5, 0.3])[None, :, None, None].expand(1, 3, 8, 8)
    torch.testing.assert_close(follow_edges(even, torch.rand(1, 1, 8, 8)), even)
    sure = torch.zeros(1, 2, 8, 8)
    sure[:, 0] = 1
    torch.testing.assert_close(follow_edges(sure, torch.rand(1, 1, 8, 8))[:, 0], torch.ones(1, 8, 8), atol=1e-4, rtol=0)


@pytest.mark.parametrize("contrast", [0.25, -0.25])
def test_an_outline_drawn_too_small_or_too_large_moves_to_the_edge_and_no_further(contrast: float) -> None:
    y, x = np.ogrid[:96, :128]
    there = ((y - 44) / 24) ** 2 + ((x - 70) / 36) ** 2 < 1
    rng = np.random.default_rng(0)
    image = 0.4 + contrast * there + rng.normal(0, 0.005, there.shape)
    for size in (0.85, 1.2):
        said = ((y - 44) / 24) ** 2 + ((x - 70) / 36) ** 2 < size**2
        chance = np.where(said, 0.8, 0.2) + rng.normal(0, 0.05, said.shape)
        chances = torch.from_numpy(np.stack([1 - chance, chance])).float()[None]
        found = follow_edges(chances, torch.from_numpy(image).float()[None, None])[0].argmax(0).numpy()
        before, after = ((said != there).mean(), (found != there).mean())
        assert after < 0.01 < 0.05 < before, size


def test_chances_that_go_to_the_network_and_back_stay_whole() -> None:
    steps = replace(ModelSpec("x", "unet").preprocessing, size=(24, 32), fit="pad")
    chances = torch.randn(3, 40, 36, generator=torch.Generator().manual_seed(3)).softmax(0)
    seen = chances_to_network(chances, (4, 36, 2, 30), steps)
    assert seen.shape == (3, 24, 32)
    torch.testing.assert_close(seen.sum(0), torch.ones(24, 32))
    assert (seen[0, :, 0] == 1).all(), "margins are background"


@pytest.mark.parametrize(("batch_size", "smooth_mm"), [(1, 0.0), (4, 0.0), (3, 4.0), (16, 4.0)])
def test_a_model_that_follows_edges_does_so_whatever_the_batches(
    tmp_path: Path, batch_size: int, smooth_mm: float
) -> None:
    volume, _ = thorax_ct((7, 64, 80), spacing=(3.0, 5.0, 4.5), seed=3)
    path = save_tiny(tmp_path, name="following", smooth_mm=smooth_mm, follow_edges=True)
    found = segment(volume, path, settings=replace(PLAIN, batch_size=batch_size), device="cpu")
    without = save_tiny(tmp_path, smooth_mm=smooth_mm)
    assert (found.array != segment(volume, without, settings=PLAIN, device="cpu").array).any()
    view, turn = volume.reoriented()
    assert np.array_equal(found.array, turn.undo(step_by_step(path, view)))


@pytest.mark.parametrize("fails_at", [1, 3, 6])
def test_memory_that_runs_out_on_the_way_costs_no_slice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    volume, _ = thorax_ct((7, 64, 80), spacing=(3.0, 5.0, 4.5), seed=3)
    path = save_tiny(tmp_path, name="following", smooth_mm=4.0, follow_edges=True)
    wanted = segment(volume, path, settings=PLAIN, device="cpu").array
    calls = 0

    def short_of_memory(chances: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return follow_edges(chances, images)

    monkeypatch.setattr(random_walk, "follow_edges", short_of_memory)
    found = segment(volume, path, settings=replace(PLAIN, batch_size=3), device="cpu")
    assert calls > 7 and any(finding.code == "out-of-memory" for finding in found.findings)
    assert np.array_equal(found.array, wanted)


def step_by_step(path: Path, view: Volume) -> np.ndarray:
    """(z, y, x) labels, with the whole stack at hand."""
    spec = load_model(path).spec
    slices, steps = torch.from_numpy(np.ascontiguousarray(view.array)), spec.preprocessing
    boxes, shape = boxes_of(slices, steps), (view.array.shape[1], view.array.shape[2])
    images = to_network(slices, boxes, steps)
    with torch.inference_mode():
        scores = load_model(path).network()(images)
    if not spec.smooth_mm:
        return from_network(follow_edges(scores.softmax(1), images).log(), boxes, shape, steps).numpy()
    chances = [chances_from_network(score, box, shape, steps).half() for score, box in zip(scores, boxes, strict=True)]
    labels = []
    for z, (image, box) in enumerate(zip(images, boxes, strict=True)):
        shares = weights_of(z, slice_positions(view.geometry), spec.smooth_mm)
        mean = torch.stack([share * chances[k].float() for k, share in shares.items()]).sum(0)
        spread = follow_edges(chances_to_network(mean, box, steps)[None], image[None])[0]
        labels.append(chances_from_network(spread.log(), box, shape, steps).argmax(0))
    return torch.stack(labels).numpy().astype(np.uint8)


def test_the_file_says_so_and_older_files_do_not_follow() -> None:
    spec = ModelSpec("x", "unet", follow_edges=True)
    assert ModelSpec.from_json(spec.to_json()).follow_edges
    assert "random walk" in how_to_use(spec) and "random walk" not in how_to_use(replace(spec, follow_edges=False))
    older = spec.to_json().replace('"follow_edges": true, ', "")
    assert older != spec.to_json() and not ModelSpec.from_json(older).follow_edges
