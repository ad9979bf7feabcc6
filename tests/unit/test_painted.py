"""What painted labels say, and what they leave open."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_lungseg.errors import TrainingDataError
from napari_lungseg.training.painted import (
    BACKGROUND,
    Painted,
    Strokes,
    background_label,
    check_painted,
    class_names,
    count_painted,
    lacking_paint,
    merged,
)
from napari_lungseg.training.unknown import IGNORE
from napari_lungseg.volume import Geometry, LabelMap, Volume

GRID = Geometry((4, 5, 6), (3.0, 0.7, 0.9), (-10.0, 20.0, 30.0))


def painted(
    labels: np.ndarray, geometry: Geometry = GRID, names: dict[int, str] | None = None, **more: object
) -> Painted:
    volume = Volume(np.zeros(geometry.shape, np.int16), geometry)
    return Painted(volume, LabelMap(labels.astype(np.uint8), geometry, names=names or {}), **more)


def empty() -> np.ndarray:
    return np.zeros(GRID.shape, np.uint8)


def test_unpainted_is_unknown_and_painted_background_is_0() -> None:
    labels = empty()
    labels[1, 2, 3], labels[1, 2, 4] = 2, BACKGROUND
    known = painted(labels).known()
    assert known[1, 2, 3] == 2
    assert known[1, 2, 4] == 0
    assert (known == IGNORE).sum() == known.size - 2


def test_a_correction_counts_where_it_differs() -> None:
    untouched = empty()
    untouched[2, :3] = 1
    labels = untouched.copy()
    labels[2, 0, 0] = 0  # erased
    labels[2, 4, 4] = 2  # added
    known = painted(labels, edited_from=untouched).known()
    assert known[2, 0, 0] == 0
    assert known[2, 4, 4] == 2
    assert known[2, 1, 1] == IGNORE  # as the segmentation said
    assert known[0, 0, 0] == IGNORE  # a 0 elsewhere
    assert (known != IGNORE).sum() == 2


def test_background_painted_where_the_segmentation_had_none_counts() -> None:
    untouched = empty()
    untouched[0, 0, 0] = BACKGROUND  # cannot be of a class, whatever it came from
    labels = untouched.copy()
    labels[1, 1, 1] = BACKGROUND
    known = painted(labels, edited_from=untouched).known()
    assert known[1, 1, 1] == 0
    assert known[0, 0, 0] == 0


def test_the_rest_of_a_complete_slice_is_background() -> None:
    labels = empty()
    labels[1, 0, 0] = labels[2, 0, 0] = 3
    known = painted(labels, complete=frozenset({2})).known()
    assert known[2, 0, 0] == 3
    assert (known[2] == 0).sum() == known[2].size - 1
    assert (known[1] == IGNORE).sum() == known[1].size - 1


def test_a_complete_slice_of_a_correction_is_taken_as_it_stands() -> None:
    untouched = empty()
    untouched[1, :2] = 1
    known = painted(untouched.copy(), edited_from=untouched, complete=frozenset({1})).known()
    assert np.array_equal(known[1], untouched[1])
    assert (known[[0, 2, 3]] == IGNORE).all()


@settings(max_examples=50, deadline=None)
@given(
    labels=arrays(np.uint8, GRID.shape, elements=st.sampled_from([0, 1, 2, 7, BACKGROUND])),
    untouched=st.none() | arrays(np.uint8, GRID.shape, elements=st.sampled_from([0, 1, 2])),
    complete=st.sets(st.integers(0, 3)),
)
def test_nothing_unpainted_is_ever_known(labels, untouched, complete) -> None:
    item = painted(labels, edited_from=untouched, complete=frozenset(complete))
    known = item.known()
    differs = labels != (0 if untouched is None else untouched)
    incomplete = [z for z in range(4) if z not in complete]
    assert not ((known != IGNORE) & ~differs & (labels != BACKGROUND))[incomplete].any()
    assert (known[sorted(complete)] != IGNORE).all()
    assert BACKGROUND not in known
    wanted = {z for z in range(4) if (known[z] != IGNORE).any()}
    assert set(item.painted_slices()) == wanted


def test_the_standard_view_turns_everything_alike() -> None:
    turned = Geometry((6, 5, 4), (0.9, 0.7, 3.0), (0.0, 0.0, 0.0), ((0, 0, -1), (0, 1, 0), (1, 0, 0)))
    labels = np.zeros(turned.shape, np.uint8)
    labels[4, 1, 0] = 5
    untouched = np.zeros(turned.shape, np.uint8)
    untouched[3, 2, 1] = 1
    item = painted(labels, turned, edited_from=untouched).standard()
    assert item.labels.array.shape == item.volume.array.shape == item.edited_from.shape == (4, 5, 6)
    (where,) = np.argwhere(item.known() == 5)
    assert np.allclose(item.volume.geometry.position(where), turned.position((4, 1, 0)))
    (erased,) = np.argwhere(item.known() == 0)
    assert np.allclose(item.volume.geometry.position(erased), turned.position((3, 2, 1)))


def test_strokes_replace_slices_and_leave_the_first_labels_alone() -> None:
    first = painted(empty(), names={1: "a"})
    new = np.zeros((1, 5, 6), np.uint8)
    new[0, 0, 0] = 1
    later = first.with_strokes(Strokes(0, (3,), new, frozenset({3}), {1: "a", 2: "b"}))
    assert later.labels.array[3, 0, 0] == 1
    assert not first.labels.array.any()
    assert later.complete == {3}
    assert later.labels.names == {1: "a", 2: "b"}


def test_classes_have_one_name_in_all_images() -> None:
    one, other = empty(), empty()
    one[0, 0, 0], other[0, 0, 0] = 1, 4
    assert class_names([painted(one, names={1: "lobe"}), painted(other)]) == {1: "lobe", 4: "class 4"}
    with pytest.raises(TrainingDataError, match="Label 1 is 'lobe' in one layer and 'nodule' in another"):
        class_names([painted(one, names={1: "lobe"}), painted(one, names={1: "nodule"})])


def test_classes_painted_too_little_are_named_with_what_they_have() -> None:
    labels = empty()
    labels[0, 0, :3] = labels[1, 0, :2] = 1
    labels[2] = 2
    labels[3] = 2
    item = painted(labels, names={1: "nodule", 2: "lung", 3: "fluid"})
    assert count_painted([item]) == {0: (0, 0), 1: (5, 2), 2: (60, 2), 3: (0, 0)}
    told = [finding.message for finding in lacking_paint([item])]
    assert len(told) == 3
    assert told[0].startswith(f"background (label {BACKGROUND}) has nothing painted")
    assert told[1].startswith("nodule (label 1) has 5 pixels in 2 slices painted")
    assert told[2].startswith("fluid (label 3) has nothing painted")


def test_the_background_label_is_one_that_no_class_bears() -> None:
    assert background_label({1, 2}) == BACKGROUND
    assert background_label({BACKGROUND, BACKGROUND + 1}) == BACKGROUND + 2


def test_what_cannot_be_learned_is_told() -> None:
    with pytest.raises(TrainingDataError, match="Nothing is painted yet"):
        check_painted([painted(empty())], from_scratch=False)
    labels = empty()
    labels[0] = 1
    with pytest.raises(TrainingDataError, match=f"nothing of background \\(label {BACKGROUND}\\) is painted"):
        check_painted([painted(labels)], from_scratch=True)
    check_painted([painted(labels)], from_scratch=False)
    labels[1] = BACKGROUND
    check_painted([painted(labels)], from_scratch=True)
    other = painted(labels)
    volume = dataclasses.replace(other.volume, modality="xray", unit="a.u.")
    xray = dataclasses.replace(other, volume=volume)
    with pytest.raises(TrainingDataError, match="Train one model for each"):
        check_painted([other, xray], from_scratch=False)


def test_layers_that_do_not_fit_are_refused() -> None:
    wide = Geometry((4, 5, 7), (1, 1, 1), (0, 0, 0))
    volume = Volume(np.zeros(wide.shape, np.int16), wide)
    with pytest.raises(TrainingDataError, match=r"shape \(4, 5, 6\), but the image \(4, 5, 7\)"):
        Painted(volume, LabelMap(empty(), GRID))
    labels = LabelMap(np.full(GRID.shape, 300, np.uint16), GRID)
    volume = Volume(np.zeros(GRID.shape, np.int16), GRID)
    with pytest.raises(TrainingDataError, match="label 300 is too large"):
        Painted(volume, labels)


def test_layers_of_one_image_count_as_one() -> None:
    """Strokes beside a correction; each slice of an anisotropic grid says something else."""
    shape = (4, 3, 5)
    geometry = Geometry(shape, (3.0, 0.7, 0.9))
    volume = Volume(np.zeros(shape, np.int16), geometry)
    strokes, result = np.zeros(shape, np.uint8), np.full(shape, 2, np.uint8)
    strokes[0, 0], strokes[1, 0] = 1, BACKGROUND
    corrected = result.copy()
    corrected[0, 0, 0], corrected[2, 1], corrected[3, 2] = 3, 0, 0
    both = merged(
        [
            Painted(volume, LabelMap(strokes, geometry, names={1: "heart"})),
            Painted(volume, LabelMap(corrected, geometry, names={2: "lung", 3: "rib"}), 101, result, frozenset({3})),
        ]
    )
    known = both.known()
    assert both.background == BACKGROUND and dict(both.labels.names) == {1: "heart", 2: "lung", 3: "rib"}
    assert known[0, 0].tolist() == [3, 1, 1, 1, 1] and (known[0, 1:] == IGNORE).all(), "the last one counts"
    assert (known[1, 0] == 0).all() and (known[2, 1] == 0).all() and (known[2, 0] == IGNORE).all()
    assert (known[3, :2] == 2).all() and (known[3, 2] == 0).all(), "a complete slice of a correction is known all over"
