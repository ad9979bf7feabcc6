"""Pieces found slab by slab are those found in one go, in the same order."""

from dataclasses import fields

import numpy as np
import pytest
from scipy import ndimage

from napari_lungseg.segmentation import pieces
from napari_lungseg.segmentation.postprocess import postprocess
from napari_lungseg.volume import Geometry

SPACING, ORIGIN = (3.0, 0.8, 1.1), (-700.0, -20.0, -200.0)
SHAPES = [(9, 14, 17), (1, 23, 19), (2, 5, 40)]


def random_labels(shape, seed):
    """Blobs of three labels with holes and speckles, so that pieces branch and meet again across slabs."""
    random = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(random.normal(size=shape), random.choice([0.3, 0.7, 1.2]))
    return np.digitize(smooth, np.quantile(smooth, [0.4, 0.7, 0.9])).astype(np.uint8)


def found(labels):
    return pieces.find_pieces(labels, np.array([4, 5, 6]), Geometry((90, 90, 90), SPACING, ORIGIN))


@pytest.mark.parametrize("voxels", [1, 700, 2000])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(8))
def test_slabs_change_nothing(monkeypatch, shape, seed, voxels):
    labels = random_labels(shape, seed)
    geometry = Geometry(shape, SPACING, ORIGIN)
    whole, (cleaned, findings) = found(labels), postprocess(labels.copy(), geometry, frames=False)
    monkeypatch.setattr(pieces, "SLAB_VOXELS", voxels)
    by_slab = found(labels)
    for field in fields(whole):
        assert np.array_equal(getattr(by_slab, field.name), getattr(whole, field.name)), field.name
    again, told = postprocess(labels.copy(), geometry, frames=False)
    assert np.array_equal(again, cleaned)
    assert told == findings


@pytest.mark.parametrize("voxels", [300, 10**9])
def test_the_table_tells_of_each_piece_what_its_voxels_say(monkeypatch, voxels):
    monkeypatch.setattr(pieces, "SLAB_VOXELS", voxels)
    labels = random_labels(SHAPES[0], 1)
    table = found(labels)
    padded = np.pad(labels, 1)
    expected = sum(ndimage.label(padded == label)[1] for label in range(4))
    assert len(table.sizes) == expected + 1
    for piece in range(1, expected + 1):
        where = np.argwhere(table.ids == piece)
        x = ORIGIN[2] + SPACING[2] * (where[:, 2] + 6 - 1)
        assert set(padded[tuple(where.T)]) == {table.labels[piece]}
        assert table.sizes[piece] == len(where)
        assert np.array_equal([table.low[piece], table.high[piece] - 1], [where.min(0), where.max(0)])
        assert table.lateral[piece] == pytest.approx(x.mean())
        assert table.reach[piece] == pytest.approx([x.min(), x.max()])
