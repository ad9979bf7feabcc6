"""Crop, scale and resize, and the way back, on slices whose two axes differ."""

from __future__ import annotations

import pytest
import torch

from napari_lungseg.models.spec import Preprocessing
from napari_lungseg.segmentation.preprocess import body_boxes, boxes_of, from_network, to_network


def slices_with_body(rows: int = 200, columns: int = 300) -> torch.Tensor:
    """Two slices of air: one with a body at rows 60–140, columns 100–260 and a thin table below; one empty."""
    slices = torch.full((2, rows, columns), -1000, dtype=torch.int16)
    slices[0, 60:140, 100:260] = 40
    slices[0, 165:169, 20:280] = 200
    return slices


def test_body_box_holds_the_body_and_leaves_the_table() -> None:
    top, bottom, left, right = body_boxes(slices_with_body())[0]
    assert 50 <= top <= 60 and 140 <= bottom <= 150
    assert 90 <= left <= 100 and 260 <= right <= 270


def test_an_empty_slice_is_taken_whole() -> None:
    assert body_boxes(slices_with_body())[1] == (0, 200, 0, 300)


@pytest.mark.parametrize("shape", [(32, 33), (64, 1000), (513, 511)])
def test_boxes_stay_inside_slices_of_any_size(shape: tuple[int, int]) -> None:
    top, bottom, left, right = body_boxes(torch.full((1, *shape), 40.0))[0]
    assert (top, bottom, left, right) == (0, shape[0], 0, shape[1])


def test_window_becomes_zero_to_one() -> None:
    slices = torch.tensor([-3000, -1024, -212, 600, 3000], dtype=torch.int16).view(1, 1, 5).repeat(1, 5, 1)
    steps = Preprocessing(size=(5, 5), window=(-1024, 600))
    row = to_network(slices, boxes_of(slices, steps), steps)[0, 0, 2]
    assert torch.allclose(row, torch.tensor([0, 0, 0.5, 1, 1]))


def test_percentiles_ignore_the_scale_of_an_image() -> None:
    image = torch.rand(1, 40, 60, generator=torch.Generator().manual_seed(0))
    steps = Preprocessing(size=(32, 32))
    boxes = boxes_of(image, steps)
    assert torch.allclose(to_network(image, boxes, steps), to_network(image * 5000 + 300, boxes, steps), atol=1e-4)


def test_a_flat_image_is_defined() -> None:
    steps = Preprocessing(size=(32, 32))
    image = torch.full((1, 40, 40), 7.0)
    assert to_network(image, boxes_of(image, steps), steps).isfinite().all()


def test_the_way_back_puts_labels_where_they_came_from() -> None:
    slices = slices_with_body()
    slices[0, 80:120, 120:150] = -850  # the patient's right lung
    slices[0, 90:110, 200:240] = -850
    steps = Preprocessing(size=(128, 128), window=(-1024, 600), crop_body=True)
    boxes = boxes_of(slices[:1], steps)
    images = to_network(slices[:1], boxes, steps)[:, 0]
    dark = images < 0.3
    left_half = torch.arange(128) < 64
    scores = torch.stack([~dark, dark & left_half, dark & ~left_half], 1).float()
    labels = from_network(scores, boxes, (200, 300), steps)
    truth = torch.zeros(200, 300, dtype=torch.uint8)
    truth[80:120, 120:150], truth[90:110, 200:240] = 1, 2
    inside = (slice(61, 139), slice(101, 259))
    assert labels.dtype == torch.uint8
    assert (labels[0][inside] == truth[inside]).float().mean() > 0.985


def test_a_thin_chest_wall_around_large_lungs_is_body() -> None:
    slices = torch.full((1, 512, 512), -1000, dtype=torch.int16)
    slices[0, 120:400, 60:450] = 40
    slices[0, 134:386, 74:230] = -870  # walls of 14 pixels, about 12 mm
    slices[0, 134:386, 280:436] = -870
    top, bottom, left, right = body_boxes(slices)[0]
    assert top <= 120 and bottom >= 400
    assert left <= 60 and right >= 450


def test_padding_keeps_the_aspect_and_the_way_back_is_exact() -> None:
    image = torch.zeros(1, 60, 180)
    image[0, 20:50, 90:170] = 1
    steps = Preprocessing(size=(96, 96), window=(0, 1), fit="pad")
    boxes = boxes_of(image, steps)
    seen = to_network(image, boxes, steps)
    assert seen.shape == (1, 1, 96, 96)
    assert not seen[0, 0, :32].any() and not seen[0, 0, 64:].any()
    labels = from_network(torch.cat([1 - seen, seen], 1), boxes, (60, 180), steps)
    assert ((labels[0] > 0) == (image[0] > 0.5)).float().mean() > 0.99


def test_a_black_border_is_cropped_and_a_blank_picture_kept() -> None:
    pictures = torch.zeros(2, 100, 140)
    pictures[0, 10:80, 25:130] = torch.rand(70, 105, generator=torch.Generator().manual_seed(1)) * 200 + 20
    assert boxes_of(pictures, Preprocessing(crop_border=True)) == [(10, 80, 25, 130), (0, 100, 0, 140)]
