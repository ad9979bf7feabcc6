"""What a file is, where it does not say: labels or image, CT or radiograph, Hounsfield units or not."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from napari_lungseg.errors import InvalidVolumeError, ReadError
from napari_lungseg.io import read
from napari_lungseg.io.infer import apply_offset, as_labels, as_volume, hu_offset, words
from napari_lungseg.volume import Geometry, LabelMap, Volume


def codes(item: Volume | LabelMap) -> list[str]:
    return [finding.code for finding in item.findings]


def save(path: Path, array: np.ndarray) -> Path:
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing((0.9, 0.8, 2.5)[: array.ndim])
    SimpleITK.WriteImage(image, str(path))
    return path


def body(rng: np.random.Generator) -> np.ndarray:
    """A CT as a histogram sees it: air around, lung, soft tissue, bone, HU."""
    ct = np.full((8, 32, 32), -1000, np.int16)
    ct[:, 4:28, 4:28] = rng.normal(40, 30, (8, 24, 24))
    ct[:, 8:24, 8:14] = rng.normal(-850, 40, (8, 16, 6))
    ct[:, 24:27, 14:18] = 700
    return ct


def mask(values: tuple[int, ...] = (1, 2), shape: tuple[int, ...] = (3, 8, 10)) -> np.ndarray:
    array = np.zeros(shape, np.uint8)
    for index, value in enumerate(values):
        array[:, 1 + index, 2:5] = value
    return array


def test_low_values_make_a_ct_in_hounsfield_units(tmp_path: Path, rng: np.random.Generator) -> None:
    (volume,) = read(save(tmp_path / "scan.nrrd", body(rng)))
    assert (volume.modality, volume.unit) == ("ct", "HU")
    assert codes(volume) == ["modality-inferred"]
    assert "-1000" in volume.findings[0].message or "lowest" in volume.findings[0].message


@pytest.mark.parametrize("air", [0, 24])
def test_an_offset_is_found_offered_and_applied(tmp_path: Path, rng: np.random.Generator, air: int) -> None:
    hu = body(rng)
    hu[hu == -1000] = air - 1024
    (volume,) = read(save(tmp_path / "scan.nrrd", (hu + 1024).astype(np.uint16)))
    assert (volume.modality, volume.unit) == ("ct", "a.u.")
    assert "offset-hu" in codes(volume)
    assert "-1024" in next(finding.message for finding in volume.findings if finding.code == "offset-hu")
    assert hu_offset(volume) == -1024
    mended = apply_offset(volume)
    assert mended.unit == "HU"
    assert mended.array.dtype == np.int16
    np.testing.assert_array_equal(mended.array, hu)
    assert "offset-applied" in codes(mended)
    assert "offset-hu" not in codes(mended)


def test_no_offset_is_invented(tmp_path: Path, rng: np.random.Generator) -> None:
    (volume,) = read(save(tmp_path / "scan.nrrd", rng.integers(0, 4096, (8, 32, 32)).astype(np.uint16)))
    assert "no-hu" in codes(volume)
    assert hu_offset(volume) is None
    with pytest.raises(InvalidVolumeError, match="offset"):
        apply_offset(volume)
    (eight_bits,) = read(save(tmp_path / "export.nrrd", rng.integers(0, 256, (8, 32, 32)).astype(np.uint8)))
    assert (eight_bits.unit, hu_offset(eight_bits)) == ("a.u.", None)


def test_one_grey_slice_is_a_radiograph_unless_its_values_are_hounsfield(tmp_path: Path) -> None:
    grey = np.arange(300, 380, dtype=np.int16).reshape(1, 8, 10)
    (xray,) = read(save(tmp_path / "grey.nrrd", grey))
    assert (xray.modality, xray.unit) == ("xray", "a.u.")
    (ct,) = read(save(tmp_path / "slice.nrrd", grey - 1300))
    assert (ct.modality, ct.unit) == ("ct", "HU")


def test_the_caller_has_the_last_word(tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nrrd", mask())
    assert isinstance(read(path)[0], LabelMap)
    (volume,) = read(path, labels=False)
    assert isinstance(volume, Volume)
    (xray,) = read(path, labels=False, modality="xray")
    assert xray.modality == "xray"
    assert xray.is_frames
    assert "modality-inferred" not in codes(xray)
    ramp = save(tmp_path / "ramp.nrrd", np.arange(240, dtype=np.int16).reshape(3, 8, 10))
    (labels,) = read(ramp, labels=True)
    assert labels.array.dtype == np.uint16
    with pytest.raises(ReadError, match="whole numbers"):
        read(save(tmp_path / "ct.nrrd", np.full((3, 8, 10), -900, np.int16)), labels=True)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("anything.nrrd", (1, 2), True),
        ("anything.mha", (1, 64), True),
        ("anything.nii.gz", (1, 255), False),
        ("anything.nrrd", (255,), True),
        ("anything.nrrd", (1, 65), False),
        ("case_mask.nrrd", (1, 200), True),
        ("case-seg.nrrd", (100,), True),
        ("labelsTr.nrrd", (1, 200), True),
        ("cip_lm.nrrd", (9, 210), True),
        ("unmasked.nrrd", (1, 200), False),
        ("segment.nrrd", (1, 200), False),
        ("film.nrrd", (1, 200), False),
    ],
)
def test_labels_by_name_and_values(tmp_path: Path, name: str, values: tuple[int, ...], expected: bool) -> None:
    (item,) = read(save(tmp_path / name, mask(values)))
    assert isinstance(item, LabelMap) is expected
    if expected:
        assert codes(item)[0] == "labels-inferred"


def test_more_foreground_than_background_is_an_image_unless_named(tmp_path: Path) -> None:
    full = np.ones((3, 8, 10), np.uint8)
    full[0, :3] = 0
    assert isinstance(read(save(tmp_path / "scan.nrrd", full))[0], Volume)
    assert isinstance(read(save(tmp_path / "scan_seg.nrrd", full))[0], LabelMap)


def test_negative_or_fractional_values_are_never_labels(tmp_path: Path) -> None:
    negative = mask().astype(np.int16)
    negative[0, 0, 0] = -1
    assert isinstance(read(save(tmp_path / "a_mask.nrrd", negative))[0], Volume)
    assert isinstance(read(save(tmp_path / "b_mask.nrrd", mask().astype(np.float32) / 2))[0], Volume)


def test_masks_saved_as_floats_are_labels(tmp_path: Path) -> None:
    (item,) = read(save(tmp_path / "lungs.nii.gz", mask().astype(np.float64)))
    assert isinstance(item, LabelMap)
    assert item.array.dtype == np.uint8
    np.testing.assert_array_equal(item.array, mask())


def test_a_mask_of_0_and_255_becomes_0_and_1(tmp_path: Path) -> None:
    (item,) = read(save(tmp_path / "lungs.nrrd", mask((255,))))
    np.testing.assert_array_equal(item.array, mask((1,)))
    assert "mask-255" in codes(item)


def test_the_folder_counts_only_where_the_voxels_agree(tmp_path: Path) -> None:
    folder = tmp_path / "lung seg"
    folder.mkdir()
    grey = np.linspace(0, 255, 240).astype(np.uint8).reshape(3, 8, 10)
    assert isinstance(read(save(folder / "chest.nrrd", grey))[0], Volume)
    mostly_full = np.full((3, 8, 10), 3, np.uint8)
    assert isinstance(read(save(folder / "case.nrrd", mostly_full))[0], LabelMap)


def test_nifti_intent_label_decides(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.full((4, 5, 6), 300, np.int16), np.diag([1.0, 1, 2, 1]))
    nibabel.save(image, tmp_path / "a.nii.gz")
    assert isinstance(read(tmp_path / "a.nii.gz")[0], Volume)
    image.header.set_intent("label")
    nibabel.save(image, tmp_path / "a.nii.gz")
    (item,) = read(tmp_path / "a.nii.gz")
    assert isinstance(item, LabelMap)
    assert "LABEL" in item.findings[0].message


def segmentation(path: Path, array: np.ndarray, keys: dict[str, str], vector: bool = False) -> Path:
    image = SimpleITK.GetImageFromArray(array, isVector=vector)
    for key, value in keys.items():
        image.SetMetaData(key, value)
    SimpleITK.WriteImage(image, str(path))
    return path


def test_slicer_segmentation_brings_names_and_colours(tmp_path: Path) -> None:
    keys = {
        "Segment0_ID": "Segment_1",
        "Segment0_Name": "Left lung",
        "Segment0_LabelValue": "7",
        "Segment0_Color": "0.2 0.4 0.6",
        "Segment1_ID": "Segment_2",
        "Segment1_Name": "Right lung",
        "Segment1_LabelValue": "200",
        "Segment1_Color": "1 0 0",
    }
    (item,) = read(segmentation(tmp_path / "Segmentation.seg.nrrd", mask((7, 200)), keys))
    assert item.names == {7: "Left lung", 200: "Right lung"}
    assert item.colours == {7: "#336699", 200: "#FF0000"}
    np.testing.assert_array_equal(item.array, mask((7, 200)))


def test_overlapping_segments_are_a_label_map_each(tmp_path: Path) -> None:
    layers = np.stack([mask((1,)), mask((0, 1))], axis=-1)
    keys = {
        "Segment0_ID": "a",
        "Segment0_Name": "lung",
        "Segment0_Layer": "0",
        "Segment0_LabelValue": "1",
        "Segment1_ID": "b",
        "Segment1_Name": "lobe",
        "Segment1_Layer": "1",
        "Segment1_LabelValue": "1",
    }
    lung, lobe = read(segmentation(tmp_path / "two.seg.nrrd", layers, keys, vector=True))
    assert (lung.names, lobe.names) == ({1: "lung"}, {1: "lobe"})
    np.testing.assert_array_equal(lung.array, layers[..., 0])
    np.testing.assert_array_equal(lobe.array, layers[..., 1])
    assert "overlapping-segments" in codes(lobe)


def test_jpeg_is_never_a_label_map(tmp_path: Path) -> None:
    Image.fromarray(mask((255,), (1, 8, 10))[0]).save(tmp_path / "mask.jpg", quality=100)
    assert isinstance(read(tmp_path / "mask.jpg")[0], Volume)
    assert isinstance(read(tmp_path / "mask.jpg", labels=True)[0], LabelMap)


def test_voxels_that_are_not_numbers_are_told(tmp_path: Path) -> None:
    array = np.linspace(-1000, 500, 240, dtype=np.float32).reshape(3, 8, 10)
    array[1, 2, 3], array[1, 2, 4] = np.nan, np.inf
    (volume,) = read(save(tmp_path / "scan.nii", array))
    assert "not-finite" in codes(volume)
    assert np.isfinite(volume.array).all()
    assert volume.array[1, 2, 3] == -1000
    with pytest.raises(ReadError, match="finite"):
        read(save(tmp_path / "nothing.nii", np.full((2, 3, 4), np.nan, np.float32)))


def test_labels_and_image_are_each_other_s_way_back() -> None:
    geometry = Geometry((3, 8, 10), (2.5, 0.8, 0.9), (1.0, 2.0, 3.0))
    labels = LabelMap(mask(), geometry, {1: "right lung"})
    volume = as_volume(labels)
    assert volume.geometry == geometry
    np.testing.assert_array_equal(as_labels(volume).array, labels.array)
    assert as_labels(labels) is labels
    assert as_volume(volume) is volume


def test_words_are_whole() -> None:
    assert words("ct_labelsTr-3") == ["ct", "labels", "tr"]
    assert words("LM12 finalSeg") == ["lm", "final", "seg"]


def test_scaling_keeps_integers_where_it_can(tmp_path: Path) -> None:
    stored = np.arange(0, 60, dtype=np.int16).reshape(3, 4, 5)

    def scaled(slope: float, intercept: float) -> np.ndarray:
        path = tmp_path / "scaled.nii"
        nibabel.save(nibabel.Nifti1Image(stored, np.diag([1.0, 1, 2, 1])), path)
        raw = bytearray(path.read_bytes())
        raw[112:120] = np.array([slope, intercept], "<f4").tobytes()
        path.write_bytes(raw)
        np.testing.assert_allclose(
            read(path)[0].array, np.asarray(nibabel.load(path).dataobj).transpose(2, 1, 0), rtol=1e-6
        )
        return read(path)[0].array

    assert scaled(0, 5).dtype == np.int16  # slope 0: no scaling at all
    assert scaled(1, -1024).dtype == np.int16
    assert scaled(1000, -1024).dtype == np.int32
    assert scaled(0.5, 0).dtype == np.float32


def test_time_points_are_volumes_of_their_own(tmp_path: Path) -> None:
    array = np.arange(4 * 5 * 6 * 3, dtype=np.int16).reshape(4, 5, 6, 3) - 500
    nibabel.save(nibabel.Nifti1Image(array, np.diag([1.0, 1, 2, 1])), tmp_path / "breathing.nii.gz")
    phases = read(tmp_path / "breathing.nii.gz")
    assert len(phases) == 3
    assert "time-point" in codes(phases[1])
    np.testing.assert_array_equal(phases[2].array, array[..., 2].transpose(2, 1, 0))


def test_a_damaged_packed_volume_is_noticed(tmp_path: Path, rng: np.random.Generator) -> None:
    path = save(tmp_path / "scan.nii.gz", rng.integers(-1000, 500, (8, 64, 64)).astype(np.int16))
    whole = path.read_bytes()
    assert isinstance(read(path)[0], Volume)
    for damaged in (whole[: len(whole) // 2], whole[:-3], whole[:-8] + b"\0\0\0\0" + whole[-4:]):
        path.write_bytes(damaged)
        with pytest.raises(ReadError, match="cut short"):
            read(path)
