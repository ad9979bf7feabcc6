"""The phantom is a patient: anatomy on its proper side, densities in their proper range, the same for the same seed."""

from __future__ import annotations

import time

import numpy as np
import pytest

from napari_lungseg.phantom import draw_anatomy, thorax_ct, thorax_xray
from napari_lungseg.volume import FRONTAL

SMALL = (48, 76, 96)


@pytest.fixture(scope="module")
def ct():
    return thorax_ct(SMALL, seed=3)


@pytest.fixture(scope="module")
def xray():
    return thorax_xray((128, 144), seed=3)


def lung_ml(labels, label):
    return float((labels.array == label).sum()) * labels.geometry.voxel_volume_mm3 / 1000


def test_ct_is_on_an_anisotropic_offset_grid(ct):
    volume, labels = ct
    assert volume.unit == "HU"
    assert volume.array.dtype == np.int16
    assert labels.array.dtype == np.uint8
    assert volume.geometry == labels.geometry
    assert len(set(volume.geometry.spacing)) == 3
    assert min(abs(offset) for offset in volume.geometry.origin) > 100
    assert volume.geometry.axis_letters() == ("H", "P", "L")


def test_right_lung_lies_on_the_patients_right_and_is_larger(ct):
    _, labels = ct
    right, left = (np.argwhere(labels.array == label).mean(axis=0) for label in (1, 2))
    assert labels.geometry.position(right)[2] < labels.geometry.position(left)[2] - 80
    assert 1200 < lung_ml(labels, 2) < lung_ml(labels, 1) < 3500


@pytest.mark.parametrize("seed", range(6))
def test_any_patient_has_plausible_lungs(seed):
    _, labels = thorax_ct(SMALL, seed=seed)
    assert 900 < lung_ml(labels, 2) < lung_ml(labels, 1) < 4000


def test_densities_are_those_of_a_scan(ct):
    volume, labels = ct
    lung = volume.array[labels.array > 0]
    assert -900 < np.median(lung) < -750
    assert np.percentile(lung, 99.5) > -200  # vessels
    assert volume.array.max() > 500  # bone
    assert np.median(volume.array[:, 2, :]) == pytest.approx(-1000, abs=15)
    below_the_skin = volume.array[(volume.array > -130) & (volume.array < -80)]
    assert below_the_skin.size > 0.03 * volume.array.size  # fat


def test_lung_is_denser_where_gravity_pulls(ct):
    volume, labels = ct
    rows = np.nonzero(labels.array)[1]
    front, back = np.percentile(rows, (25, 75)).astype(int)
    in_lung = labels.array > 0
    row = np.arange(SMALL[1])[None, :, None]
    assert np.median(volume.array[in_lung & (row > back)]) > np.median(volume.array[in_lung & (row < front)]) + 15


def test_the_stomach_holds_gas_that_is_not_lung_on_the_left(ct):
    volume, labels = ct
    below_lungs = slice(0, 12)
    gas = (volume.array[below_lungs] < -800) & (labels.array[below_lungs] == 0)
    inside = gas[:, 20:50, 25:75]
    lefts = np.nonzero(inside)[2] + 25
    assert inside.sum() > 30
    assert np.mean(lefts > SMALL[2] // 2) > 0.6


def test_the_trachea_is_air_outside_the_labels(ct):
    volume, labels = ct
    slab = slice(34, 40)
    middle = (slab, slice(20, 56), slice(44, 52))
    assert ((volume.array[middle] < -850) & (labels.array[middle] == 0)).sum() >= 10


def test_same_seed_same_patient_other_seed_other_patient(ct):
    again, _ = thorax_ct(SMALL, seed=3)
    other, _ = thorax_ct(SMALL, seed=4)
    assert np.array_equal(ct[0].array, again.array)
    assert not np.array_equal(ct[0].array, other.array)
    assert draw_anatomy(np.random.default_rng(1)) == draw_anatomy(np.random.default_rng(1))


def test_illness_changes_what_it_should():
    healthy, labels = thorax_ct(SMALL, seed=5, noise_hu=0)
    ill, ill_labels = thorax_ct(SMALL, seed=5, noise_hu=0, tumours=3, consolidation=0.5)
    assert np.array_equal(labels.array, ill_labels.array)  # dense lung is lung
    assert (ill.array[labels.array > 0] > -100).sum() > 2 * (healthy.array[labels.array > 0] > -100).sum()
    _, drowned = thorax_ct(SMALL, seed=5, effusion=0.4)
    assert 0.5 * (labels.array > 0).sum() < (drowned.array > 0).sum() < 0.95 * (labels.array > 0).sum()


def test_a_prone_patient_has_the_table_in_front():
    shape = (8, 152, 120)
    cases = ({}, {"prone": True}, {"table": False})
    supine, prone, none = (thorax_ct(shape, seed=2, noise_hu=0, **case)[0].array for case in cases)
    front, back = slice(0, 25), slice(-25, None)
    assert (supine[:, back] > none[:, back] + 100).any()
    assert np.array_equal(supine[:, front], none[:, front])
    assert (prone[:, front] > none[:, front] + 100).any()
    assert np.array_equal(prone[:, back], none[:, back])


def test_given_spacing_is_kept():
    volume, _ = thorax_ct((20, 30, 40), (5.0, 4.0, 3.0), origin=(1.0, 2.0, 3.0))
    assert volume.geometry.spacing == (5.0, 4.0, 3.0)
    assert volume.geometry.origin == (1.0, 2.0, 3.0)


def test_one_slice_can_be_built():
    volume, labels = thorax_ct((1, 96, 96))
    assert volume.geometry.shape == (1, 96, 96)
    assert labels.array.shape == (1, 96, 96)


def test_xray_is_a_frontal_radiograph(xray):
    picture, labels = xray
    assert picture.modality == "xray"
    assert picture.array.shape == labels.array.shape == (1, 128, 144)
    assert picture.geometry.direction == FRONTAL
    assert picture.geometry.axis_letters()[1:] == ("F", "L")
    assert picture.is_frames


def test_xray_shows_lungs_dark_and_the_spine_bright(xray):
    picture, labels = xray
    chest = picture.array[0, 30:90]
    lung = chest[labels.array[0, 30:90] > 0]
    spine = picture.array[0, 30:90, 70:74]
    assert np.median(lung) < 0.7 * np.median(spine)
    assert picture.array[0, :30, :4].mean() < picture.array[0, 60].mean()  # open air is black


def test_xray_labels_are_on_the_viewers_proper_side_and_include_what_the_dome_hides(xray):
    picture, labels = xray
    columns = [np.nonzero(labels.array[0] == label)[1].mean() for label in (1, 2)]
    assert columns[0] < columns[1] - 40
    position = labels.geometry.position((0, 60, columns[0]))
    assert position[2] < labels.geometry.position((0, 60, columns[1]))[2]
    right = labels.array[0] == 1
    lowest = np.nonzero(right.any(axis=1))[0].max()
    hidden = picture.array[0, lowest - 8][right[lowest - 8]]
    open_lung = picture.array[0, 60][right[60]]
    assert np.median(hidden) > 1.3 * np.median(open_lung)


def test_xray_is_beer_lamberts_sum():
    from napari_lungseg.phantom.xray import _line_integral

    water = np.zeros((2, 10, 3), np.float32)
    water[:, 5:] = -1000  # half of the way is air
    assert _line_integral(water, 4.0) == pytest.approx(np.full((2, 3), 5 * 4.0 * 0.0206))


def test_building_is_quick():
    start = time.perf_counter()
    thorax_ct((96, 256, 256))
    assert time.perf_counter() - start < 8  # 1 s on an idle core; the bound leaves room for a busy machine
