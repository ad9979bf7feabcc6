"""Every layout of data sets keeps the same promises, on a small folder made for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_datasets import MAKERS, Made

from napari_lungseg.errors import TrainingDataError
from napari_lungseg.progress import drain
from napari_lungseg.training.checking import check_dataset
from napari_lungseg.training.datasets import LAYOUTS, DataSet, find_dataset

LABELLED = [name for name in LAYOUTS if name != "unlabelled"]


def found(name: str, folder: Path) -> tuple[DataSet, Made]:
    made = MAKERS[name](folder)
    return find_dataset(folder), made


def test_every_layout_has_a_folder_to_be_tested_on() -> None:
    assert set(MAKERS) == set(LAYOUTS)


@pytest.mark.parametrize("name", LABELLED)
def test_a_layout_is_recognised_among_all(name: str, tmp_path: Path) -> None:
    dataset, made = found(name, tmp_path)
    assert dataset.layout == name
    assert {case.name for case in dataset.cases} == {*made.truth, made.wrong}


@pytest.mark.parametrize("name", LABELLED)
def test_labels_are_the_true_ones_on_the_grid_of_the_image(name: str, tmp_path: Path) -> None:
    dataset, made = found(name, tmp_path)
    for case in dataset.cases:
        if case.name == made.wrong:
            continue
        volume, labels = dataset.read(case)
        assert labels is not None
        assert (volume.modality, volume.unit) == (dataset.modality, dataset.unit)
        assert isinstance(volume.array, np.ndarray)
        assert volume.array.shape[:3] == labels.shape == volume.geometry.shape
        assert labels.dtype == np.uint8
        assert labels.flags.c_contiguous
        assert set(np.unique(labels)) == {0, *dataset.names}
        np.testing.assert_array_equal(labels, made.truth[case.name])


@pytest.mark.parametrize("name", LABELLED)
def test_what_has_no_partner_is_told_by_name(name: str, tmp_path: Path) -> None:
    dataset, made = found(name, tmp_path)
    told = " ".join(map(str, dataset.problems))
    assert made.orphans
    for orphan in made.orphans:
        assert orphan in told


@pytest.mark.parametrize("name", LABELLED)
def test_a_mask_of_another_size_is_left_out_by_name(name: str, tmp_path: Path) -> None:
    dataset, made = found(name, tmp_path)
    checked = drain(check_dataset(dataset))
    assert {case.name for case in checked.dataset.cases} == set(made.truth)
    (unusable,) = [finding for finding in checked.findings if finding.code == "unusable"]
    assert made.wrong in unusable.message
    assert "size" in unusable.message
    assert len(checked.facts) == len(dataset.cases)


@pytest.mark.parametrize("name", LABELLED)
def test_the_layout_knows_its_patients(name: str, tmp_path: Path) -> None:
    dataset, made = found(name, tmp_path)
    for case in dataset.cases:
        if case.name in made.patients:
            assert case.patient == made.patients[case.name]


@pytest.mark.parametrize("name", LAYOUTS)
def test_another_folder_is_refused_in_one_sentence_that_says_what_is_expected(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(TrainingDataError) as caught:
        find_dataset(tmp_path, layout=name)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")
