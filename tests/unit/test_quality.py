"""Quality findings on hand-made results, each wrong in one way."""

import dataclasses

import numpy as np
import pytest

from napari_lungseg.models.spec import ModelSpec
from napari_lungseg.segmentation.evidence import VIEWS, Evidence
from napari_lungseg.segmentation.lung_statistics import statistics
from napari_lungseg.segmentation.quality import DOUBTS, EXPECTED_DICE, check
from napari_lungseg.volume import FRONTAL, LUNG_NAMES, Geometry, Volume

SHAPE = (20, 40, 60)
CT = ModelSpec("ct", "unet", names=LUNG_NAMES)
XRAY = ModelSpec("xray", "unet", modality="xray", unit="a.u.", names=LUNG_NAMES)
RIGHT = (slice(2, 18), slice(8, 32), slice(6, 26))
LEFT = (slice(2, 18), slice(8, 32), slice(34, 54))


def two_lungs():
    labels = np.zeros(SHAPE, np.uint8)
    labels[RIGHT], labels[LEFT] = 1, 2
    return labels


def ct_of(labels, *, lung_hu=-850, air_hu=-1000):
    array = np.full(labels.shape, 40, np.int16)
    array[:, :3] = air_hu
    array[labels > 0] = lung_hu
    return Volume(array, Geometry(labels.shape, (12.0, 4.0, 5.0), (-700, -20, -200)))


def xray_of(labels):
    geometry = Geometry(labels.shape, (1.0, 5.0, 5.0), direction=FRONTAL, frames=True)
    return Volume(labels.astype(np.float32), geometry, "xray", "a.u.")


def evidence_of(labels, certainty=0.9999):
    """What a soft-max with this probability wherever its class wins leaves behind."""
    wins = np.stack([(labels == label).sum(axis=(1, 2)) for label in range(3)], axis=1).astype(np.float32)
    elsewhere = wins.sum(1, keepdims=True) - wins
    chance = wins * certainty + elsewhere * (1 - certainty) / 2
    return Evidence(np.stack([wins * certainty, chance, wins], axis=-1), wins.astype(int), agreeing(labels, 1.0))


def agreeing(labels, share):
    """Every view gives this share of the labelled pixels the same label."""
    size = np.array([np.count_nonzero(plane) for plane in labels], np.float32)
    return np.stack([np.stack([2 * size * share, 2 * size], -1)] * len(VIEWS), 1)


def codes(labels, view, spec=CT, certainty=0.9999):
    measured = statistics(labels, view, evidence_of(labels, certainty), spec)
    return [finding.code for finding in check(measured, view, spec)]


def test_a_good_result_raises_nothing():
    assert codes(two_lungs(), ct_of(two_lungs())) == []


def test_statistics_are_in_millilitres_and_expected_dice_is_the_soft_dice():
    labels = two_lungs()
    labels[2:10, 8:32, 34:54] = 0
    (values,) = statistics(labels, ct_of(labels), evidence_of(labels, 1.0), CT)
    assert values.right == pytest.approx(16 * 24 * 20 * 12 * 4 * 5 / 1000)
    assert values.balance == pytest.approx(0.5)
    assert values.expected_dice == pytest.approx(1.0)
    (values,) = statistics(labels, ct_of(labels), evidence_of(labels, 0.8), CT)
    size, total = 16 * 24 * 20, labels.size
    assert values.expected_dice_right == pytest.approx(2 * 0.8 * size / (0.8 * size + 0.1 * (total - size) + size))
    assert set(values.as_record()) >= {"expected_dice", "balance", "lung_hu"}


def test_an_unsure_network_is_told_by_the_models_own_threshold():
    labels = two_lungs()
    assert codes(labels, ct_of(labels), certainty=0.8) == ["low-confidence"]
    (values,) = statistics(labels, ct_of(labels), evidence_of(labels, 0.8), CT)
    assert values.expected_dice < EXPECTED_DICE
    lenient = dataclasses.replace(CT, training={"quality": {"expected_dice": values.expected_dice - 0.01}})
    assert codes(labels, ct_of(labels), lenient, certainty=0.8) == []


def test_no_lung():
    labels = np.zeros(SHAPE, np.uint8)
    assert codes(labels, ct_of(labels)) == ["no-lung-found"]


@pytest.mark.parametrize(("gone", "word"), [(1, "right one is missing"), (2, "left one is missing")])
def test_one_lung_missing(gone, word):
    labels = two_lungs()
    labels[labels == gone] = 0
    measured = statistics(labels, ct_of(labels), evidence_of(labels), CT)
    (finding,) = check(measured, ct_of(labels), CT)
    assert finding.code == "one-lung-missing"
    assert word in finding.message


def test_unequal_lungs():
    labels = two_lungs()
    labels[5:, 8:32, 34:54] = 0
    assert codes(labels, ct_of(labels)) == ["lungs-unequal"]


def test_an_unusual_volume_unless_the_lung_is_cut_off():
    labels = np.zeros(SHAPE, np.uint8)
    labels[9:12, 20:24, 20:24], labels[9:12, 20:24, 34:38] = 1, 2
    assert codes(labels, ct_of(labels)) == ["lung-size-unusual"]
    cut = np.zeros(SHAPE, np.uint8)
    cut[:3, 20:24, 20:24], cut[:3, 20:24, 34:38] = 1, 2
    assert codes(cut, ct_of(cut)) == ["lung-cut-off"]


def test_a_lung_at_the_edge_of_a_radiograph_is_told_but_not_doubted():
    labels = two_lungs()[4:5]
    labels[0, 8:32, 54:60] = 2
    assert codes(labels, xray_of(labels), XRAY) == ["lung-cut-off"]
    assert "lung-cut-off" not in DOUBTS


def test_a_ragged_outline():
    labels = two_lungs()
    labels[:, 8:32:2, 34:50] = 0
    assert codes(labels, ct_of(labels)) == ["ragged-outline"]


def test_values_that_no_lung_has():
    labels = two_lungs()
    assert codes(labels, ct_of(labels, lung_hu=30)) == ["lung-not-air"]
    assert codes(labels, ct_of(labels, lung_hu=-1000)) == ["lung-not-air"]
    assert codes(labels, ct_of(labels, lung_hu=-700, air_hu=-700)) == ["hounsfield-offset"]


def test_each_radiograph_is_judged_alone_and_named():
    labels = two_lungs()[4:7].copy()
    labels[1][labels[1] == 2] = 0
    labels[2] = 0
    measured = statistics(labels, xray_of(labels), evidence_of(labels), XRAY)
    missing, nothing = check(measured, xray_of(labels), XRAY)
    assert (missing.code, nothing.code) == ("one-lung-missing", "no-lung-found")
    assert "image 2" in missing.message
    assert "image 3" in nothing.message


def test_a_single_slice_may_hold_one_lung_of_any_size():
    labels = two_lungs()[4:5]
    labels[0, 8:32, 34:54] = 0
    labels[0, 20:22, 34:36] = 2
    assert codes(labels, ct_of(labels)) == []


def test_other_models_are_asked_for_their_confidence_only():
    spec = dataclasses.replace(CT, names={1: "nodule", 2: "vessel"})
    labels = two_lungs()
    labels[labels == 2] = 0
    labels[:, ::2] = 0
    assert codes(labels, ct_of(labels), spec) == []
    assert codes(labels, ct_of(labels), spec, certainty=0.6) == ["low-confidence"]


def test_what_the_views_agree_on_and_what_tidying_up_changed():
    labels = two_lungs()
    evidence = evidence_of(labels)
    evidence.agreement[:] = agreeing(labels, 0.8)
    evidence.agreement[3:] = np.nan
    evidence.pixels[:, 1] += 10
    (values,) = statistics(labels, ct_of(labels), evidence, CT)
    assert values.as_record()["turned"] == values.as_record()["mirrored"] == pytest.approx(0.8)
    assert values.changed == pytest.approx(10 * 20 / (10 * 20 + 2 * (labels > 0).sum()), rel=1e-4)
    evidence.agreement[:] = np.nan
    (values,) = statistics(labels, ct_of(labels), evidence, CT)
    assert "mirrored" not in values.as_record()


def test_hollow_and_uneven_lungs():
    labels = two_lungs()
    (whole,) = statistics(labels, ct_of(labels), evidence_of(labels), CT)
    assert whole.hollow == pytest.approx(0) and whole.uneven == 0
    labels[:, 14:26, 12:26] = 0
    (bitten,) = statistics(labels, ct_of(labels), evidence_of(labels), CT)
    assert bitten.hollow == pytest.approx(12 * 14 / (24 * 20))
    labels = two_lungs()
    labels[:, 26:32, 6:26] = 0
    (shorter,) = statistics(labels, ct_of(labels), evidence_of(labels), CT)
    assert shorter.uneven == pytest.approx(6 / (24 + 18))


@pytest.mark.parametrize(
    ("spacing", "told"), [((12.0, 4.0, 5.0), False), ((1.0, 4.0, 5.0), True), ((12.0, 4.0, 50.0), True)]
)
def test_lungs_of_a_size_that_no_chest_has_speak_of_the_spacing(spacing, told):
    labels = two_lungs()
    view = ct_of(labels)
    view = dataclasses.replace(view, geometry=Geometry(labels.shape, spacing))
    (values,) = statistics(labels, view, evidence_of(labels), CT)
    assert (values.width_mm, values.height_mm) == pytest.approx((48 * spacing[2], 16 * spacing[0]))
    assert ("spacing-suspicious" in codes(labels, view)) == told


def test_a_radiograph_is_as_high_as_its_rows_and_one_ct_slice_has_no_height():
    labels = two_lungs()[4:5]
    (values,) = statistics(labels, xray_of(labels), evidence_of(labels), XRAY)
    assert (values.width_mm, values.height_mm) == (48 * 5, 24 * 5)
    (values,) = statistics(labels, ct_of(labels), evidence_of(labels), CT)
    assert np.isnan(values.height_mm)
