"""Splits by patient: none crosses, nothing is lost, the same seed says the same; and the file that keeps them."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_lungseg.errors import TrainingDataError
from napari_lungseg.training.cases import PARTS, Case
from napari_lungseg.training.splits import read_splits, split_by_patient, write_splits

SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=60)


def cases_of(sizes: list[int]) -> tuple[Case, ...]:
    return tuple(
        Case(f"{who}-{number}", f"p{who}", Path(f"{who}-{number}.png"), ())
        for who, size in enumerate(sizes)
        for number in range(size)
    )


@given(SIZES, st.integers(0, 1000))
def test_no_patient_crosses_and_every_case_is_there_once(sizes: list[int], seed: int) -> None:
    cases = cases_of(sizes)
    split = split_by_patient(cases, seed=seed)
    assert [case.name for case in split] == [case.name for case in cases]
    assert {case.split for case in split} <= set(PARTS)
    parts = {(case.patient, case.split) for case in split}
    assert len(parts) == len(sizes)


@given(SIZES, st.integers(0, 1000), st.randoms())
def test_the_split_depends_on_seed_and_patients_alone(sizes: list[int], seed: int, random) -> None:
    cases = list(cases_of(sizes))
    expected = {case.name: case.split for case in split_by_patient(cases, seed=seed)}
    random.shuffle(cases)
    assert {case.name: case.split for case in split_by_patient(cases, seed=seed)} == expected


@given(SIZES, st.integers(0, 100), st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.7, 0.0, 0.3)]))
def test_fractions_are_met_as_nearly_as_the_largest_patient_allows(sizes, seed, fractions) -> None:
    cases = cases_of(sizes)
    found = Counter(case.split for case in split_by_patient(cases, fractions, seed))
    for part, fraction in zip(PARTS, fractions, strict=True):
        assert abs(found[part] - fraction * len(cases)) <= max(sizes)


def test_another_seed_is_another_split() -> None:
    cases = cases_of([1] * 40)
    one, other = (split_by_patient(cases, seed=seed) for seed in (0, 1))
    assert [case.split for case in one] != [case.split for case in other]


@pytest.mark.parametrize("fractions", [(0.8, 0.1, 0.2), (1.2, -0.1, -0.1)])
def test_fractions_that_make_no_whole_are_refused(fractions) -> None:
    with pytest.raises(TrainingDataError, match="add up to 1"):
        split_by_patient(cases_of([1]), fractions)


def test_a_split_file_comes_back_whole(tmp_path: Path) -> None:
    cases = (
        Case(
            "a", "p1", tmp_path / "deep/a.png", (tmp_path / "r.gif", tmp_path / "l.gif"), "val", "CC BY", (1, 2), 1.25
        ),
        Case("b", "p, 2", tmp_path / "b.nii.gz", ()),
    )
    path = write_splits(tmp_path / "new/split.csv", cases)
    found = read_splits(path)
    assert [(c.name, c.patient, c.split, c.licence, c.mask_labels, c.aspect) for c in found] == [
        ("a", "p1", "val", "CC BY", (1, 2), 1.25),
        ("b", "p, 2", "", "", (), None),
    ]
    assert [path.resolve() for path in (found[0].image, *found[0].masks)] == [cases[0].image, *cases[0].masks]
    assert [entry.name for entry in path.parent.iterdir()] == ["split.csv"]


def test_a_split_file_moves_with_its_data(tmp_path: Path) -> None:
    path = write_splits(tmp_path / "one/split.csv", [Case("a", "p", tmp_path / "one/a.png", (), "train")])
    with path.open() as file:
        assert next(csv.DictReader(file))["image"] == "a.png"


def test_equal_stems_are_told_apart_by_their_folder(tmp_path: Path) -> None:
    cases = [Case("a", who, tmp_path / who / "a.png", (), "train") for who in ("x", "y")]
    found = read_splits(write_splits(tmp_path / "split.csv", cases))
    assert [case.name for case in found] == ["x/a", "y/a"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image,mask,patient\na,b,c\n", "no column split"),
        ("image,mask,split,patient\na.png,b.png,training,c\n", "line 2.*'training'.*left out"),
        ("image,mask,split,patient\n,b.png,train,c\n", "line 2"),
        ("image,mask,split,patient,aspect\na.png,b.png,train,c,wide\n", "line 2.*wide"),
        ("\x00", "no column"),
    ],
)
def test_a_damaged_split_file_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "split.csv"
    path.write_text(text)
    with pytest.raises(TrainingDataError, match=says) as caught:
        read_splits(path)
    assert "\n" not in str(caught.value)


def test_a_missing_split_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match=r"nowhere\.csv"):
        read_splits(tmp_path / "nowhere.csv")
