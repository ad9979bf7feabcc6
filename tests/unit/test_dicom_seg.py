"""DICOM segmentations: what is written is read back voxel by voxel, by this package, by highdicom and by others."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_phantom import enhanced_ct, places, radiograph, save
from labelled_series import NAMES, RECORD, foreign, labels_on, series

from napari_lungseg.errors import ReadError, WriteError
from napari_lungseg.findings import has_finding
from napari_lungseg.io import read, write
from napari_lungseg.io.anatomy import codes_for
from napari_lungseg.volume import LabelMap, Volume

WAYS = [
    "axial head first supine",
    "axial feet first prone",
    "axial feet first supine",
    "sagittal",
    "coronal",
    "oblique",
]
SUFFIXES = [".seg.dcm", ".labelmap.dcm", ".rtstruct.dcm"]


def same(found: LabelMap, labels: LabelMap) -> None:
    np.testing.assert_array_equal(found.array, labels.array)
    assert found.geometry.same_grid(labels.geometry)
    assert (found.names, found.colours) == (labels.names, labels.colours)
    assert found.record == labels.record


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("way", WAYS)
def test_round_trip_keeps_voxels_and_sides(tmp_path: Path, way: str, suffix: str) -> None:
    labels = labels_on(series(tmp_path / "scan", way))
    path = write(labels, tmp_path / f"case{suffix}")
    (found,) = read(path)
    same(found, labels)
    (beside,) = [item for item in read([*sorted((tmp_path / "scan").iterdir()), path]) if isinstance(item, LabelMap)]
    same(beside, labels)
    # The nodule lies on the last slice, at the end of its rows and columns: where is that in the patient?
    index = np.argwhere(labels.array == 7).mean(axis=0)
    np.testing.assert_allclose(found.geometry.position(index), labels.geometry.position(index), atol=1e-3)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_single_slice_comes_back(tmp_path: Path, suffix: str) -> None:
    labels = labels_on(series(tmp_path / "scan", count=1), {1: "right lung", 2: "left lung", 5: "heart"})
    (found,) = read(write(labels, tmp_path / f"case{suffix}"))
    same(found, labels)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_slices_out_of_step_keep_their_places(tmp_path: Path, suffix: str) -> None:
    volume = series(tmp_path / "scan", count=6)
    for path in (tmp_path / "scan").iterdir():  # two slices go missing
        if pydicom.dcmread(path).ImagePositionPatient[2] in (33.0 + 2.5, 33.0 + 7.5):
            path.unlink()
    (volume,) = read(tmp_path / "scan")
    labels = labels_on(volume)
    (found,) = read(write(labels, tmp_path / f"case{suffix}"))
    np.testing.assert_array_equal(found.array, labels.array)
    assert found.geometry.same_grid(volume.geometry)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_enhanced_ct_in_any_order_of_frames(tmp_path: Path, suffix: str) -> None:
    series(tmp_path / "model", count=1)
    told = pydicom.dcmread(next((tmp_path / "model").iterdir()))
    whose = {
        keyword: told.get(keyword)
        for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientBirthDate", "StudyID", "StudyDate")
    }
    order = [2, 0, 4, 1, 3]
    stored = np.arange(5 * 20 * 27, dtype=np.uint16).reshape(5, 20, 27)
    axes = (0, 1, 0, 0, 0, -1)
    image = enhanced_ct(stored[order], places(5, axes)[order], axes, **whose)
    (volume,) = read(save(image, tmp_path / "enhanced.dcm"))
    labels = labels_on(volume)
    (found,) = read(write(labels, tmp_path / f"case{suffix}"))
    same(found, labels)


def test_a_radiograph_has_no_contours_but_a_segmentation(tmp_path: Path) -> None:
    elements = {
        "PatientOrientation": ["L", "F"],
        "StudyInstanceUID": "1.2.3",
        "PixelSpacing": [0.7, 0.9],
        "PatientBirthDate": "",
    }
    (volume,) = read(save(radiograph(np.zeros((20, 27), np.uint16), **elements), tmp_path / "chest.dcm"))
    labels = labels_on(volume, {1: "right lung", 2: "left lung", 5: "heart"})
    (found,) = read(write(labels, tmp_path / "out.seg.dcm"))
    same(found, labels)
    with pytest.raises(WriteError, match="slices that lie in space"):
        write(labels, tmp_path / "out.rtstruct.dcm")


@pytest.mark.parametrize("suffix", SUFFIXES[:2])
def test_highdicom_reads_the_same_voxels(tmp_path: Path, suffix: str) -> None:
    volume = series(tmp_path / "scan", "oblique")
    labels = labels_on(volume)
    path = write(labels, tmp_path / f"case{suffix}")
    segmentation = highdicom.seg.segread(path)
    values = [1, 2, 5, 7]
    frames = sorted((tmp_path / "scan").iterdir(), key=lambda path: pydicom.dcmread(path).ImagePositionPatient[2])
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in frames]
    numbers = segmentation.segment_numbers
    arrays = segmentation.get_pixels_by_source_instance(uids, segment_numbers=numbers)
    for channel, value in enumerate(values):
        np.testing.assert_array_equal(arrays[..., channel], labels.array == value)
    there = segmentation.get_volume().get_geometry()
    ends = there.map_indices_to_reference(np.array([[0, 0, 0], [4, 0, 0]]))
    own = np.array([volume.geometry.position((z, 0, 0))[::-1] for z in (0, 4)])
    assert min(np.abs(ends - own).max(), np.abs(ends[::-1] - own).max()) < 1e-3


def test_what_made_the_labels_and_what_they_show_is_coded(tmp_path: Path) -> None:
    labels = labels_on(series(tmp_path / "scan"))
    header = pydicom.dcmread(write(labels, tmp_path / "case.seg.dcm"), stop_before_pixels=True)
    assert (str(header.PatientName), header.PatientID, header.StudyID) == ("Mustermann^Erika", "PAT-4711", "17")
    types = [item.SegmentedPropertyTypeCodeSequence[0] for item in header.SegmentSequence]
    assert [(code.CodingSchemeDesignator, code.CodeValue) for code in types] == [
        ("SCT", "3341006"),
        ("SCT", "85756007"),  # "left lüng" is nobody's word
        ("SCT", "80891009"),
        ("SCT", "27925004"),
    ]
    assert [item.SegmentLabel for item in header.SegmentSequence] == list(NAMES.values())
    made = header.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert (made.AlgorithmName, made.AlgorithmVersion) == (RECORD["model"], RECORD["version"])
    (referenced,) = header.ReferencedSeriesSequence
    images = {pydicom.dcmread(path).SOPInstanceUID for path in (tmp_path / "scan").iterdir()}
    assert {item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence} == images


def test_names_of_lobes_in_any_order_of_words() -> None:
    for name in ("left upper lobe", "Upper lobe of left lung", "lung_upper_lobe_left", "LEFT UPPER LOBE"):
        assert codes_for(name)[1].value == "44714003"
    assert codes_for("Lung R")[1].meaning == "Tissue"
    assert codes_for("")[1].meaning == "Tissue"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_labels_without_names_or_model_are_a_hands_work(tmp_path: Path, suffix: str) -> None:
    labels = dataclasses.replace(labels_on(series(tmp_path / "scan"), {}), record={}, colours={})
    (found,) = read(write(labels, tmp_path / f"case{suffix}"))
    np.testing.assert_array_equal(found.array, labels.array)
    assert found.names == {} and found.record == {}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_name_without_voxels_and_a_long_name_are_kept(tmp_path: Path, suffix: str) -> None:
    long = "a name that is much longer than the sixty-four characters that DICOM has room for"
    labels = labels_on(series(tmp_path / "scan"), NAMES | {9: "left lung", 2: long})
    (found,) = read(write(labels, tmp_path / f"case{suffix}"))
    assert found.names == labels.names


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_without_the_series_the_cure_is_told(tmp_path: Path, suffix: str) -> None:
    volume = series(tmp_path / "scan")
    labels = dataclasses.replace(labels_on(volume), source="")
    with pytest.raises(WriteError, match=r"--reference"):
        write(labels, tmp_path / f"case{suffix}")
    other = series(tmp_path / "other", "sagittal")
    with pytest.raises(WriteError, match="None of the 1 DICOM series in other lies on the labels' grid"):
        write(labels, tmp_path / f"case{suffix}", reference=other.source)
    assert not list(tmp_path.glob("case*"))
    (found,) = read(write(labels, tmp_path / f"case{suffix}", reference=tmp_path / "scan"))
    np.testing.assert_array_equal(found.array, labels.array)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_images_and_empty_labels_are_refused(tmp_path: Path, suffix: str) -> None:
    volume = series(tmp_path / "scan")
    with pytest.raises(WriteError, match="is for labels"):
        write(volume, tmp_path / f"case{suffix}")
    empty = LabelMap(np.zeros(volume.geometry.shape, np.uint8), volume.geometry, source=volume.source)
    with pytest.raises(WriteError, match="no label"):
        write(empty, tmp_path / f"case{suffix}")


def test_labels_in_another_voxel_order_are_turned_to_the_series(tmp_path: Path) -> None:
    volume = series(tmp_path / "scan", "sagittal")
    labels = labels_on(volume)
    turned, turn = labels.reoriented()
    assert not turn.is_identity
    (found,) = read(write(turned, tmp_path / "case.seg.dcm"))
    same(found, labels)


def shuffled(segmentation: Any, seed: int = 2) -> Any:
    """Frames in another order."""
    pixels = segmentation.pixel_array
    order = np.random.default_rng(seed).permutation(len(pixels))
    groups = list(segmentation.PerFrameFunctionalGroupsSequence)
    segmentation.PerFrameFunctionalGroupsSequence = [groups[i] for i in order]
    bits = np.packbits(pixels[order].ravel(), bitorder="little").tobytes()
    segmentation.PixelData = bits + b"\0" * (len(bits) % 2)
    return segmentation


def test_missing_and_shuffled_frames_find_their_slices(tmp_path: Path) -> None:
    volume = series(tmp_path / "scan", "oblique", count=9)
    segments = np.zeros((*volume.geometry.shape, 2), np.uint8)
    segments[2, 3:8, 4:9, 0] = segments[4, 3:8, 4:9, 0] = segments[7, 3:8, 4:9, 0] = 1
    segments[4, 12:15, 4:6, 1] = 1
    path = tmp_path / "foreign.dcm"
    shuffled(foreign(volume, "BINARY", segments)).save_as(path, enforce_file_format=True)
    expected = segments[..., 0] + 2 * segments[..., 1]
    (own,) = read(path)
    np.testing.assert_array_equal(own.array, expected[2:8])
    np.testing.assert_allclose(own.geometry.origin, volume.geometry.position((2, 0, 0)), atol=1e-3)
    assert own.names == {1: "thing 1", 2: "thing 2"} and own.colours[1] == "#102030" and own.findings == ()
    for found in (*read(path, reference=volume), *read(path, reference=tmp_path / "scan"), *read(tmp_path)[1:]):
        np.testing.assert_array_equal(found.array, expected)
        assert found.geometry.same_grid(volume.geometry)
    shutil.copy(path, tmp_path / "scan")
    (beside,) = read(tmp_path / "scan" / path.name)
    np.testing.assert_array_equal(beside.array, expected)


def test_overlapping_segments_become_several_label_maps(tmp_path: Path) -> None:
    volume = series(tmp_path / "scan")
    segments = np.zeros((*volume.geometry.shape, 3), np.uint8)
    segments[1:3, 2:9, 2:9, 0] = segments[2, 5:7, 5:7, 1] = segments[4, 1:3, 1:3, 2] = 1
    foreign(volume, "BINARY", segments).save_as(tmp_path / "foreign.dcm", enforce_file_format=True)
    first, second = read(tmp_path / "foreign.dcm", reference=volume)
    np.testing.assert_array_equal(first.array, segments[..., 0] + 3 * segments[..., 2])
    np.testing.assert_array_equal(second.array, 2 * segments[..., 1])
    assert first.name.endswith("thing 1 and 1 more") and second.names == {2: "thing 2"}
    assert has_finding(first.findings, "overlapping-segments")


def test_fractions_of_one_half_count(tmp_path: Path) -> None:
    volume = series(tmp_path / "scan")
    fractions = np.zeros((*volume.geometry.shape, 1), np.float32)
    fractions[1, 2:5, 2:5, 0], fractions[1, 3, 3, 0] = 0.7, 0.3
    segmentation = foreign(volume, "FRACTIONAL", fractions, max_fractional_value=200)
    segmentation.save_as(tmp_path / "foreign.dcm", enforce_file_format=True)
    (found,) = read(tmp_path / "foreign.dcm", reference=volume)
    np.testing.assert_array_equal(found.array, fractions[..., 0] > 0.5)
    assert has_finding(found.findings, "fractional-segmentation")


def test_a_scan_on_another_grid_is_told(tmp_path: Path) -> None:
    volume = series(tmp_path / "scan")
    path = write(labels_on(volume), tmp_path / "case.seg.dcm")
    finer = dataclasses.replace(volume.geometry, spacing=(2.5, 0.35, 0.45), shape=(5, 40, 54))
    (found,) = read(path, reference=Volume(np.zeros(finer.shape, np.int16), finer))
    assert has_finding(found.findings, "other-grid") and found.geometry.same_grid(volume.geometry)


def test_a_damaged_segmentation_is_refused(tmp_path: Path) -> None:
    volume = series(tmp_path / "scan")
    path = write(labels_on(volume), tmp_path / "case.seg.dcm")
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(ReadError, match="cut off"):
        read(path)
    items = read([*Path(volume.source).iterdir(), path])
    assert [type(item) for item in items] == [Volume] and has_finding(items[0].findings, "damaged-files")


def test_labels_beside_a_scan_are_left_out_where_images_are_wanted(tmp_path: Path) -> None:
    volume = series(tmp_path / "scan")
    write(labels_on(volume), tmp_path / "scan" / "case.seg.dcm")
    assert [type(item) for item in read(tmp_path / "scan", labels=False)] == [Volume]


def test_labels_that_are_skipped_are_not_even_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = series(tmp_path / "scan")
    labels = labels_on(volume)
    path = write(labels, tmp_path / "scan" / "case.seg.dcm")
    plain = write(labels, tmp_path / "labels.nii.gz")
    for only_labels in (path, plain):
        with pytest.raises(ReadError, match="is a label map, not an image"):
            read(only_labels, labels="skip")
    monkeypatch.setattr("napari_lungseg.io.dicom.read_labels", lambda *given: pytest.fail("read"))
    (found,) = read(tmp_path / "scan", labels="skip")
    assert isinstance(found, Volume) and found.geometry == volume.geometry


# `dciodvfy` of Debian 12 (2022) does not know label maps, nor that their background is segment 0.
_UNKNOWN = ("Information Object Not found", "SegmentNumber not monotonically increasing from one by one")


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian: dicom3tools) is not installed")
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("way", ["axial head first supine", "oblique"])
def test_the_validator_finds_no_error(tmp_path: Path, way: str, suffix: str) -> None:
    path = write(labels_on(series(tmp_path / "scan", way)), tmp_path / f"case{suffix}")
    told = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
    errors = [line for line in (told.stdout + told.stderr).splitlines() if line.startswith("Error")]
    if suffix == ".labelmap.dcm":
        errors = [line for line in errors if not any(known in line for known in _UNKNOWN)]
    assert errors == []


@pytest.mark.skipif(shutil.which("segimage2itkimage") is None, reason="dcmqi (segimage2itkimage) is not installed")
def test_dcmqi_reads_the_same_voxels(tmp_path: Path) -> None:
    labels = labels_on(series(tmp_path / "scan", "oblique"))
    path = write(labels, tmp_path / "case.seg.dcm")
    command = [
        "segimage2itkimage",
        "--inputDICOM",
        path,
        "--outputDirectory",
        tmp_path,
        "--prefix",
        "out",
        "-t",
        "nrrd",
    ]
    subprocess.run(command, check=True, capture_output=True)
    for number, value in enumerate(NAMES, start=1):
        (found,) = read(tmp_path / f"out-{number}.nrrd", labels=True)
        corner = found.geometry.reoriented(found.geometry.reorientation())
        wanted = labels.reoriented()[0]
        assert corner.same_grid(wanted.geometry, 1e-2)
        np.testing.assert_array_equal(found.reoriented()[0].array > 0, wanted.array == value)


def test_pydicom_seg_reads_the_same_voxels(tmp_path: Path) -> None:
    folder = os.environ.get("LUNGSEG_PYDICOM_SEG", "")
    python = shutil.which("python", path=os.pathsep.join((f"{folder}/bin", f"{folder}/Scripts")))
    if python is None:
        pytest.skip("NOT TESTED with pydicom-seg: run `tox -e pydicom-seg`, which makes an environment for it")
    labels = labels_on(series(tmp_path / "scan", "oblique"))
    path = write(labels, tmp_path / "case.seg.dcm")
    program = """if True:
        import sys, numpy, pydicom, pydicom_seg
        found = pydicom_seg.SegmentReader().read(pydicom.dcmread(sys.argv[1]))
        told = {found.segment_infos[n].SegmentLabel: found.segment_data(n) for n in found.available_segments}
        numpy.savez(sys.argv[2], **told, origin=found.origin, spacing=found.spacing, direction=found.direction)
    """
    subprocess.run([python, "-c", program, path, tmp_path / "found.npz"], check=True)
    found = np.load(tmp_path / "found.npz")
    for value, name in NAMES.items():
        np.testing.assert_array_equal(found[name] > 0, labels.array == value)
    # Theirs is (x, y, z), with columns for the array's axes in that order.
    np.testing.assert_allclose(found["origin"][::-1], labels.geometry.origin)
    np.testing.assert_allclose(found["spacing"][::-1], labels.geometry.spacing)
    np.testing.assert_allclose(found["direction"][::-1, ::-1], labels.geometry.direction)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", ["LUNG1-001", "LUNG1-002", "LUNG1-003"])
def test_real_series_come_back(tmp_path: Path, test_data: Path, name: str, suffix: str) -> None:
    scan = test_data / "ct" / "dicom" / name
    (volume,) = read(scan)
    (masks,) = read(test_data / "ct" / "masks" / f"{name}.nii.gz")
    labels = LabelMap(
        np.asarray(masks.array, np.uint8), volume.geometry, {1: "right lung", 2: "left lung"}, source=str(scan)
    )
    path = write(labels, tmp_path / f"case{suffix}")
    assert not re.search(name, str(read(path)[0].findings))
    (found,) = read(path, reference=volume)
    np.testing.assert_array_equal(found.array, labels.array)
    assert found.geometry.same_grid(volume.geometry)
