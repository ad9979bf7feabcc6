"""`read` and `write`: what is found, what is refused and how, and that nothing half-written stays behind."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from labelled_series import labels_on, series
from PIL import Image

from napari_lungseg.errors import ReadError, WriteError
from napari_lungseg.io import WRITERS, atomic, itk, read, suffix_of, write
from napari_lungseg.volume import Geometry, LabelMap, Volume

GEOMETRY = Geometry((3, 4, 5), (2.5, 0.7, 0.9), (-30.0, 12.0, 101.0))


def labels(value: int = 1) -> LabelMap:
    array = np.zeros((3, 4, 5), np.uint8)
    array[1, 2, 3] = value
    return LabelMap(array, GEOMETRY, {value: "right lung"})


def scan() -> Volume:
    return Volume(np.arange(60, dtype=np.int16).reshape(3, 4, 5) * 20 - 1000, GEOMETRY)


def codes(item: Volume | LabelMap) -> list[str]:
    return [finding.code for finding in item.findings]


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_the_longest_suffix_counts() -> None:
    assert suffix_of("a/B.NII.GZ") == ".nii.gz"
    assert suffix_of("x.seg.nrrd") == ".seg.nrrd"
    assert suffix_of("J. Doe.nrrd") == ".nrrd"
    assert suffix_of("IM0001") == ""
    assert suffix_of("a.gz") == ""


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder / "missing.nii", "no file or folder"),
        (lambda folder: folder, "no DICOM series and no volume or picture"),
        (lambda folder: touch(folder / "zero.nii.gz", b""), "empty"),
        (lambda folder: touch(folder / "thesis.docx", b"PK" * 99), "no kind"),
        (lambda folder: touch(folder / "note.dcm", b"hello, this is a letter " * 20), "note.dcm"),
        (lambda folder: touch(folder / "cut.nii", b"\x5c\x01\x00\x00" + bytes(300)), "NIfTI"),
        (lambda folder: touch(folder / "cut.nii.gz", b"\x1f\x8b\x08\x00" + bytes(30)), "cut short"),
        (lambda folder: [], "empty"),
        (lambda folder: [folder], "is a folder"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_sentence(tmp_path: Path, make, says: str) -> None:
    with pytest.raises(ReadError, match=says) as caught:
        read(make(tmp_path))
    assert "\n" not in str(caught.value)


def touch(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_spacing_that_is_none_is_refused(tmp_path: Path, bad: float) -> None:
    path = tmp_path / "scan.nii"
    nibabel.save(nibabel.Nifti1Image(np.full((4, 5, 6), -500, np.int16), np.diag([1.0, 1, 2, 1])), path)
    raw = bytearray(path.read_bytes())
    raw[84:88] = np.float32(bad).tobytes()  # pixdim[2]
    path.write_bytes(raw)
    with pytest.raises(ReadError, match="spacing"):
        read(path)
    with pytest.raises(ReadError, match="spacing"):
        read(tmp_path)


def test_a_position_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii"
    nibabel.save(nibabel.Nifti1Image(np.full((4, 5, 6), -500, np.int16), np.diag([1.0, 1, 2, 1])), path)
    raw = bytearray(path.read_bytes())
    raw[280:284] = np.float32(np.nan).tobytes()  # srow_x[0]
    path.write_bytes(raw)
    with pytest.raises(ReadError, match="position"):
        read(path)


def test_channels_and_dimensions_are_refused_by_name(tmp_path: Path) -> None:
    many = SimpleITK.GetImageFromArray(np.zeros((3, 4, 5, 7), np.int16), isVector=True)
    SimpleITK.WriteImage(many, str(tmp_path / "many.nrrd"))
    with pytest.raises(ReadError, match="7 channels"):
        read(tmp_path / "many.nrrd")
    five = nibabel.Nifti1Image(np.zeros((3, 4, 5, 2, 7), np.int16), np.eye(4))
    nibabel.save(five, tmp_path / "five.nii")
    with pytest.raises(ReadError, match="5 dimensions"):
        read(tmp_path / "five.nii")


def test_a_folder_without_dicom_gives_each_volume(tmp_path: Path) -> None:
    write(scan(), tmp_path / "a.nii.gz")
    write(labels(), tmp_path / "b.seg.nrrd")
    touch(tmp_path / "notes.txt", b"nothing")
    touch(tmp_path / ".hidden.nii", b"nothing")
    first, second = read(tmp_path)
    assert isinstance(first, Volume)
    assert isinstance(second, LabelMap)


def test_a_folder_of_folders_says_where_the_images_are(tmp_path: Path) -> None:
    write(scan(), tmp_path / "inner" / "a.nii.gz")
    with pytest.raises(ReadError, match="1 lie in its subfolders"):
        read(tmp_path)


def test_dicom_in_a_folder_goes_first(tmp_path: Path, test_data: Path) -> None:
    shutil.copytree(test_data / "ct" / "small" / "cip_ct-64_dicom", tmp_path / "series")
    write(scan(), tmp_path / "a.nii.gz")
    items = read(tmp_path)
    assert items[0].geometry.shape == (79, 64, 64)
    assert "other-files" in codes(items[0])
    bare = tmp_path / "bare"
    bare.mkdir()
    for index, path in enumerate(sorted((tmp_path / "series").iterdir())[:4]):
        path.rename(bare / f"IM{index}")
    assert read(bare)[0].modality == "ct"
    assert isinstance(read(bare / "IM0")[0], Volume)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_full_disk_leaves_nothing_and_spares_the_old_file(tmp_path: Path, suffix: str, monkeypatch) -> None:
    path = tmp_path / f"lungs{suffix}"
    item = LabelMap(labels().array[1:2], Geometry((1, 4, 5)), {1: "lung"})
    if suffix.endswith(".dcm"):
        item = labels_on(series(tmp_path / "series"))
    write(item, path)
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir() if entry.is_file()}

    def full(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(WriteError, match="No space left on device"):
        write(item, path)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir() if entry.is_file()} == before


def test_a_writer_that_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    def half(item: LabelMap, path: Path) -> frozenset[str]:
        path.write_bytes(b"half")
        (path.parent / "lungs.zraw").write_bytes(b"half")
        raise RuntimeError("ITK ERROR: the disk is full")

    monkeypatch.setattr(itk, "write_metaimage", half)
    with pytest.raises(WriteError, match="disk is full"):
        write(labels(), tmp_path / "lungs.mhd")
    assert names(tmp_path) == []


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with atomic.replacing(tmp_path / "a.nii") as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path) == []


def test_folders_and_unknown_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="is a folder"):
        write(labels(), _folder(tmp_path / "a.nii"))
    with pytest.raises(WriteError, match=r"\.nii\.gz"):
        write(labels(), tmp_path / "lungs.bmp")
    with pytest.raises(WriteError, match="segmentation"):
        write(scan(), tmp_path / "scan.seg.nrrd")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError):
        write(labels(), tmp_path / "file" / "lungs.nii")


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_missing_folders_are_made_and_mhd_keeps_its_voxels(tmp_path: Path) -> None:
    path = write(labels(), tmp_path / "new" / "deep" / "lungs.mhd")
    assert names(path.parent) == ["lungs.labels.json", "lungs.mhd", "lungs.zraw"]
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))), labels().array)


def test_formats_of_one_stem_have_a_sidecar_entry_each(tmp_path: Path) -> None:
    flat = LabelMap(labels().array[1:2], Geometry((1, 4, 5), (1.0, 0.7, 0.9)), {1: "right lung"})
    write(labels(), tmp_path / "lungs.nii.gz")
    write(flat, tmp_path / "lungs.png")
    entries = json.loads((tmp_path / "lungs.labels.json").read_text())["files"]
    assert set(entries) == {".nii.gz", ".png"}
    assert "geometry" not in entries[".nii.gz"]  # NIfTI holds it itself
    assert read(tmp_path / "lungs.png")[0].geometry == flat.geometry
    assert read(tmp_path / "lungs.nii.gz")[0].names == {1: "right lung"}


def test_an_image_written_over_labels_is_an_image(tmp_path: Path) -> None:
    path = tmp_path / "a.mha"
    write(labels(), path)
    assert isinstance(read(path)[0], LabelMap)
    write(scan(), path)
    assert isinstance(read(path)[0], Volume)


def test_a_sidecar_of_another_grid_is_left_alone(tmp_path: Path) -> None:
    path = write(LabelMap(labels().array[1:2], Geometry((1, 4, 5), (1.0, 0.7, 0.9))), tmp_path / "lungs.png")
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(path)
    (item,) = read(path)
    assert item.geometry.shape == (1, 8, 9)
    assert "sidecar-mismatch" in codes(item)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 9, "files": {}}', '{"format": 1, "files": {".png": 3}}'])
def test_a_damaged_sidecar_is_told_and_never_overwritten(tmp_path: Path, text: str) -> None:
    Image.fromarray(np.full((4, 5), 9, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.labels.json").write_text(text)
    (item,) = read(tmp_path / "a.png")
    assert isinstance(item, Volume)
    assert "sidecar-damaged" in codes(item)
    with pytest.raises(WriteError, match=r"a\.labels\.json"):
        write(LabelMap(labels().array[1:2], Geometry((1, 4, 5))), tmp_path / "a.png")
    assert (tmp_path / "a.labels.json").read_text() == text


def test_a_lazy_volume_can_be_written(tmp_path: Path) -> None:
    import dask.array

    lazy = Volume(dask.array.from_array(scan().array, chunks=(1, 4, 5)), GEOMETRY)
    for suffix in (".nii.gz", ".mha", ".nrrd", ".tif"):
        np.testing.assert_array_equal(read(write(lazy, tmp_path / f"a{suffix}"))[0].array, scan().array)


def test_real_label_maps_open_as_labels(test_data: Path) -> None:
    for path in sorted((test_data / "ct" / "masks").glob("*.nii.gz")):
        (item,) = read(path)
        assert isinstance(item, LabelMap)
        assert set(np.unique(item.array[::20])) <= {0, 1, 2}
        assert item.geometry.axis_letters() == ("H", "P", "L")
    small = test_data / "ct" / "small"
    assert isinstance(read(small / "cip_lm-64.nrrd")[0], LabelMap)
    assert isinstance(read(small / "cip_wholeLung-64.nrrd")[0], LabelMap)
    assert read(small / "cip_ct-64.nrrd")[0].unit == "HU"


def test_real_pictures_open_as_what_they_are(test_data: Path) -> None:
    for folder, modality in (("xray", "xray"), ("xray-paediatric", "xray"), ("isic", "photo")):
        images = sorted((test_data / folder / "images").iterdir())[::60]
        assert {read(path)[0].modality for path in images} == {modality}
        masks = [read(path)[0] for path in sorted((test_data / folder / "masks").iterdir())[::60]]
        assert all(isinstance(mask, LabelMap) and mask.array.max() <= 2 for mask in masks)
