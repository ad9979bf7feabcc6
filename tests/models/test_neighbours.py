"""What a stroke says of the slices beside it: how far, where the image looks the same, and never against paint."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_lungseg import LabelMap, Volume
from napari_lungseg.models.spec import Preprocessing
from napari_lungseg.training.examples import Examples
from napari_lungseg.training.losses import IGNORE
from napari_lungseg.training.neighbours import lent, sampled
from napari_lungseg.training.painted import BACKGROUND, Painted
from napari_lungseg.volume import Geometry

STEPS = Preprocessing(size=(32, 48), window=(-1024.0, 600.0))


def seen(
    array: np.ndarray, labels: np.ndarray, steps: Preprocessing = STEPS, spacing_mm: float = 3.0, **geometry: object
) -> Examples:
    where = replace(Geometry(array.shape, (spacing_mm, 2.0, 1.5)), **geometry)
    volume = Volume(array, where, "ct", "HU")
    return Examples([Painted(volume, LabelMap(labels, where, names={1: "thing"}))], steps, 0.0, 0)


def block(slices: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Tissue with a hole of air that ends above slice 5; a stroke of 8 × 10 pixels in the hole on slice 4."""
    array = np.full((slices, 32, 48), 40, np.int16)
    array[:6, 6:26, 10:38] = -850
    labels = np.zeros(array.shape, np.uint8)
    labels[4, 12:20, 18:28] = 1
    return array, labels


def test_a_stroke_counts_two_slices_up_and_down_where_they_look_alike() -> None:
    examples = seen(*block())
    found = lent(examples.labels, examples)
    assert sorted(z for _, z in found) == [2, 3, 5]  # 6 looks different, 1 lies 9 mm away
    own = examples.labels[0, 4] == 1
    assert torch.equal(found[0, 3] == 1, own) and torch.equal(found[0, 5] == 1, own)
    inner = found[0, 2] == 1
    assert inner.any() and int(inner.sum()) == 6 * 8 and not (inner & ~own).any()  # one pixel less all round


def test_only_what_looks_alike_is_lent() -> None:
    array, labels = block()
    array[3, 12:20, 18:23] = -500
    found = lent(seen(array, labels).labels, seen(array, labels))
    assert not (found[0, 3][12:20, 18:22] == 1).any() and (found[0, 3][13:19, 24:27] == 1).all()


@pytest.mark.parametrize(
    ("spacing_mm", "expected"), [(3.0, [2, 3, 5]), (5.0, [3, 5]), (8.0, []), (1.5, [0, 2]), (6.0, [3, 5])]
)
def test_it_is_millimetres_that_count(spacing_mm: float, expected: list[int]) -> None:
    examples = seen(*block(), spacing_mm=spacing_mm)
    assert sorted(z for _, z in lent(examples.labels, examples)) == expected


def test_uneven_slices_count_by_where_they_lie() -> None:
    positions = (0.0, 1.0, 2.0, 3.0, 6.0, 9.0, 30.0, 60.0, 90.0)
    array, labels = block()
    array[:] = -850
    examples = seen(array, labels, slice_positions=positions)
    assert sorted(z for _, z in lent(examples.labels, examples)) == [0, 3, 5]


def test_paint_of_a_slice_counts_before_what_is_lent_and_the_nearer_before_the_farther() -> None:
    array, labels = block()
    labels[3, 12:20, 18:23] = BACKGROUND
    examples = seen(array, labels)
    found = lent(examples.labels, examples)
    assert (found[0, 3][12:20, 18:22] == 0).all() and (found[0, 3][13:19, 24:27] == 1).all()
    assert (found[0, 2][13:19, 19:22] == 0).all(), "slice 3 is nearer to it than slice 4"


def test_nothing_is_lent_among_frames_or_to_nobody() -> None:
    array, labels = block()
    examples = seen(array, labels, frames=True)
    assert lent(examples.labels, examples) == {}
    assert lent({}, examples) == {}


def test_slices_that_are_cropped_otherwise_are_laid_on_each_other() -> None:
    """The arm of one slice widens its box; the stroke is lent to the same place of the patient."""
    array = np.full((3, 64, 96), -1000, np.int16)
    array[:, 16:48, 24:72] = 40
    array[1, 28:36, 4:92] = 40
    array[:, 24:40, 40:56] = -850
    labels = np.zeros(array.shape, np.uint8)
    labels[1, 26:38, 42:54] = 1
    examples = seen(array, labels, replace(STEPS, size=(64, 64), crop_body=True))
    assert examples.slice((0, 0)).box != examples.slice((0, 1)).box
    found = lent(examples.labels, examples)
    for z in (0, 2):
        shown = examples.to_slice((found[0, z] == 1).float(), (0, z)) > 0.5
        overlap = 2 * (shown & (labels[1] == 1)).sum() / (shown.sum() + (labels[1] == 1).sum())
        assert overlap > 0.85
    same = examples.slice((0, 0))
    there = sampled(same.image, same, examples.slice((0, 1)), examples)
    assert there.shape == same.image.shape and not torch.equal(there, same.image)


def test_what_is_lent_is_known_or_unknown_and_nothing_else() -> None:
    examples = seen(*block())
    values = torch.cat([labels.unique() for labels in lent(examples.labels, examples).values()])
    assert set(values.tolist()) <= {0, 1, IGNORE}
