"""What every loss promises: it falls as labels come nearer, and knows nothing of what is ignored."""

from __future__ import annotations

import pytest
import torch

from napari_lungseg.training.losses import IGNORE, LOSSES, Loss

every_loss = pytest.mark.parametrize("name", list(LOSSES))
every_number_of_classes = pytest.mark.parametrize("classes", [2, 4])


def loss_of(name: str) -> Loss:
    loss = LOSSES.resolve(name)()
    assert isinstance(loss, Loss)
    return loss


def reference(classes: int) -> torch.Tensor:
    """(2, 20, 28): rectangles, each class in its own place; the second image lacks the last class."""
    labels = torch.zeros(2, 20, 28, dtype=torch.int64)
    for label in range(1, classes):
        labels[0, 3:14, 8 * (label - 1) + 2 : 8 * label] = label
        labels[1, 6:11, 8 * (label - 1) + 1 : 8 * label - 2] = label if label < classes - 1 or classes == 2 else 0
    return labels


def scores_for(labels: torch.Tensor, classes: int, certainty: float) -> torch.Tensor:
    """Logits whose best class is the labels', by a margin."""
    known = torch.where(labels == IGNORE, 0, labels)
    return certainty * torch.nn.functional.one_hot(known, classes).movedim(-1, 1).float()


def gradient(loss: Loss, scores: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = scores.clone().requires_grad_()
    value = loss(leaf, labels)
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


def noise(classes: int) -> torch.Tensor:
    return torch.randn(2, classes, 20, 28, generator=torch.Generator().manual_seed(0))


@every_loss
@every_number_of_classes
def test_falls_from_wrong_to_unsure_to_perfect(name: str, classes: int) -> None:
    loss, labels = loss_of(name), reference(classes)
    wrong = scores_for((labels + 1) % classes, classes, 12.0)
    values = [
        float(loss(scores, labels))
        for scores in (wrong, 0 * wrong, *(scores_for(labels, classes, c) for c in (2.0, 40.0)))
    ]
    assert values == sorted(values, reverse=True) and len(set(values)) == 4
    assert 0 <= values[-1] < 1e-3


@every_loss
@every_number_of_classes
def test_following_the_gradient_makes_it_better(name: str, classes: int) -> None:
    loss, labels, scores = loss_of(name), reference(classes), noise(classes)
    before, slope = gradient(loss, scores, labels)
    assert before.shape == () and before.dtype == torch.float32
    assert slope.isfinite().all() and slope.any()
    assert loss(scores - 0.1 * slope / slope.abs().max(), labels) < before


@every_loss
@every_number_of_classes
def test_ignored_pixels_count_for_nothing(name: str, classes: int) -> None:
    loss, labels = loss_of(name), reference(classes)
    labels[0, 5:9, 4:20] = IGNORE
    labels[1, :, 20:] = IGNORE
    ignored = (labels == IGNORE)[:, None]
    value, slope = gradient(loss, noise(classes), labels)
    other, same_slope = gradient(loss, torch.where(ignored, 9.0 - noise(classes), noise(classes)), labels)
    assert value == other
    assert torch.equal(slope, same_slope)
    assert (slope.masked_select(ignored) == 0).all()
    assert slope.masked_select(~ignored).any()


@every_loss
@pytest.mark.parametrize("overflow", [torch.inf, torch.nan])
def test_scores_that_overflow_where_ignored_count_for_nothing(name: str, overflow: float) -> None:
    loss, labels = loss_of(name), reference(3)
    labels[0, 5:9, 4:20] = IGNORE
    ignored = (labels == IGNORE)[:, None]
    value, slope = gradient(loss, noise(3), labels)
    other, same_slope = gradient(loss, noise(3).masked_fill(ignored, overflow), labels)
    assert value == other
    assert torch.equal(slope, same_slope)


@every_loss
@every_number_of_classes
def test_nothing_known_is_nothing_lost(name: str, classes: int) -> None:
    value, slope = gradient(loss_of(name), noise(classes), torch.full((2, 20, 28), IGNORE))
    assert value == 0
    assert not slope.any() and slope.isfinite().all()


@every_loss
@every_number_of_classes
def test_a_batch_without_foreground_is_learned_from(name: str, classes: int) -> None:
    loss, labels = loss_of(name), torch.zeros(2, 20, 28, dtype=torch.int64)
    scores = 4.0 * torch.nn.functional.one_hot(torch.full((2, 20, 28), 1), classes).movedim(-1, 1)
    value, slope = gradient(loss, scores, labels)
    assert value > 0.3 and slope[:, 0].max() <= 0 and slope[:, 0].any()
    assert 0 <= float(loss(scores_for(labels, classes, 40.0), labels)) < 1e-3


@every_loss
@pytest.mark.parametrize("certainty", [1e4, -1e4])
def test_extreme_scores_stay_finite(name: str, certainty: float) -> None:
    labels = reference(3)
    value, slope = gradient(loss_of(name), scores_for(labels, 3, certainty), labels)
    assert value.isfinite() and slope.isfinite().all()


@every_loss
def test_half_precision_gives_nearly_the_same(name: str) -> None:
    loss, labels, scores = loss_of(name), reference(3), noise(3)
    expected, slope = gradient(loss, scores.bfloat16().float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, reduced = gradient(loss, scores.bfloat16(), labels)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(reduced.float(), slope, atol=1e-4, rtol=1e-2)


@every_loss
def test_labels_of_small_integers_are_taken(name: str) -> None:
    assert loss_of(name)(noise(3), reference(3).to(torch.uint8)) == loss_of(name)(noise(3), reference(3))
