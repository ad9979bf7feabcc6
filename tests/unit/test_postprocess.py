"""Post-processing on small hand-made stacks, anisotropic and off-centre, so that swapped axes show."""

import dataclasses

import numpy as np
import pytest

from napari_lungseg.segmentation.postprocess import postprocess
from napari_lungseg.volume import FRONTAL, Geometry

SHAPE = (20, 40, 60)
AXIAL = Geometry(SHAPE, (3.0, 0.8, 1.1), (-700.0, -20.0, -200.0))
RIGHT = (slice(2, 18), slice(8, 32), slice(6, 26))
LEFT = (slice(2, 18), slice(8, 32), slice(34, 54))


def two_lungs():
    labels = np.zeros(SHAPE, np.uint8)
    labels[RIGHT], labels[LEFT] = 1, 2
    return labels


def run(labels, geometry=AXIAL, *, frames=False, **options):
    result, findings = postprocess(labels.copy(), geometry, frames=frames, **options)
    return result, [finding.code for finding in findings]


def test_clean_labels_stay_as_they_are():
    result, codes = run(two_lungs())
    assert np.array_equal(result, two_lungs())
    assert codes == []


def test_empty_labels_stay_empty():
    result, codes = run(np.zeros(SHAPE, np.uint8))
    assert not result.any()
    assert codes == []


def test_a_fragment_inside_the_other_lung_joins_it():
    labels = two_lungs()
    labels[5:8, 12:16, 40:44] = 1
    assert np.array_equal(run(labels)[0], two_lungs())


def test_a_fragment_on_the_surface_of_the_other_lung_joins_it():
    labels = two_lungs()
    labels[5:8, 12:16, 54:57] = 1
    result, _ = run(labels)
    assert (result[5:8, 12:16, 54:57] == 2).all()


def test_a_piece_that_touches_nothing_is_removed():
    labels = two_lungs()
    labels[5:8, 35:38, 28:31] = 2
    assert np.array_equal(run(labels)[0], two_lungs())


def test_a_piece_stays_when_nothing_is_to_be_removed():
    labels = two_lungs()
    labels[5:8, 35:38, 40:44] = 2
    assert np.array_equal(run(labels, keep_largest=False)[0], labels)


def test_a_second_large_piece_of_a_lung_stays():
    labels = two_lungs()
    labels[9:11, 8:32, 34:54] = 0  # a band of consolidation
    assert np.array_equal(run(labels)[0], labels)


def test_holes_are_filled_and_notches_are_not():
    labels = two_lungs()
    labels[6:9, 15:20, 10:15] = 0
    labels[6:9, 15:20, 24:26] = 0
    result, _ = run(labels)
    assert (result[6:9, 15:20, 10:15] == 1).all()
    assert not result[6:9, 15:20, 24:26].any()
    assert np.array_equal(run(labels, fill_holes=False)[0], labels)


def test_an_island_in_a_hole_is_filled_with_the_hole():
    labels = two_lungs()
    labels[5:12, 12:22, 10:20] = 0
    labels[7:9, 15:18, 13:16] = 2
    assert np.array_equal(run(labels)[0], two_lungs())


def test_a_tunnel_through_a_stack_is_a_hole_only_in_frames():
    labels = two_lungs()
    labels[:, 15:20, 10:15] = 0
    assert np.array_equal(run(labels)[0], labels)
    frontal = dataclasses.replace(AXIAL, direction=FRONTAL, frames=True)
    assert np.array_equal(run(labels, frontal, frames=True)[0], two_lungs())


def test_a_hole_in_a_single_slice_is_filled():
    labels = two_lungs()[4:5]
    labels[0, 15:20, 10:15] = 0
    result, _ = run(labels, dataclasses.replace(AXIAL, shape=(1, *SHAPE[1:])))
    assert np.array_equal(result, two_lungs()[4:5])


def test_frames_are_cleaned_one_by_one():
    labels = two_lungs()
    labels[4:16, 34:38, 28:32] = 1  # connected through the frames, small in each
    frontal = dataclasses.replace(AXIAL, direction=FRONTAL, frames=True)
    result, _ = run(labels, frontal, frames=True)
    assert np.array_equal(result, two_lungs())


def test_swapped_sides_are_put_right_with_a_finding():
    swapped = two_lungs()
    swapped[RIGHT], swapped[LEFT] = 2, 1
    result, codes = run(swapped)
    assert np.array_equal(result, two_lungs())
    assert codes == ["sides-swapped"]


def test_two_lungs_under_one_name_are_told_apart():
    merged = np.minimum(two_lungs(), 1)
    result, codes = run(merged)
    assert np.array_equal(result, two_lungs())
    assert codes == ["sides-by-position"]


@pytest.mark.parametrize(("lung", "label"), [(RIGHT, 1), (LEFT, 2)])
def test_one_lung_alone_survives(lung, label):
    labels = np.zeros(SHAPE, np.uint8)
    labels[lung] = label
    result, codes = run(labels)
    assert np.array_equal(result, labels)
    assert codes == []


def test_an_oversized_lone_lung_that_crosses_the_middle_keeps_its_name():
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:18, 8:32, 12:54] = 2
    labels[9:11, 8:32, 12:54] = 0
    result, codes = run(labels)
    assert np.array_equal(result, labels)
    assert codes == []


def test_the_islands_of_a_lungs_base_survive_in_a_single_slice():
    labels = two_lungs()[4:5]
    labels[0, 8:32, 42:44] = 0
    labels[0, 8:11, 8:10] = 1
    labels[0, :, 50:54] = 0
    labels[0, 33:36, 40:46] = 2
    geometry = dataclasses.replace(AXIAL, shape=(1, *SHAPE[1:]))
    assert np.array_equal(run(labels, geometry)[0], labels)


def test_a_sagittal_slice_keeps_its_one_label():
    # Columns run to the back, slices to the left: the sides cannot be seen in the columns.
    sagittal = Geometry((1, 40, 60), (3.0, 0.8, 1.1), (0, 0, 30), ((0, -1, 0), (0, 0, 1), (1, 0, 0)))
    labels = np.zeros((1, 40, 60), np.uint8)
    labels[0, 8:20, 6:26] = labels[0, 8:20, 34:54] = 2
    result, codes = run(labels, sagittal)
    assert np.array_equal(result, labels)
    assert codes == []


def test_gas_is_told_from_lung_by_the_image():
    labels = two_lungs()
    labels[2:8, 33:39, 34:54] = 2
    labels[2:8, 32:33] = 0
    hu = np.full(SHAPE, 40, np.int16)
    hu[labels > 0] = -850
    hu[2:8, 33:39, 34:54] = -1000
    assert np.array_equal(run(labels)[0], labels)  # large enough to be a piece of the lung
    expected = labels.copy()
    expected[2:8, 33:39, 34:54] = 0
    assert np.array_equal(run(labels, image=hu)[0], expected)


def test_removing_much_is_told():
    labels = two_lungs()
    labels[:, 34:40, 24:34] = 1
    labels[:, 33:34] = 0
    labels[10, :, :] = np.where(labels[10] == 1, 0, labels[10])
    _, codes = run(labels, keep_largest=True)
    assert codes == []
    speckles = two_lungs()
    speckles[::2, 33:, ::2] = 1
    assert run(speckles)[1] == ["much-removed"]


@pytest.mark.parametrize(("count", "told"), [(7, []), (8, ["many-fragments"])])
def test_many_fragments_are_told_and_few_or_tiny_ones_are_not(count, told):
    labels = two_lungs()
    for number in range(count):
        labels[4 * number % 16 : 4 * number % 16 + 3, 34:39, 4 + 14 * (number // 4) : 14 + 14 * (number // 4)] = 1
    labels[1, 1, ::2] = 2
    assert labels.shape == SHAPE
    findings = postprocess(labels.copy(), AXIAL, frames=False, keep_largest=False)[1]
    assert [finding.code for finding in findings if finding.code == "many-fragments"] == told
    other = postprocess(labels.copy(), AXIAL, frames=False, names={1: "nodule", 2: "vessel"})[1]
    assert "many-fragments" not in [finding.code for finding in other]


def test_labels_that_are_not_lungs_keep_their_sides():
    names = {1: "lesion", 3: "nodule"}
    labels = np.zeros(SHAPE, np.uint8)
    labels[LEFT] = 1
    labels[RIGHT] = 3
    labels[8, 20, 12] = 1
    labels[8, 20, 40] = 0
    result, codes = run(labels, names=names)
    expected = np.zeros(SHAPE, np.uint8)
    expected[LEFT], expected[RIGHT] = 1, 3
    assert np.array_equal(result, expected)
    assert codes == []


def test_a_writable_array_is_changed_in_place_and_another_is_not():
    labels = two_lungs()
    labels[8, 20, 12] = 0
    result, _ = postprocess(labels, AXIAL, frames=False)
    assert np.shares_memory(result, labels)
    frozen = two_lungs()
    frozen[8, 20, 12] = 0
    frozen.flags.writeable = False
    result, _ = postprocess(frozen, AXIAL, frames=False)
    assert result[8, 20, 12] == 1
    assert frozen[8, 20, 12] == 0
