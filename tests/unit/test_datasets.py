"""Data sets: what is judged from their files, how their masks are read, and what the real ones hold."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from dicom_phantom import ct_series, places
from made_datasets import (
    SIZE,
    binary,
    film,
    make_finding_lungs,
    make_folders,
    make_images_tr,
    make_montgomery,
    make_split_csv,
    save,
    scan,
    turned_over,
)

from napari_lungseg.errors import ReadError, TrainingDataError, UnknownNameError
from napari_lungseg.io import write
from napari_lungseg.training.datasets import DataSet, find_dataset
from napari_lungseg.training.splits import write_splits
from napari_lungseg.volume import LUNG_NAMES, Geometry, Volume


def codes(dataset: DataSet) -> list[str]:
    return [problem.code for problem in dataset.problems]


def pairs(folder: Path, masks: dict[str, np.ndarray]) -> Path:
    for number, (name, mask) in enumerate(masks.items()):
        save(folder / f"images/{name}.png", film(number)[0])
        save(folder / f"masks/{name}.png", mask)
    return folder


def test_a_folder_like_none_is_told_what_was_found_and_what_is_expected(tmp_path: Path) -> None:
    save(tmp_path / "photos/a.png", film(0)[0])
    with pytest.raises(TrainingDataError) as caught:
        find_dataset(tmp_path)
    message = str(caught.value)
    assert "photos/" in message
    for expected in ("split.csv", "ManualMask", "imagesTr", "ISIC_", "2d_masks", "images and masks"):
        assert expected in message


def test_images_without_masks_are_taken_only_when_asked_for(tmp_path: Path) -> None:
    save(tmp_path / "deep/a.png", film(0)[0])
    dataset = find_dataset(tmp_path, layout="unlabelled")
    (case,) = dataset.cases
    assert case.masks == ()
    assert dict(dataset.names) == {}
    volume, labels = dataset.read(case)
    assert labels is None
    assert volume.array.shape == (1, *SIZE)


@pytest.mark.parametrize("path", ["nowhere", "nowhere/split.csv"])
def test_a_path_that_is_not_there_is_told(tmp_path: Path, path: str) -> None:
    with pytest.raises(TrainingDataError, match="no data set"):
        find_dataset(tmp_path / path)


def test_a_layout_that_is_not_known_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="montgomery"):
        find_dataset(tmp_path, layout="montgomry")


def test_a_damaged_split_file_is_not_passed_over_for_another_layout(tmp_path: Path) -> None:
    make_folders(tmp_path)
    (tmp_path / "split.csv").write_text("image;mask;split\n")
    with pytest.raises(TrainingDataError, match=r"split\.csv has no column"):
        find_dataset(tmp_path)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"a": (1, 2), "b": (1, 2)}, LUNG_NAMES),
        ({"a": (255, 255), "b": (255, 255)}, {1: "lungs"}),
        ({"a": (1, 1), "b": (1, 1)}, {1: "lungs"}),
        ({"a": (1, 2), "b": (3, 3)}, {1: "label 1", 2: "label 2", 3: "label 3"}),
    ],
)
def test_sides_are_named_only_where_there_are_two_labels(tmp_path: Path, values, names) -> None:
    labels = film(0)[1]
    masks = {
        name: np.where(labels == 1, one, np.where(labels == 2, two, 0)).astype(np.uint8)
        for name, (one, two) in values.items()
    }
    dataset = find_dataset(pairs(tmp_path, masks))
    assert dict(dataset.names) == names


def test_names_in_dataset_json_are_believed(tmp_path: Path) -> None:
    make_images_tr(tmp_path)
    (tmp_path / "dataset.json").write_text('{"labels": {"0": "background", "1": "dexter", "2": "sinister"}}')
    assert dict(find_dataset(tmp_path).names) == {1: "dexter", 2: "sinister"}
    (tmp_path / "dataset.json").write_text("[]")
    with pytest.raises(TrainingDataError, match=r"dataset\.json"):
        find_dataset(tmp_path)


def test_a_further_channel_is_no_case(tmp_path: Path) -> None:
    make_images_tr(tmp_path)
    shutil.copy(tmp_path / "imagesTr/case_0_0000.nii.gz", tmp_path / "imagesTr/case_0_0001.nii.gz")
    dataset = find_dataset(tmp_path)
    assert "other-channel" in codes(dataset)
    assert [case.name for case in dataset.cases] == ["case_0", "case_1", "case_2"]


def test_sides_named_after_the_picture_are_put_right(tmp_path: Path) -> None:
    made = make_montgomery(tmp_path)
    masks = tmp_path / "MontgomerySet/ManualMask"
    for old, new in (("leftMask", "kept"), ("rightMask", "leftMask"), ("kept", "rightMask")):
        (masks / old).rename(masks / new)
    dataset = find_dataset(tmp_path)
    case = next(case for case in dataset.cases if case.name == "MCUCXR_0001_0")
    _, labels, noticed = dataset.examine(case)
    np.testing.assert_array_equal(labels, made.truth[case.name])
    assert [finding.code for finding in noticed] == ["sides-exchanged"]


def test_aspect_becomes_the_shape_of_the_pixels(tmp_path: Path) -> None:
    make_split_csv(tmp_path)
    dataset = find_dataset(tmp_path)
    volume, _ = dataset.read(dataset.cases[0])
    _, y, x = volume.geometry.spacing
    rows, columns = SIZE
    assert (columns * x) / (rows * y) == pytest.approx(1.5)
    assert not volume.geometry.is_mm
    assert any(finding.code == "aspect-restored" for finding in volume.findings)


def test_a_stored_offset_is_taken_off_in_every_slice(tmp_path: Path) -> None:
    make_finding_lungs(tmp_path)
    dataset = find_dataset(tmp_path)
    assert (dataset.unit, dataset.offset) == ("HU", -1024)
    assert "offset-applied" in codes(dataset)
    truth = scan((12, 64, 76), 2)[0].array
    for case, level in zip(dataset.cases[:3], (4, 5, 6), strict=True):
        np.testing.assert_array_equal(dataset.read(case)[0].array[0], truth[level])


def test_volumes_come_in_the_standard_view_however_they_are_stored(tmp_path: Path) -> None:
    volume, labels = scan((5, 40, 52), 1)
    turned = turned_over(labels)
    stored = dataclasses.replace(volume, array=volume.array[::-1, :, ::-1].copy(), geometry=turned.geometry)
    write(stored, tmp_path / "imagesTr/a_0000.nii.gz")
    write(labels, tmp_path / "labelsTr/a.nii.gz")
    dataset = find_dataset(tmp_path)
    found, marks = dataset.read(dataset.cases[0])
    np.testing.assert_array_equal(found.array, volume.array)
    np.testing.assert_array_equal(marks, labels.array)


def test_a_mask_that_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    volume, labels = scan((5, 40, 52), 1)
    head, back, left = labels.geometry.origin
    moved = dataclasses.replace(labels, geometry=dataclasses.replace(labels.geometry, origin=(head, back + 2, left)))
    write(volume, tmp_path / "imagesTr/a_0000.nii.gz")
    write(moved, tmp_path / "labelsTr/a.nii.gz")
    dataset = find_dataset(tmp_path)
    with pytest.raises(TrainingDataError, match="another grid"):
        dataset.read(dataset.cases[0])


def test_raw_jsrt_is_big_endian_and_inverted(tmp_path: Path) -> None:
    stored = np.full((2048, 2048), 4095, ">u2")
    stored[100, 200:210] = 1
    path = tmp_path / "All247images/JPCLN001.IMG"
    path.parent.mkdir()
    stored.tofile(path)
    lung = np.zeros((1024, 1024), np.uint8)
    lung[50:60, 100:110] = 255
    save(tmp_path / "SCR/right lung/JPCLN001.gif", lung)
    save(tmp_path / "SCR/left lung/JPCLN001.gif", lung[:, ::-1])
    dataset = find_dataset(tmp_path)
    (case,) = dataset.cases
    volume, labels = dataset.read(case)
    assert (case.name, case.image) == ("JPCLN001", path)
    assert volume.array[0, 100, 205] == 4094
    assert volume.array[0, 0, 0] == 0
    assert volume.geometry.spacing[1:] == (0.175, 0.175)
    assert (labels == 1).sum() == (labels == 2).sum() == 400
    assert labels[0, 100, 200] == labels[0, 119, 219] == 1
    assert labels[0, 99, 200] == labels[0, 100, 220] == 0
    path.write_bytes(b"short")
    with pytest.raises(ReadError, match="5 bytes"):
        dataset.read(case)


def test_a_picture_of_a_mask_is_turned_with_its_image(tmp_path: Path) -> None:
    """The mask was painted on the file's own pixels, which lie feet up here."""
    picture, labels = film(0)
    sideways = Geometry((1, *SIZE), (1.0, 0.5, 0.7), direction=((0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)))
    write(Volume(picture[None, ::-1].copy(), sideways, "xray", "a.u."), tmp_path / "images/a.nii.gz")
    save(tmp_path / "masks/a.png", labels[::-1].copy())
    dataset = find_dataset(tmp_path, modality="xray")
    volume, found = dataset.read(dataset.cases[0])
    np.testing.assert_array_equal(volume.array[0], picture)
    np.testing.assert_array_equal(found[0], labels)


def test_unlabelled_dicom_is_found_by_series(tmp_path: Path) -> None:
    stored = np.random.default_rng(1).integers(0, 2000, (3, 40, 44)).astype(np.uint16)
    for number, count in (("one", 3), ("two", 1)):
        where = places(count, (1, 0, 0, 0, 1, 0))
        ct_series(tmp_path / "pat" / number, stored[:count], where, SeriesInstanceUID=f"1.2.{count}")
    single = next((tmp_path / "pat/two").iterdir())
    single.rename(single.with_suffix(""))
    dataset = find_dataset(tmp_path, layout="unlabelled")
    assert [case.name for case in dataset.cases] == ["pat/one", f"pat/two/{single.stem}"]
    assert [dataset.read(case)[0].array.shape for case in dataset.cases] == [(3, 40, 44), (1, 40, 44)]


def test_real_slices_without_masks_are_found(test_data: Path) -> None:
    dataset = find_dataset(test_data / "ct/unlabelled", layout="unlabelled")
    assert len(dataset.cases) == 162
    assert (dataset.modality, dataset.unit) == ("ct", "HU")


def test_a_split_file_given_decides(tmp_path: Path) -> None:
    make_folders(tmp_path)
    dataset = find_dataset(tmp_path)
    assert not dataset.part("train")
    assert dataset.part("") == dataset.cases
    wanted = [dataclasses.replace(case, split="test", patient="one") for case in dataset.cases[:2]]
    again = find_dataset(tmp_path, split_file=write_splits(tmp_path / "elsewhere/mine.csv", wanted))
    assert [case.name for case in again.part("test")] == [case.name for case in wanted]
    assert {case.patient for case in again.part("test")} == {"one"}
    assert codes(again).count("not-in-split") == 2
    assert "patient-in-two-parts" not in codes(again)


def test_a_split_is_drawn_once_and_kept(tmp_path: Path) -> None:
    make_folders(tmp_path)
    dataset = find_dataset(tmp_path)
    divided = dataset.divided(seed=1)
    assert sum(len(divided.part(part)) for part in ("train", "val", "test")) == len(dataset.cases)
    assert divided.divided(seed=2).cases == divided.cases


def test_a_patient_in_two_parts_is_told(tmp_path: Path) -> None:
    make_split_csv(tmp_path)
    text = (tmp_path / "split.csv").read_text().replace("test,p3", "test,p0").replace("val,p2", "test,p2")
    (tmp_path / "split.csv").write_text(text)
    dataset = find_dataset(tmp_path)
    (torn,) = [problem for problem in dataset.problems if problem.code == "patient-in-two-parts"]
    assert "p0" in torn.message
    assert "test and train" in torn.message
    (empty,) = [problem for problem in dataset.problems if problem.code == "empty-part"]
    assert "'val'" in empty.message


def test_patients_are_named_by_a_pattern(tmp_path: Path) -> None:
    labels = binary(film(0)[1])
    folder = pairs(tmp_path, {"anna-1": labels, "anna-2": labels, "ben-1": labels})
    dataset = find_dataset(folder, patient_pattern=r"^(\w+)-")
    assert [case.patient for case in dataset.cases] == ["anna", "anna", "ben"]
    assert "patients-unknown" not in codes(dataset)
    assert "patients-unknown" in codes(find_dataset(folder))
    for pattern, says in ((r"^\w+-", "group"), ("(", "no regular expression"), (r"^(carl)", "finds no patient")):
        with pytest.raises(TrainingDataError, match=says):
            find_dataset(folder, patient_pattern=pattern)


def test_a_mask_called_after_what_it_is_finds_its_image(tmp_path: Path) -> None:
    save(tmp_path / "Images/a_img.png", film(0)[0])
    save(tmp_path / "Labels/a_seg.png", binary(film(0)[1]))
    (case,) = find_dataset(tmp_path).cases
    assert case.name == "a"


def test_two_files_of_one_name_are_told(tmp_path: Path) -> None:
    folder = pairs(tmp_path, {"a": binary(film(0)[1])})
    save(folder / "images/a.tif", film(1)[0])
    dataset = find_dataset(folder)
    assert "same-name" in codes(dataset)
    assert len(dataset.cases) == 1


@pytest.mark.parametrize(
    ("name", "size", "parts", "modality", "names"),
    [
        ("xray", 204, (135, 19, 50), "xray", LUNG_NAMES),
        ("xray-paediatric", 2440, (1893, 193, 354), "xray", LUNG_NAMES),
        ("isic", 2000, (1600, 200, 200), "photo", {1: "lesion"}),
        ("ct", 3, (2, 0, 1), "ct", LUNG_NAMES),
    ],
)
def test_real_data_are_what_they_say(test_data: Path, name: str, size: int, parts, modality: str, names) -> None:
    dataset = find_dataset(test_data / name)
    assert (dataset.layout, len(dataset.cases)) == ("split-csv", size)
    assert tuple(len(dataset.part(part)) for part in ("train", "val", "test")) == parts
    assert (dataset.modality, dict(dataset.names)) == (modality, dict(names))
    assert "patient-in-two-parts" not in codes(dataset)
    volume, labels = dataset.read(dataset.part("train")[0])
    assert labels is not None
    assert set(np.unique(labels)) == {0, *names}
    if len(names) == 2:
        columns = [np.nonzero(labels == label)[2].mean() for label in (1, 2)]
        assert columns[0] < columns[1]  # the patient's right at the viewer's left
    if modality == "ct":
        assert np.asarray(volume.array)[labels > 0].mean() < -500
