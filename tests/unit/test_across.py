"""Chances averaged over the slices of a stack: which slices count, that none is lost, none held longer than needed."""

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
from napari_lungseg.segmentation.across import AcrossSlices, slice_positions, weights_of
from napari_lungseg.segmentation.predict import SegmentSettings
from napari_lungseg.segmentation.preprocess import boxes_of, chances_from_network, to_network
from napari_lungseg.volume import Geometry

PLAIN = SegmentSettings(postprocess=False, precision="float32", look_again=False)
EVEN = np.arange(9) * 3.0
UNEVEN = np.array([0.0, 1.0, 2.5, 9.0, 10.0, 30.0])


def test_weights_are_a_gaussian_of_the_distance_in_mm() -> None:
    shares = weights_of(4, EVEN, 3.0)
    assert sorted(shares) == [2, 3, 4, 5, 6]  # two standard deviations
    assert sum(shares.values()) == pytest.approx(1)
    assert shares[5] / shares[4] == pytest.approx(np.exp(-0.5))
    assert weights_of(4, EVEN, 0.0) == {4: 1.0}
    assert sorted(weights_of(0, EVEN, 3.0)) == [0, 1, 2]  # an end has fewer
    assert sorted(weights_of(2, UNEVEN, 2.0)) == [0, 1, 2]
    assert weights_of(5, UNEVEN, 2.0) == {5: 1.0}


def test_positions_of_slices_that_are_not_evenly_spaced() -> None:
    even = Geometry((3, 4, 4), (2.5, 1.0, 1.0))
    assert slice_positions(even).tolist() == [0, 2.5, 5]
    assert slice_positions(replace(even, slice_positions=(0.0, 2.0, 7.0))).tolist() == [0, 2, 7]


@pytest.mark.parametrize("positions", [EVEN, UNEVEN])
@pytest.mark.parametrize("smooth_mm", [0.0, 2.0, 4.0, 100.0])
def test_averages_come_in_order_each_once(positions: np.ndarray, smooth_mm: float) -> None:
    chances = torch.rand(len(positions), 3, 2, 2, generator=torch.Generator().manual_seed(0))
    across, found = AcrossSlices(positions, smooth_mm), {}
    for z, of_slice in enumerate(chances):
        across.add(z, of_slice)
        across.add(z, of_slice)  # a batch that memory ran out in comes again
        for number, mean in across.finished():
            assert number == len(found)
            found[number] = mean
    for z in range(len(positions)):
        wanted = sum(share * chances[k] for k, share in weights_of(z, positions, smooth_mm).items())
        torch.testing.assert_close(found[z], wanted, atol=1e-3, rtol=1e-3)
    assert not across._held


def test_no_more_slices_are_held_than_it_takes() -> None:
    across = AcrossSlices(np.arange(300) * 1.0, 4.0)
    most = 0
    for z in range(300):
        across.add(z, torch.zeros(2, 1, 1))
        list(across.finished())
        most = max(most, len(across._held))
    assert most <= 17


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_a_model_that_averages_does_so_whatever_the_batches(tmp_path: Path, batch_size: int) -> None:
    volume, _ = thorax_ct((7, 64, 80), spacing=(3.0, 5.0, 4.5), seed=3)
    path = save_tiny(tmp_path, name="averaging", smooth_mm=4.0)
    found = segment(volume, path, settings=replace(PLAIN, batch_size=batch_size), device="cpu")
    alone = segment(volume, save_tiny(tmp_path), settings=PLAIN, device="cpu")
    assert (found.array != alone.array).any()
    view, turn = volume.reoriented()
    assert np.array_equal(found.array, turn.undo(by_hand(path, view)))


def by_hand(path: Path, view: Volume) -> np.ndarray:
    """(z, y, x) labels of the mean chances, computed with the whole stack at hand."""
    model = load_model(path)
    slices = torch.from_numpy(np.ascontiguousarray(view.array))
    boxes, steps = boxes_of(slices, model.spec.preprocessing), model.spec.preprocessing
    with torch.inference_mode():
        scores = model.network()(to_network(slices, boxes, steps))
    shape = (slices.shape[1], slices.shape[2])
    chances = [chances_from_network(score, box, shape, steps) for score, box in zip(scores, boxes, strict=True)]
    positions = slice_positions(view.geometry)
    means = [
        sum(share * chances[k].half().float() for k, share in weights_of(z, positions, 4.0).items())
        for z in range(len(slices))
    ]
    return np.stack([torch.as_tensor(mean).argmax(0).numpy().astype(np.uint8) for mean in means])


def test_chances_are_whole_and_background_outside_the_box() -> None:
    score = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(1))
    steps = replace(ModelSpec("x", "unet").preprocessing, size=(8, 8))
    chances = chances_from_network(score, (2, 12, 3, 9), (20, 16), steps)
    torch.testing.assert_close(chances.sum(0), torch.ones(20, 16))
    assert (chances[0, :2] == 1).all() and (chances[0, :, 9:] == 1).all()


def test_frames_are_never_averaged_and_the_file_says_so(tmp_path: Path) -> None:
    spec = ModelSpec("x", "unet", smooth_mm=4.0)
    assert ModelSpec.from_json(spec.to_json()).smooth_mm == 4.0
    assert "Gaussian of 4 mm" in how_to_use(spec) and "Gaussian" not in how_to_use(replace(spec, smooth_mm=0.0))
    volume, _ = thorax_ct((4, 64, 80), spacing=(3.0, 5.0, 4.5), seed=3)
    frames = replace(volume, geometry=replace(volume.geometry, frames=True))
    one, other = (
        segment(frames, save_tiny(tmp_path, name=name, smooth_mm=width), settings=PLAIN, device="cpu").array
        for name, width in (("averaging", 4.0), ("tiny", 0.0))
    )
    assert np.array_equal(one, other)
