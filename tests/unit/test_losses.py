"""Losses against the libraries that have the same, and against figures found by hand."""

from __future__ import annotations

import monai.losses
import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from scipy.ndimage import distance_transform_edt, label
from torch import nn
from torch.nn import functional

from napari_lungseg.training.distance_losses import (
    BorderCrossEntropy,
    Boundary,
    border_nearness,
    signed_distances,
)
from napari_lungseg.training.losses import (
    IGNORE,
    DeepSupervision,
    Dice,
    DiceCrossEntropy,
    Focal,
    LogDice,
    Loss,
    Tversky,
    thinned,
)

HALF = 0.5
"""Their ``smooth`` is added to |A∩B| and to (|A| + |B|) / 2: half of what is added to twice these."""


def batch(classes: int = 3, known: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    scores = torch.randn(2, classes, 17, 23, generator=generator)
    labels = torch.randint(classes, (2, 17, 23), generator=generator)
    return scores, torch.where(torch.rand(2, 17, 23, generator=generator) < known, labels, IGNORE)


@pytest.mark.parametrize("known", [1.0, 0.6])
def test_dice_is_that_of_segmentation_models(known: float) -> None:
    theirs = smp.losses.DiceLoss("multiclass", classes=[1, 2], smooth=HALF, ignore_index=IGNORE)
    torch.testing.assert_close(Dice()(*batch(known=known)), theirs(*batch(known=known)))


def test_dice_is_that_of_monai() -> None:
    scores, labels = batch()
    theirs = monai.losses.DiceLoss(
        include_background=False, softmax=True, to_onehot_y=True, batch=True, smooth_nr=1.0, smooth_dr=1.0
    )
    torch.testing.assert_close(Dice()(scores, labels), theirs(scores, labels[:, None]))


def test_tversky_is_that_of_monai() -> None:
    scores, labels = batch()
    theirs = monai.losses.TverskyLoss(
        include_background=False, softmax=True, to_onehot_y=True, batch=True, alpha=0.3, beta=0.7, smooth_nr=0.5,
        smooth_dr=0.5,
    )  # fmt: skip
    torch.testing.assert_close(Tversky()(scores, labels), theirs(scores, labels[:, None]))


def test_focal_is_that_of_monai() -> None:
    scores, labels = batch()
    # Theirs is the mean over classes too, of which only the true one is not zero.
    theirs = 3 * monai.losses.FocalLoss(use_softmax=True, to_onehot_y=True, gamma=2.0)(scores, labels[:, None])
    torch.testing.assert_close(Focal()(scores, labels), theirs)


def test_focal_without_focus_is_the_cross_entropy() -> None:
    scores, labels = batch(known=0.5)
    expected = functional.cross_entropy(scores, labels, ignore_index=IGNORE)
    torch.testing.assert_close(Focal(gamma=0)(scores, labels), expected)


def test_the_default_is_dice_plus_cross_entropy() -> None:
    scores, labels = batch(known=0.5)
    expected = Dice()(scores, labels) + functional.cross_entropy(scores, labels, ignore_index=IGNORE)
    torch.testing.assert_close(DiceCrossEntropy()(scores, labels), expected)


def test_log_dice_of_one_class_is_cross_entropy_and_the_libraries_log_dice() -> None:
    scores, labels = batch(classes=2, known=0.5)
    theirs = smp.losses.DiceLoss("multiclass", classes=[1], smooth=HALF, log_loss=True, ignore_index=IGNORE)
    expected = functional.cross_entropy(scores, labels, ignore_index=IGNORE) + theirs(scores, labels)
    torch.testing.assert_close(LogDice()(scores, labels), expected)


def test_log_dice_of_two_classes_is_by_hand() -> None:
    scores, labels = batch(classes=3)
    chances = scores.softmax(1)
    bce = [functional.binary_cross_entropy(chances[:, k], (labels == k).float()) for k in (1, 2)]
    theirs = smp.losses.DiceLoss("multiclass", classes=[1, 2], smooth=HALF, log_loss=True)
    torch.testing.assert_close(LogDice()(scores, labels), sum(bce) / 2 + theirs(scores, labels))


def test_tversky_minds_missing_more_than_finding_too_much() -> None:
    labels = torch.zeros(1, 12, 12, dtype=torch.int64)
    labels[0, 3:9, 3:9] = 1
    small, large = torch.zeros_like(labels), torch.zeros_like(labels)
    small[0, 4:9, 3:9], large[0, 2:9, 3:9] = 1, 1

    def cost(found: torch.Tensor) -> float:
        return float(Tversky()(20.0 * functional.one_hot(found, 2).movedim(-1, 1), labels))

    assert cost(small) > 1.5 * cost(large)


def test_distances_are_signed_and_end_at_the_border() -> None:
    mask = np.zeros((1, 1, 30, 40), bool)
    mask[0, 0, 10:20, 5:35] = True
    distances = signed_distances(mask)[0, 0] * 50  # the diagonal
    assert distances[9, 20] == pytest.approx(0.5)
    assert distances[10, 20] == pytest.approx(-0.5)
    assert distances[2, 20] == pytest.approx(7.5)
    assert distances[14, 20] == pytest.approx(-4.5)
    assert not signed_distances(np.ones((1, 1, 4, 4), bool)).any()


def test_the_boundary_loss_minds_far_pixels_more() -> None:
    labels = torch.zeros(1, 32, 48, dtype=torch.int64)
    labels[0, 10:20, 6:16] = 1
    near, far = labels.clone(), labels.clone()
    near[0, 10:20, 16:18], far[0, 10:20, 44:46] = 1, 1

    def cost(found: torch.Tensor, weight: float) -> float:
        return float(Boundary(weight)(20.0 * functional.one_hot(found, 2).movedim(-1, 1), labels))

    assert cost(near, 0) == pytest.approx(cost(far, 0))
    assert cost(far, 1) - cost(far, 0) > 5 * (cost(near, 1) - cost(near, 0)) > 0


def test_borders_are_weighed_as_in_the_paper() -> None:
    labels = np.zeros((20, 30), np.int64)
    labels[5:15, 2:10], labels[5:15, 13:20] = 1, 1  # one label, two objects, three pixels between them
    nearness = border_nearness(labels, sigma=5.0)
    assert nearness[10, 11] == pytest.approx(np.exp(-((2 + 2) ** 2) / 50))
    assert nearness[10, 9] == pytest.approx(np.exp(-(4**2) / 50))  # of the first object, four from the second
    assert nearness[10, 29] == pytest.approx(np.exp(-((10 + 20) ** 2) / 50))
    labels[5:15, 13:20] = 2
    assert np.array_equal(border_nearness(labels, 5.0), nearness)
    labels[5:15, 13:20] = IGNORE
    assert not border_nearness(labels, 5.0).any()


def test_borders_of_many_objects_are_weighed_by_the_nearest_two() -> None:
    corners = np.random.default_rng(3).integers(0, (70, 90), (12, 2))
    labels = np.zeros((80, 100), np.int64)
    for number, (row, column) in enumerate(corners):
        labels[row : row + 6, column : column + 9] = 1 + number % 2
    pieces = [label(labels == value, structure=np.ones((3, 3))) for value in (1, 2)]
    distances = [distance_transform_edt(found != n + 1) for found, count in pieces for n in range(count)]
    expected = np.exp(-(np.sort(distances, axis=0)[:2].sum(axis=0) ** 2) / 18)
    assert len(distances) > 5
    np.testing.assert_allclose(border_nearness(labels, sigma=3.0), expected, atol=4e-6)


def test_border_weights_of_one_object_are_the_class_balance() -> None:
    scores, _ = batch(classes=2)
    labels = torch.zeros(2, 17, 23, dtype=torch.int64)
    labels[:, 4:9, 3:17] = 1
    counts = torch.bincount(labels.flatten()).float()
    expected = functional.cross_entropy(scores, labels, weight=labels.numel() / (2 * counts))
    torch.testing.assert_close(BorderCrossEntropy()(scores, labels), expected)
    plain = functional.cross_entropy(scores, labels)
    torch.testing.assert_close(BorderCrossEntropy(balance=False)(scores, labels), plain)


class Seen(nn.Module):
    """A loss that keeps the labels it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.labels: list[torch.Tensor] = []

    def forward(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        assert scores.shape[-2:] == labels.shape[-2:]
        self.labels.append(labels)
        return scores.mean()


def test_auxiliary_scores_count_half_as_much_each() -> None:
    loss = Seen()
    several = tuple(
        torch.full((1, 2, *size), value) for size, value in [((32, 48), 1.0), ((16, 24), 10.0), ((7, 9), 100.0)]
    )
    value = DeepSupervision(loss)(several, torch.zeros(1, 32, 48, dtype=torch.int64))
    assert float(value) == pytest.approx((4 * 1 + 2 * 10 + 100) / 7)
    scores, labels = batch()
    assert DeepSupervision(Dice())(scores, labels) == Dice()(scores, labels)


def test_thinned_labels_are_never_mixed() -> None:
    labels = torch.zeros(1, 8, 12, dtype=torch.int64)
    labels[0, :4, 6:] = IGNORE
    labels[0, 4:, :6] = 2
    assert thinned(labels, (4, 6)).tolist() == labels[:, ::2, ::2].tolist()
    assert thinned(labels, (8, 12)) is labels


def test_a_loss_that_computes_nothing_cannot_be_built() -> None:
    class Nothing(Loss):
        pass

    with pytest.raises(TypeError, match="compute"):
        Nothing()  # type: ignore[abstract]
