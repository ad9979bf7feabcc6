"""What DICOM files become: series kept apart, findings told, damage survived, names without the patient."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
import SimpleITK as sitk
from dicom_phantom import (
    COLUMNS,
    ORIENTATIONS,
    ROWS,
    SPACING,
    ct_series,
    ct_slice,
    dataset,
    enhanced_ct,
    lookup_table,
    places,
    radiograph,
    save,
    voxels,
)
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RTDoseStorage, RTStructureSetStorage, SegmentationStorage

from napari_lungseg.errors import LungSegError, ReadError
from napari_lungseg.io import dicom
from napari_lungseg.io.dicom import is_dicom, read_dicom
from napari_lungseg.volume import Volume

AXIAL, CORONAL = ORIENTATIONS["axial head first supine"], ORIENTATIONS["coronal"]
PIXELS = np.arange(ROWS * COLUMNS, dtype=np.uint16).reshape(ROWS, COLUMNS)


def codes(volume: Volume) -> list[str]:
    return [finding.code for finding in volume.findings]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_series_in_one_folder_are_never_merged(tmp_path: Path) -> None:
    one, other = voxels(4, seed=1), voxels(5, seed=2)
    ct_series(tmp_path, one, places(4, AXIAL), prefix="b", SeriesInstanceUID="1.2.3", SeriesNumber=7)
    ct_series(tmp_path, other, places(5, AXIAL), prefix="a", SeriesInstanceUID="1.2.4", SeriesNumber=3)
    first, second = read_dicom(files(tmp_path))
    np.testing.assert_array_equal(first.array, other.astype(int) - 1024)
    np.testing.assert_array_equal(second.array, one.astype(int) - 1024)
    assert codes(first) == codes(second) == ["several-series"]
    assert (first.name, second.name) == ("CT series 3", "CT series 7")
    assert first.source == str(tmp_path)


def test_orientations_and_sizes_within_a_series_are_kept_apart(tmp_path: Path) -> None:
    ct_series(tmp_path, voxels(4), places(4, AXIAL), prefix="a")
    ct_series(tmp_path, voxels(3), places(3, CORONAL), CORONAL, prefix="c")
    ct_series(tmp_path, voxels(2), places(2, AXIAL) + 50, prefix="s", PixelSpacing=[0.5, 0.5])
    volumes = read_dicom(files(tmp_path))
    assert sorted(len(volume.array) for volume in volumes) == [2, 3, 4]
    assert "mixed-orientations" in codes(next(volume for volume in volumes if len(volume.array) == 3))
    assert all("mixed-images" in codes(volume) for volume in volumes)
    assert len({volume.name for volume in volumes}) == 3


def test_a_localizer_stands_alone_and_last(tmp_path: Path) -> None:
    save(ct_slice(PIXELS, (0, 0, 0), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SeriesNumber=1), tmp_path / "0")
    ct_series(tmp_path, voxels(3), places(3, AXIAL))
    stack, localizer = read_dicom(files(tmp_path))
    assert len(stack.array) == 3
    assert codes(stack) == ["mixed-images"]
    assert codes(localizer) == ["mixed-images", "localizer"]
    assert localizer.modality == "xray"
    assert localizer.name == "CT series 1, localizer"


@pytest.mark.parametrize("keyword", ["AcquisitionNumber", "TemporalPositionIdentifier", "ConvolutionKernel", None])
def test_images_at_the_same_place_become_several_volumes(tmp_path: Path, keyword: str | None) -> None:
    early, late = voxels(4, seed=1), voxels(4, seed=2)
    ct_series(
        tmp_path, late, places(4, AXIAL), prefix="a", seed=5, **({keyword: "2"} if keyword else {"InstanceNumber": 9})
    )
    ct_series(tmp_path, early, places(4, AXIAL), prefix="b", **({keyword: "1"} if keyword else {"InstanceNumber": 1}))
    volumes = read_dicom(files(tmp_path))
    assert sorted(int(volume.array.sum()) for volume in volumes) == sorted(
        int((stored.astype(int) - 1024).sum()) for stored in (early, late)
    )
    for volume in volumes:
        match = early if volume.array[0, 0, 0] == int(early[0, 0, 0]) - 1024 else late
        np.testing.assert_array_equal(volume.array, match.astype(int) - 1024)
        assert codes(volume) == ["duplicated-positions"]


@pytest.mark.parametrize("keyword", ["NominalPercentageOfCardiacPhase", "TriggerTime", "TemporalPositionTimeOffset"])
def test_phases_open_in_the_order_of_time(tmp_path: Path, keyword: str) -> None:
    phases = {late: voxels(3, seed=late) for late in (100, 20, 3)}
    for late, stored in phases.items():
        ct_series(tmp_path, stored, places(3, AXIAL), prefix=f"{late}-", seed=late, **{keyword: late})
    volumes = read_dicom(files(tmp_path))
    for volume, stored in zip(volumes, (phases[3], phases[20], phases[100]), strict=True):
        np.testing.assert_array_equal(volume.array, stored.astype(int) - 1024)
    assert [volume.name for volume in volumes] == ["CT series 4 (1)", "CT series 4 (2)", "CT series 4 (3)"]


def test_two_kernels_of_two_acquisitions_are_four_volumes(tmp_path: Path) -> None:
    kinds = [(number, kernel) for number in (1, 2) for kernel in ("B30f", "B70f")]
    for seed, (number, kernel) in enumerate(kinds):
        elements = {"AcquisitionNumber": number, "ConvolutionKernel": kernel}
        ct_series(tmp_path, voxels(4, seed=seed), places(4, AXIAL), prefix=f"{seed}-", seed=seed, **elements)
    volumes = read_dicom(files(tmp_path))
    for seed, volume in enumerate(volumes):
        np.testing.assert_array_equal(volume.array, voxels(4, seed=seed).astype(int) - 1024)
    assert len(volumes) == 4


def test_overlapping_reconstructions_are_kept_apart(tmp_path: Path) -> None:
    """Thick and thin slices of one scan, no two at the same place."""
    thick, thin = voxels(4, seed=1), voxels(9, seed=2)
    ct_series(tmp_path, thick, places(4, AXIAL, gap=5.0), prefix="thick", SliceThickness=5)
    ct_series(tmp_path, thin, places(9, AXIAL, gap=1.7) + np.array([0, 0, 0.3]), prefix="thin", SliceThickness=2)
    volumes = read_dicom(files(tmp_path))
    assert sorted(len(volume.array) for volume in volumes) == [4, 9]
    for volume in volumes:
        stored = thick if len(volume.array) == 4 else thin
        np.testing.assert_array_equal(volume.array, stored.astype(int) - 1024)
        assert codes(volume) == ["overlapping-reconstructions"]


def test_a_stack_whose_thickness_changes_half_way_stays_one(tmp_path: Path) -> None:
    ct_series(tmp_path, voxels(3), places(3, AXIAL), prefix="a", SliceThickness=2.5)
    ct_series(tmp_path, voxels(3, seed=9), places(3, AXIAL) + np.array([0, 0, 7.5]), prefix="b", SliceThickness=5)
    (volume,) = read_dicom(files(tmp_path))
    assert len(volume.array) == 6


def test_the_same_file_twice_is_taken_once(tmp_path: Path) -> None:
    paths = ct_series(tmp_path, voxels(3), places(3, AXIAL))
    shutil.copy(paths[0], tmp_path / "copy of it.dcm")
    (volume,) = read_dicom(files(tmp_path))
    assert len(volume.array) == 3 and codes(volume) == ["duplicated-files"]


def cut(path: Path, share: float = 0.9) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def test_one_cut_off_instance_is_a_missing_slice(tmp_path: Path) -> None:
    paths = ct_series(tmp_path, voxels(5), places(5, AXIAL))
    middle = next(path for path in paths if pydicom.dcmread(path).ImagePositionPatient[2] == 33.0 + 5)
    cut(middle, 0.99)
    (volume,) = read_dicom(paths)
    assert len(volume.array) == 4
    assert codes(volume) == ["missing-slices", "damaged-files"]
    assert middle.name in volume.findings[1].message and "cut off" in volume.findings[1].message


def test_one_instance_that_cannot_be_decoded_is_a_missing_slice(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 4096, (5, 40, 48)).astype(np.uint16)
    paths = []
    for number in range(5):
        image = ct_slice(pixels[number], (0, 0, 2.5 * number))
        image.compress(JPEG2000Lossless, generate_instance_uid=False)
        paths.append(save(image, tmp_path / f"{number}"))
    content = paths[2].read_bytes()
    start = content.index(b"\xff\x4f\xff\x51")  # the start of the JPEG 2000 code stream
    paths[2].write_bytes(content[:start] + b"\0" * 200 + content[start + 200 :])
    (volume,) = read_dicom(paths)
    np.testing.assert_array_equal(volume.array, np.delete(pixels, 2, axis=0).astype(int) - 1024)
    assert codes(volume) == ["damaged-files", "missing-slices"]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_cut_off_file_gives_one_sentence(tmp_path: Path, share: float, compressed: bool) -> None:
    image = ct_slice(np.random.default_rng(1).integers(0, 4096, (40, 48)).astype(np.uint16), (0, 0, 0))
    if compressed:
        image.compress(JPEGLSLossless, generate_instance_uid=False)
    path = save(image, tmp_path / "scan.dcm")
    cut(path, share)
    with pytest.raises(ReadError, match=r"scan\.dcm") as caught:
        read_dicom([path])
    assert "\n" not in str(caught.value)


def test_what_is_no_dicom_gives_one_sentence(tmp_path: Path) -> None:
    text = tmp_path / "text.dcm"
    text.write_text("This is not a scan. " * 50)
    assert not is_dicom(text) and not is_dicom(tmp_path)
    with pytest.raises(ReadError, match="no DICOM found"):
        read_dicom([text])
    with pytest.raises(ReadError, match="no files"):
        read_dicom([])


def test_other_files_in_the_folder_are_passed_over(tmp_path: Path) -> None:
    ct_series(tmp_path, voxels(3), places(3, AXIAL))
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "empty").touch()
    (volume,) = read_dicom(files(tmp_path))
    assert len(volume.array) == 3 and volume.findings == ()


def test_a_structure_set_without_contours_is_told(tmp_path: Path) -> None:
    plan = dataset(PIXELS, RTStructureSetStorage, Modality="RTSTRUCT")
    for keyword in ("PixelData", "Rows", "Columns"):
        del plan[keyword]
    path = tmp_path / "plan"
    plan.save_as(path, enforce_file_format=True)
    with pytest.raises(ReadError, match="without any closed contour"):
        read_dicom([path])
    paths = ct_series(tmp_path, voxels(3), places(3, AXIAL))
    (volume,) = read_dicom([path, *paths])
    assert codes(volume) == ["damaged-files"] and "without any closed contour" in volume.findings[0].message


def test_a_dose_grid_is_named_and_never_opened(tmp_path: Path) -> None:
    path = save(dataset(PIXELS, RTDoseStorage, Modality="RTDOSE"), tmp_path / "dose")
    with pytest.raises(ReadError, match="RT Dose"):
        read_dicom([path])
    paths = ct_series(tmp_path, voxels(3), places(3, AXIAL))
    (volume,) = read_dicom([path, *paths])
    assert codes(volume) == ["other-objects"] and "1 × RT Dose" in volume.findings[0].message


def test_a_segmentation_without_segments_is_refused(tmp_path: Path) -> None:
    path = save(dataset(PIXELS.astype(np.uint8), SegmentationStorage, Modality="SEG"), tmp_path / "seg")
    with pytest.raises(ReadError, match="describes no segment"):
        read_dicom([path])


def test_enhanced_ct(tmp_path: Path) -> None:
    stored, positions = voxels(6), places(6, ORIENTATIONS["oblique"])
    order = [3, 0, 5, 1, 4, 2]
    path = save(enhanced_ct(stored[order], positions[order], ORIENTATIONS["oblique"]), tmp_path / "enhanced")
    (volume,) = read_dicom([path])
    intercepts = np.array([-1000 - order.index(z) for z in range(6)])
    np.testing.assert_array_equal(volume.array, stored.astype(int) + intercepts[:, None, None])
    assert (volume.unit, volume.window) == ("HU", (-1350, 149))
    np.testing.assert_allclose(volume.geometry.origin[::-1], positions[0], atol=1e-4)
    np.testing.assert_allclose(volume.geometry.spacing, (2.5, *SPACING))
    classic = read_dicom(ct_series(tmp_path / "classic", stored, positions, ORIENTATIONS["oblique"]))[0]
    assert volume.geometry.same_grid(classic.geometry, 1e-4) and volume.findings == ()


def test_stacks_of_an_enhanced_ct_are_kept_apart(tmp_path: Path) -> None:
    stored, positions = voxels(6), np.concatenate([places(3, AXIAL), places(3, AXIAL)])
    image = enhanced_ct(stored, positions, AXIAL)
    for number, groups in enumerate(image.PerFrameFunctionalGroupsSequence):
        groups.FrameContentSequence[0].StackID = "12"[number // 3]
        groups.PixelValueTransformationSequence[0].RescaleIntercept = 0
    first, second = read_dicom([save(image, tmp_path / "enhanced")])
    np.testing.assert_array_equal(first.array, stored[:3])
    np.testing.assert_array_equal(second.array, stored[3:])
    assert codes(first)[0] == "duplicated-positions"


def test_frames_of_a_radiograph_are_not_neighbours(tmp_path: Path) -> None:
    stored = voxels(3) & 0x0FFF
    (volume,) = read_dicom([save(radiograph(stored, PatientOrientation=["L", "F"]), tmp_path / "run")])
    np.testing.assert_array_equal(volume.array, stored)
    assert volume.is_frames and volume.geometry.frames


def test_every_radiograph_is_a_volume_of_its_own(tmp_path: Path) -> None:
    for number in range(2):
        save(radiograph(PIXELS + number, InstanceNumber=number), tmp_path / f"{number}")
    volumes = read_dicom(files(tmp_path))
    assert [volume.name for volume in volumes] == ["DX series 1 (1)", "DX series 1 (2)"]
    assert [volume.modality for volume in volumes] == ["xray", "xray"]


def test_the_caller_decides_the_modality(tmp_path: Path) -> None:
    path = save(ct_slice(PIXELS, (0, 0, 0)), tmp_path / "a")
    (volume,) = read_dicom([path], modality="xray")
    assert (volume.modality, volume.unit) == ("xray", "a.u.")
    secondary = ct_slice(PIXELS, (0, 0, 0), Modality="OT", SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    path = save(secondary, tmp_path / "b")
    assert read_dicom([path])[0].unit == "a.u."
    assert read_dicom([path], modality="ct")[0].unit == "HU"


@pytest.mark.parametrize(
    ("description", "name"),
    [
        ("Thorax 3 mm", "CT series 4, Thorax 3 mm"),
        ("Thorax  B70f\n", "CT series 4, Thorax B70f"),
        ("Thorax Erika", "CT series 4"),
        ("ErikaThorax", "CT series 4"),
        ("mustermann thorax", "CT series 4"),
        ("PAT-4711 thorax", "CT series 4"),
        ("born 19710203", "CT series 4"),
        ("of 1971-02-03", "CT series 4"),
        ("None", "CT series 4"),
        ("", "CT series 4"),
    ],
)
def test_names_tell_nothing_of_the_patient(tmp_path: Path, description: str, name: str) -> None:
    path = save(ct_slice(PIXELS, (0, 0, 0), SeriesDescription=description), tmp_path / "a")
    assert read_dicom([path])[0].name == name


def test_a_series_number_like_an_identifier_is_left_out(tmp_path: Path) -> None:
    path = save(ct_slice(PIXELS, (0, 0, 0), SeriesNumber=19710203), tmp_path / "a")
    assert read_dicom([path])[0].name == "CT"


def test_damaged_numbers_are_no_numbers(tmp_path: Path) -> None:
    image = ct_slice(PIXELS, (0, 0, 0), SeriesDescription="x")
    path = save(image, tmp_path / "a")
    path.write_bytes(path.read_bytes().replace(b"0.7\\0.9", b"0.7\\x.9"))
    (volume,) = read_dicom([path])
    assert "no-spacing" in codes(volume)


def test_every_finding_is_described() -> None:
    folder = Path(dicom.__file__).parent
    others = ("rtstruct.py", "label_layers.py", "archive.py")
    read_here = [*folder.glob("dicom*.py"), *(folder / name for name in others)]
    code = "".join(path.read_text() for path in read_here)
    reference = Path(__file__).parents[2] / "docs" / "reference"
    described = "".join((reference / page).read_text() for page in ("dicom.md", "dicom-segmentations.md"))
    known = set(re.findall(r'Finding\(\s*"([a-z-]+)"', code))
    assert len(known) > 20
    assert known == set(re.findall(r"^\| `([a-z-]+)`", described, re.MULTILINE))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"(\0\0\x01US\x02\0\x10\0", b"(\0\0\x01US\x02\0\x11\0"),  # BitsAllocated
        (b"(\0\x01\x01US\x02\0\x10\0", b"(\0\x01\x01US\x02\0\xff\0"),  # BitsStored
        (b"1.2.840.10008.5.1.4.1.1.1.1", b"1.2.840.10008.5.1.4.1.1.1.9"),
        (b"(\0\x02\x30US", b"(\0\x02\x30XX"),  # LUTDescriptor
        (b"(\0\x06\x30OW", b"(\0\x07\x30OW"),  # LUTData
        (b"(\0\x10\0US", b"(\0\x10\0DS"),  # Rows
    ],
)
def test_damaged_headers_never_crash_or_tell_of_the_patient(tmp_path: Path, old: bytes, new: bytes) -> None:
    image = radiograph(PIXELS, BitsStored=16, HighBit=15, VOILUTSequence=[lookup_table(range(40), 5)])
    path = save(image, tmp_path / "scan.dcm")
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    try:
        told = " ".join(str(finding) for volume in read_dicom([path]) for finding in volume.findings)
    except ReadError as error:
        told = str(error)
    assert told
    assert "Mustermann" not in told
    assert "\n" not in told


def test_damaged_frames_of_an_enhanced_ct_give_one_sentence(tmp_path: Path) -> None:
    path = save(enhanced_ct(voxels(3), places(3, AXIAL), AXIAL), tmp_path / "scan.dcm")
    path.write_bytes(path.read_bytes().replace(b"(\0\x52\x10DS", b"(\0\x52\x10ZZ"))
    with pytest.raises(ReadError, match=r"scan\.dcm is a damaged"):
        read_dicom([path])


def test_an_absurd_rescale_gives_floats(tmp_path: Path) -> None:
    (volume,) = read_dicom([save(ct_slice(PIXELS, (0, 0, 0), RescaleIntercept=-99999999), tmp_path / "a")])
    np.testing.assert_allclose(volume.array[0], PIXELS - 99999999.0)


def simpleitk_series(folder: Path) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


@pytest.mark.parametrize("series", ["dicom/LUNG1-003", "small/cip_ct-64_dicom"])
def test_real_series_equal_simpleitk(test_data: Path, series: str) -> None:
    folder = test_data / "ct" / series
    (volume,) = read_dicom(files(folder))
    image = simpleitk_series(folder)
    np.testing.assert_array_equal(np.asarray(volume.array), sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(volume.geometry.origin[::-1], image.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(volume.geometry.spacing[::-1], image.GetSpacing(), atol=1e-4)
    direction = np.array(volume.geometry.direction)[::-1, ::-1].ravel()
    np.testing.assert_allclose(direction, image.GetDirection(), atol=1e-4)


@pytest.mark.parametrize("series", ["LUNG1-001", "LUNG1-002"])
def test_real_compressed_slices_equal_simpleitk(test_data: Path, series: str) -> None:
    folder = test_data / "ct" / "dicom" / series
    (volume,) = read_dicom(files(folder))
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    assert len(names) == len(volume.array)
    for z in (0, len(names) // 2, len(names) - 1):
        expected = sitk.GetArrayFromImage(sitk.ReadImage(names[z]))[0]
        np.testing.assert_array_equal(np.asarray(volume.array[z]), expected)


def test_every_real_single_slice_opens_in_hounsfield_units(test_data: Path) -> None:
    slices = files(test_data / "ct" / "unlabelled")
    slices = [path for path in slices if path.suffix == ".dcm"]
    assert len(slices) == 162
    for path in slices[::9]:
        (volume,) = read_dicom([path])
        assert volume.unit == "HU" and volume.geometry.is_mm
        assert float(np.min(volume.array)) < -500
        expected = sitk.ReadImage(str(path))
        values = sitk.GetArrayFromImage(expected)
        scanned = values > -1100  # padding below becomes air
        np.testing.assert_allclose(np.asarray(volume.array)[scanned], values[scanned], atol=1e-2)
        assert np.all(np.asarray(volume.array)[~scanned] <= -1000)
        np.testing.assert_allclose(volume.geometry.origin[::-1], expected.GetOrigin(), atol=1e-4)


def _pydicom_files() -> list[Path]:
    folder = Path(pydicom.data.__file__).parent / "test_files"
    return [path for path in files(folder) if "TINY" not in str(path)]


@pytest.mark.parametrize("path", _pydicom_files(), ids=lambda path: path.name)
@pytest.mark.filterwarnings("default")
def test_whatever_pydicom_ships_opens_or_gives_one_sentence(path: Path) -> None:
    try:
        volumes, sentence = read_dicom([path]), "."
    except LungSegError as error:
        volumes, sentence = [], str(error)
    assert len(sentence.splitlines()) == 1
    assert sentence.endswith(".")
    for volume in volumes:
        assert np.isfinite(np.asarray(volume.array)).all()


def test_mixed_folders_of_pydicom_are_sorted_out() -> None:
    folder = Path(pydicom.data.__file__).parent / "test_files" / "dicomdirtests"
    volumes = read_dicom(files(folder / "77654033"))
    found = sorted((volume.modality, len(volume.array)) for volume in volumes)
    assert found == [("ct", 4), ("xray", 1), ("xray", 1), ("xray", 1)]
