"""Augmentation: labels move with their image, sides follow the picture, and a seed repeats everything."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from napari_lungseg.training import paste
from napari_lungseg.training.augment import Augmentation, apply_grid, change_grey, draw_grid
from napari_lungseg.training.draw import smooth
from napari_lungseg.training.losses import IGNORE

STILL = Augmentation(
    size=(64, 96), rotation=0, scale=(1, 1), shift=0, stretch=0, elastic=0, mirror=0, contrast=0, brightness=0, gamma=0
)
CHANGES = [paste.paste_consolidation, paste.paste_effusion, paste.paste_gas, paste.paste_opacity, paste.paste_clutter]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chests(n: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Chests with a tall right and a small left lung: (n, 1, 64, 96) images and (n, 64, 96) labels."""
    labels = torch.zeros(n, 64, 96, dtype=torch.long)
    labels[:, 10:54, 12:40], labels[:, 20:44, 60:80] = 1, 2
    images = torch.where(labels > 0, 0.1, 0.65)[:, None]
    return images, labels


def test_no_change_is_no_change() -> None:
    images, labels = chests()
    same, kept = apply_grid(images, labels, *draw_grid(4, STILL, seeded()))
    assert torch.allclose(same, images, atol=1e-4)
    assert torch.equal(kept, labels)


def test_labels_move_with_their_image() -> None:
    images, labels = chests(16)
    how = Augmentation(size=(64, 96), scale=(0.9, 1.4))
    moved, kept = apply_grid(images, labels, *draw_grid(16, how, seeded()))
    dark, light = moved[:, 0][kept > 0], moved[:, 0][kept == 0]
    assert dark.median() == pytest.approx(0.1, abs=0.02)
    assert dark.mean() < 0.16
    assert not torch.equal(kept, labels)
    assert light.numel() > dark.numel()


def test_a_mirrored_chest_keeps_right_at_the_viewers_left() -> None:
    images, labels = chests()
    how = Augmentation(**{**vars(STILL), "mirror": 1.0})
    mirrored, swapped = apply_grid(images, labels, *draw_grid(4, how, seeded()))
    assert torch.allclose(mirrored, images.flip(-1), atol=1e-4)
    columns = torch.arange(96.0).expand(4, 64, 96)
    assert columns[swapped == 1].mean() < 48 < columns[swapped == 2].mean()
    assert (swapped == 1).sum() == (labels == 2).sum()


def test_unknown_pixels_move_with_the_image_and_stay_unknown() -> None:
    images, labels = chests()
    labels[:, 40:, :30] = IGNORE
    how = Augmentation(**{**vars(STILL), "mirror": 1.0})
    _, swapped = apply_grid(images, labels, *draw_grid(4, how, seeded()))
    assert torch.equal(swapped == IGNORE, (labels == IGNORE).flip(-1))
    assert torch.equal(swapped == 2, (labels == 1).flip(-1))


@pytest.mark.parametrize("outside", [0, IGNORE])
def test_what_lies_outside_the_image_is_as_asked(outside: int) -> None:
    images, labels = chests()
    how = Augmentation(**{**vars(STILL), "scale": (0.5, 0.5)})  # the image fills the middle half of each side
    _, kept = apply_grid(images, labels, *draw_grid(4, how, seeded()), outside=outside)
    assert (kept[:, :15] == outside).all() and (kept[:, :, 73:] == outside).all()
    assert torch.equal(kept[0, 16:48, 24:72].unique(), torch.arange(3))
    assert ((kept == 1).sum() / (labels == 1).sum()) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("cells", [(3, 3), (7, 4), (12, 12)])
def test_a_smooth_field_is_that_of_torch(cells: tuple[int, int], align_corners: bool) -> None:
    field = torch.randn(2, 2, *cells, generator=seeded())
    expected = functional.interpolate(field, size=(64, 96), mode="bicubic", align_corners=align_corners)
    assert torch.allclose(smooth(field, (64, 96), align_corners=align_corners), expected, atol=1e-5)


def test_grey_stays_between_zero_and_one() -> None:
    images, _ = chests()
    changed = change_grey(images, Augmentation(invert=0.5, noise=0.5), seeded())
    assert changed.min() >= 0 and changed.max() <= 1
    assert not torch.equal(changed, images)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_repeatable_bounded_and_happens(change: paste.Change) -> None:
    images, labels = chests(8)
    one, two = (paste.paste_some(change, images.clone(), labels, seeded(3), 1.0) for _ in range(2))
    assert torch.equal(one, two)
    assert one.shape == images.shape
    assert one.min() >= 0 and one.max() <= 1
    assert (one - images).abs().max() > 0.05


def test_probability_zero_changes_nothing() -> None:
    images, labels = chests()
    assert paste.paste_some(paste.paste_gas, images, labels, seeded(), 0.0) is images


@pytest.mark.parametrize("change", [paste.paste_consolidation, paste.paste_effusion, paste.paste_opacity])
def test_disease_stays_in_the_lungs(change: paste.Change) -> None:
    images, labels = chests(8)
    diseased = change(images, labels, seeded(1))
    far = torch.nn.functional.max_pool2d((labels > 0).float()[:, None], 11, stride=1, padding=5) == 0
    assert torch.equal(diseased[far], images[far])


def test_gas_stays_out_of_the_lungs() -> None:
    images, labels = chests(8)
    lung = (labels > 0)[:, None]
    assert torch.equal(paste.paste_gas(images, labels, seeded(1))[lung], images[lung])


def test_a_dome_is_even_tissue_that_is_lung_no_more() -> None:
    images, labels = torch.full((4, 1, 64, 96), 0.1), torch.zeros(4, 64, 96, dtype=torch.long)
    labels[:3, 10:50, 10:40], labels[:3, 10:50, 50:90] = 1, 2
    images[:, :, :10] = 0.9
    changed, left = paste.paste_dome(images.clone(), labels, seeded(4), probability=1.0)
    gone = (labels > 0) & (left == 0)
    assert gone[:3].flatten(1).any(1).all() and not gone[3].any()  # no lung, no dome
    assert torch.equal(left[~gone], labels[~gone])
    inside = functional.max_pool2d((~gone).float()[:, None], 3, stride=1, padding=1) == 0
    tissue = changed[inside]
    assert tissue.min() > 0.55 and tissue.max() < 0.82
    far = functional.max_pool2d(gone.float()[:, None], 3, stride=1, padding=1) == 0
    assert torch.equal(changed[far], images[far])
    again = paste.paste_dome(images.clone(), labels, seeded(4), probability=1.0)
    assert torch.equal(again[0], changed) and torch.equal(again[1], left)
    untouched = paste.paste_dome(images.clone(), labels, seeded(4), probability=0.0)
    assert torch.equal(untouched[0], images) and torch.equal(untouched[1], labels)


def test_a_blank_border_is_background() -> None:
    images, labels = chests(16)
    bordered, kept = paste.paste_border(images, labels, seeded(2), probability=1.0)
    blank = (bordered == 0) | (bordered == 1)
    assert blank.any()
    assert (kept[blank[:, 0]] == 0).all()
