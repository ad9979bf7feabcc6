"""The classical method on a simple chest made here, and on the phantom."""

import numpy as np
import pytest

from napari_lungseg.phantom import thorax_ct
from napari_lungseg.segmentation.threshold import threshold_confidence, threshold_lungs

SPACING = (5.0, 1.5, 1.3)


def disc(shape, row, column, half_rows, half_columns):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return ((rows - row) / half_rows) ** 2 + ((columns - column) / half_columns) ** 2 <= 1


@pytest.fixture
def chest():
    """One slice: body, two lungs with vessels, trachea, stomach gas, a table with air in it; and the true lungs."""
    shape = (160, 240)
    hu = np.full(shape, -1000.0)
    hu[disc(shape, 75, 120, 60, 95)] = 40
    truth = np.zeros(shape, np.uint8)
    truth[disc(shape, 75, 70, 38, 32)], truth[disc(shape, 78, 172, 34, 28)] = 1, 2
    hu[truth > 0] = -850
    hu[disc(shape, 75, 72, 3, 3)] = 40  # a vessel
    hu[disc(shape, 62, 120, 6, 6)] = -1000  # trachea
    hu[150:158, 30:210] = -900  # table
    hu[[149, 158], 30:210] = 200
    hu += np.random.default_rng(0).normal(0, 10, shape)
    return hu, truth


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def test_lungs_without_trachea_table_and_outside(chest):
    hu, truth = chest
    labels = threshold_lungs(hu[None], SPACING)[0]
    assert labels.dtype == np.uint8
    assert dice(labels == 1, truth == 1) > 0.98
    assert dice(labels == 2, truth == 2) > 0.98
    assert not labels[62, 120]
    assert labels[75, 72] == 1  # the vessel is closed over
    assert threshold_confidence(hu[None], SPACING)[0] > 0.95


def test_touching_lungs_are_parted_along_the_densest_path(chest):
    hu, truth = chest
    # The lungs run together in front of the mediastinum, but for a thin, faint line.
    bridge = np.zeros(hu.shape, bool)
    bridge[60:80, 95:150] = True
    hu[bridge & (hu > -300)] = -850
    hu[62:80, 110:130] = 40
    hu[60:80, 118] = -550
    labels = threshold_lungs(hu[None], SPACING)[0]
    assert (labels[truth == 1] == 1).mean() > 0.97
    assert (labels[truth == 2] == 2).mean() > 0.97


def test_a_slice_without_lung_is_empty_and_sure(chest):
    hu, truth = chest
    hu[truth > 0] = 40
    hu[disc(hu.shape, 50, 160, 12, 20)] = -1000  # stomach gas
    labels = threshold_lungs(hu[None], SPACING)
    assert not labels.any()
    assert threshold_confidence(hu[None], SPACING)[0] == 1.0


def test_nothing_but_air_is_empty():
    assert not threshold_lungs(np.full((2, 64, 64), -1000.0), SPACING).any()


def test_pneumonia_lowers_the_confidence(chest):
    hu, truth = chest
    hazy = (truth == 2) & (np.arange(hu.shape[0])[:, None] > 70)
    hu[hazy] = -350
    assert threshold_confidence(hu[None], SPACING)[0] < 0.9


def test_a_collapsed_lung_is_not_to_be_learned_from(chest):
    hu, truth = chest
    hu[truth == 2] = 30
    assert set(np.unique(threshold_lungs(hu[None], SPACING))) == {0, 1}
    assert threshold_confidence(hu[None], SPACING)[0] == 0.0


def test_the_phantoms_sides():
    volume, truth = thorax_ct(shape=(12, 128, 160))
    view, _ = volume.reoriented()
    reference, _ = truth.reoriented()
    labels = threshold_lungs(view.array, view.geometry.spacing)
    for lung in (1, 2):
        assert dice(labels == lung, np.asarray(reference.array) == lung) > 0.85
    assert not ((labels == 1) & (np.asarray(reference.array) == 2)).any()
