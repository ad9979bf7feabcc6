"""What a folder, a ZIP file or a disc is said to hold, against what was written into it."""

from __future__ import annotations

import gc
import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_phantom import ORIENTATIONS, ct_series, dataset, enhanced_ct, places, radiograph, save, voxels
from hypothesis import given
from hypothesis import strategies as st
from labelled_series import labels_on, series
from pydicom.fileset import FileSet
from pydicom.uid import generate_uid

from napari_lungseg.errors import ReadError
from napari_lungseg.io import read, write
from napari_lungseg.io.archive import opened, unpacked
from napari_lungseg.io.dicom_header import DamagedFileError
from napari_lungseg.io.dicom_scan import WANTED, scan_header
from napari_lungseg.io.series_list import iter_list_series, list_series
from napari_lungseg.io.thumbnail import thumbnail
from napari_lungseg.volume import LabelMap

AXIAL = ORIENTATIONS["axial head first supine"]
STUDIES = {"first": ("1.2.1", "PAT-1", "20240102"), "second": ("1.2.2", "PAT-2", "20230304")}


def write_series(folder: Path, number: int, slices: int, study: str = "first", **elements) -> list[Path]:
    """A series of one of two patients."""
    uid, patient, date = STUDIES[study]
    told = {"StudyInstanceUID": uid, "PatientID": patient, "PatientName": f"Secret^{patient}", "StudyDate": date}
    told |= {
        "StudyTime": "101112",
        "StudyID": "1",
        "SeriesInstanceUID": f"{uid}.{number}",
        "SeriesNumber": number,
        "FrameOfReferenceUID": f"{uid}.9",
    }
    stored, where = voxels(slices, seed=number), places(slices, AXIAL, gap=1.5)
    return ct_series(folder, stored, where, prefix=f"{study}-{number}-", **(told | elements))


@pytest.fixture
def disc(tmp_path: Path) -> Path:
    """Two patients, three CT series, an overview image, a radiograph, and what is no scan."""
    folder = tmp_path / "disc"
    write_series(folder / "a", 2, 5)
    write_series(folder / "a", 3, 8, SeriesDescription="Lung 1.5")
    write_series(folder / "b", 2, 4, "second")
    write_series(folder / "b", 1, 12, "second", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    film = radiograph(
        np.zeros((8, 9), np.uint16), PatientID="PAT-2", PatientName="Secret^PAT-2", StudyInstanceUID="1.2.3"
    )
    save(film, folder / "c" / "film")
    (folder / "notes.txt").write_text("nothing")
    (folder / "README").write_text("nothing")
    return folder


def packed(folder: Path, path: Path) -> Path:
    """The folder as a ZIP file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def test_a_folder_is_listed_by_patient_date_and_number(disc: Path) -> None:
    listed = list_series(disc)
    rows = [(each.patient, each.date, each.modality, each.number, each.slices) for each in listed.entries]
    assert rows == [
        ("patient 1", "2024-01-02", "CT", 2, 5),
        ("patient 1", "2024-01-02", "CT", 3, 8),
        ("patient 2", "", "DX", 1, 1),
        ("patient 2", "2023-03-04", "CT", 1, 12),
        ("patient 2", "2023-03-04", "CT", 2, 4),
    ]
    assert listed.studies == 3
    assert [each.is_ct for each in listed.entries] == [True, True, False, False, True]
    largest = listed.largest_ct()
    assert largest is listed.entries[1] and largest.spacing == (1.5, 0.7, 0.9) and largest.shape == (6, 9)
    assert largest.name == "CT series 3, Lung 1.5"


def test_nothing_of_the_patient_is_told_unless_asked(disc: Path) -> None:
    listed = list_series(disc)
    assert "Secret" not in repr(listed) and "PAT-" not in repr(listed)
    assert list_series(disc, identifiers=True).entries[0].patient == "Secret^PAT-1, PAT-1"


def test_the_list_agrees_with_what_is_read(disc: Path) -> None:
    for entry in list_series(disc).entries:
        volume, *others = read(disc, series=entry)
        if "localizer" in entry.name:
            assert len(others) == 11  # never stacked
            continue
        assert not others
        assert volume.name == entry.name and volume.geometry.shape == (entry.slices, *entry.shape)
        files = [str(path) for path in entry.files]
        again = [read(name)[0].geometry.origin for name in files] if entry.is_ct else []
        assert again == sorted(again), "files lie in the order of their slices"


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ("largest-ct", [3]),
        ("2", [2, 2]),
        ("row-5", [2]),
        ("row-9", []),
        ("row-0", []),
        ("1.2.1.3", [3]),
        ("ct series 3", [3]),
        ("CT series 3, Lung 1.5", [3]),
        ("7", []),
        ("", []),
    ],
)
def test_a_word_means_series(disc: Path, wanted: str, numbers: list[int]) -> None:
    assert [each.number for each in list_series(disc).pick(wanted)] == numbers


def test_a_series_is_read_from_folder_and_archive_alike(disc: Path, tmp_path: Path) -> None:
    path = packed(disc, tmp_path / "disc.zip")
    (plain,), (unpacked_one,) = read(disc, series="largest-ct"), read(path, series="largest-ct")
    np.testing.assert_array_equal(plain.array, unpacked_one.array)
    assert unpacked_one.geometry == plain.geometry and unpacked_one.source == str(path) and not unpacked_one.is_lazy
    assert len(read(path)) == len(read(disc)) == 16
    here, there = list_series(disc), list_series(path)
    assert [each.name for each in here.entries] == [each.name for each in there.entries]
    with pytest.raises(ReadError, match="no series '77'; found 'CT series 2'"):
        read(path, series="77")


def test_an_archive_of_volumes_and_pictures_is_read(tmp_path: Path, disc: Path) -> None:
    from napari_lungseg.io import write

    (volume,) = read(disc, series="largest-ct")
    write(volume, tmp_path / "volume" / "scan.nii.gz")
    (found,) = read(packed(tmp_path / "volume", tmp_path / "volume.zip"))
    np.testing.assert_array_equal(found.array, volume.array)


def test_names_that_lead_out_of_an_archive_stay_inside(tmp_path: Path) -> None:
    (file,) = write_series(tmp_path / "one", 2, 1)
    path = tmp_path / "evil.zip"
    names = ["../../escaped.dcm", "/etc/escaped.dcm", "..\\..\\escaped.dcm", "C:\\escaped.dcm", "a/../../../.."]
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(names):
            image = pydicom.dcmread(file)
            image.SOPInstanceUID, image.ImagePositionPatient = generate_uid(), [0, 0, number]
            content = io.BytesIO()
            image.save_as(content, enforce_file_format=True)
            archive.writestr(name, content.getvalue())
    before = sorted(tmp_path.rglob("*"))
    with unpacked(path, names) as (files, findings):
        root = files[0].parents[1]
        assert len(files) == 5 and not findings
        assert all(each.resolve().is_relative_to(root.resolve()) and each.is_file() for each in files)
    assert not root.exists()
    (volume,) = read(path, series="largest-ct")
    assert volume.geometry.shape[0] == 3  # names that begin with a dot are hidden files
    assert sorted(tmp_path.rglob("*")) == before


def test_an_archive_that_grows_beyond_reason_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_lungseg.io.archive._BOMB_BYTES", 2**20)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.dcm", bytes(2**23))
    with pytest.raises(ReadError, match="Nothing was unpacked"):
        list_series(path)
    with pytest.raises(ReadError, match="Nothing was unpacked"):
        read(path)


def test_a_member_that_holds_more_than_it_claims_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "liar.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.dcm", bytes(2**20))
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = content.index(mark) + offset
        content[at : at + 4] = struct.pack("<I", 100)
    path.write_bytes(content)
    with pytest.raises(ReadError, match="damaged"), unpacked(path, ["zeros.dcm"]):
        pass


def test_damaged_members_are_told_and_the_rest_is_there(disc: Path, tmp_path: Path) -> None:
    path = packed(disc, tmp_path / "disc.zip")
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("a/first-3-004.dcm")
    content = bytearray(path.read_bytes())
    at = member.header_offset + 30 + len(member.filename)
    content[at : at + member.compress_size] = bytes(member.compress_size)
    path.write_bytes(content)
    listed = list_series(path)
    assert [finding.code for finding in listed.findings] == ["damaged-files"]
    assert "first-3-004.dcm" in listed.findings[0].message
    assert listed.entries[1].slices == 7
    assert "damaged-files" in {finding.code for volume in read(path) for finding in volume.findings}


def test_labels_of_a_zipped_series_are_written_as_dicom(disc: Path, tmp_path: Path) -> None:
    path = packed(disc, tmp_path / "disc.zip")
    (volume,) = read(path, series="largest-ct")
    array = np.zeros(volume.geometry.shape, np.uint8)
    array[1, 2:, 3:] = 1
    labels = LabelMap(array, volume.geometry, {1: "right lung"}, source=volume.source)
    for suffix in (".seg.dcm", ".rtstruct.dcm"):
        (back,) = read(write(labels, tmp_path / f"lungs{suffix}"), reference=path)
        assert back.geometry.same_grid(volume.geometry) and back.names == {1: "right lung"}
    (back,) = read(tmp_path / "lungs.seg.dcm", reference=path)
    assert (np.asarray(back.array) == array).all()


def test_a_structure_set_that_is_picked_lies_on_its_scan(disc: Path) -> None:
    (volume,) = read(disc, series="largest-ct")
    array = np.zeros(volume.geometry.shape, np.uint8)
    array[1, 2:, 3:] = 1
    drawn = LabelMap(array, volume.geometry, {1: "right lung"}, source=volume.source)
    write(drawn, disc / "z.rtstruct.dcm")
    (disc / "z.rtstruct.labels.json").unlink(missing_ok=True)
    (entry,) = (each for each in list_series(disc).entries if each.modality == "RTSTRUCT")
    (back,) = read(disc, series=entry)
    assert back.geometry.same_grid(volume.geometry) and back.names == {1: "right lung"}


def test_a_series_that_proves_damaged_at_its_end_is_told(disc: Path, tmp_path: Path) -> None:
    """Checksums are looked at when a member was read to its end: of a long header that is after the scan of its beginning."""
    (volume,) = read(disc, series="largest-ct")
    drawn = LabelMap(np.ones(volume.geometry.shape, np.uint8), volume.geometry, {1: "lung"}, source=volume.source)
    plan = pydicom.dcmread(write(drawn, disc / "plan.rtstruct.dcm"))
    plan.add_new(0x40104000, "OB", bytes(2**20))
    plan.save_as(disc / "plan.rtstruct.dcm", enforce_file_format=True)
    path = packed(disc, tmp_path / "disc.zip")
    whole = list_series(path)
    content = bytearray(path.read_bytes())
    content[content.rindex(b"plan.rtstruct.dcm") - 46 + 16] ^= 1  # its checksum in the list at the archive's end
    path.write_bytes(content)
    listed = list_series(path)
    assert [each.uid for each in listed.entries] == [each.uid for each in whole.entries if not each.is_labels]
    assert "plan.rtstruct.dcm could not be read" in listed.findings[0].message


def test_archives_within_archives_and_locked_ones_are_told(disc: Path, tmp_path: Path) -> None:
    inner = packed(disc / "a", tmp_path / "inner.zip")
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.write(inner, "inner.zip")
    for attempt in (list_series, read):
        with pytest.raises(ReadError, match=r"1 ZIP file.*unpack it and open them"):
            attempt(tmp_path / "outer.zip")
    content = bytearray(inner.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := content.find(mark, at + 1)) >= 0:
            content[at + offset] |= 1
    inner.write_bytes(content)
    with pytest.raises(ReadError, match="password"):
        list_series(inner)
    (tmp_path / "torn.zip").write_bytes(packed(disc, tmp_path / "whole.zip").read_bytes()[:-300])
    with pytest.raises(ReadError, match="damaged ZIP"):
        list_series(tmp_path / "torn.zip")


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS", "ignore:Implicitly cleaning up:ResourceWarning")
def test_a_dicomdir_lists_its_disc_and_nothing_outside(disc: Path, tmp_path: Path) -> None:
    files = FileSet()
    for path in sorted((disc / "a").iterdir()):
        files.add(path)
    files.write(tmp_path / "cd")
    del files  # pydicom's temporary folder goes with it
    gc.collect()
    listed = list_series(tmp_path / "cd" / "DICOMDIR")
    assert [(each.number, each.slices) for each in listed.entries] == [(2, 5), (3, 8)] and not listed.findings
    (volume,) = read(tmp_path / "cd" / "DICOMDIR", series="largest-ct")
    (expected,) = read(disc, series="largest-ct")
    np.testing.assert_array_equal(volume.array, expected.array)
    assert len(read(tmp_path / "cd" / "DICOMDIR")) == 2

    Path(listed.entries[0].files[0]).unlink()
    (finding,) = list_series(tmp_path / "cd" / "DICOMDIR").findings
    assert finding.code == "missing-files" and "1 of 13" in finding.message

    directory = pydicom.dcmread(tmp_path / "cd" / "DICOMDIR")
    for record in directory.DirectoryRecordSequence:
        if "ReferencedFileID" in record:
            record.ReferencedFileID = ["..", "disc", "a", "first-2-000.dcm"]
    directory.save_as(tmp_path / "cd" / "DICOMDIR")
    with pytest.raises(ReadError, match="None of the 13 files"):
        list_series(tmp_path / "cd" / "DICOMDIR")


def test_labels_are_listed_behind_the_scans_of_their_study(tmp_path: Path) -> None:
    volume = series(tmp_path / "scan")
    for suffix in (".seg.dcm", ".rtstruct.dcm"):
        write(labels_on(volume), tmp_path / f"a{suffix}")
    write_series(tmp_path / "other", 3, 4)
    listed = list_series(tmp_path)
    rows = [
        (each.modality, each.slices, each.spacing, each.is_labels) for each in listed.entries if each.study != "1.2.1"
    ]
    assert rows[0] == ("CT", 5, (2.5, 0.7, 0.9), False) and len(listed.scans) == 2
    # Of a segmentation the slices are counted, not its frames: one for each of four segments on a slice.
    assert rows[1:] == [("RTSTRUCT", 0, None, True), ("SEG", 5, (2.5, 0.7, 0.9), True)]
    (scan,) = (each for each in listed.scans if each.study != "1.2.1")
    assert listed.largest_ct() is scan
    assert {each.study for each in listed.entries if each.is_labels} == {scan.study}
    assert [each.modality for each in listed.pick("900004")] == ["RTSTRUCT", "SEG"]
    assert [each.modality for each in listed.pick("SEG")] == ["SEG"]
    assert "Mustermann" not in repr(listed)


def test_frames_count_as_slices(tmp_path: Path) -> None:
    image = enhanced_ct(voxels(7), places(7, AXIAL), AXIAL, SeriesNumber=6)
    save(image, tmp_path / "enhanced" / "IM1")
    (entry,) = list_series(tmp_path / "enhanced").entries
    assert (entry.slices, entry.spacing, entry.is_ct) == (7, (2.5, 0.7, 0.9), True)


def test_cancelling_closes_what_is_open(disc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_lungseg.io.series_list._YIELD_EVERY", 0)
    path = packed(disc, tmp_path / "disc.zip")
    closed: list[bool] = []
    close = zipfile.ZipFile.close
    monkeypatch.setattr(zipfile.ZipFile, "close", lambda self: (closed.append(True), close(self))[1])
    steps = iter_list_series(path)
    seen = [next(steps) for _ in range(4)]
    assert [step.done for step in seen][1:] == [0, 1, 2] and seen[-1].total == 31
    steps.close()
    assert closed


def test_nothing_to_list_is_said(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("nothing")
    with pytest.raises(ReadError, match="holds no DICOM series"):
        list_series(tmp_path)
    with pytest.raises(ReadError, match="no file or folder"):
        list_series(tmp_path / "missing")


def test_a_thumbnail_shows_the_middle_slice_in_its_true_shape(tmp_path: Path, disc: Path) -> None:
    stored = np.zeros((5, 6, 9), np.uint16)
    stored[2, :3, :4] = 3000
    ct_series(tmp_path / "one", stored, places(5, AXIAL), AXIAL, RescaleIntercept=-1024)
    for path in (tmp_path / "one", packed(tmp_path / "one", tmp_path / "one.zip")):
        picture = thumbnail(list_series(path).entries[0], 54)
        assert picture.shape == (28, 54) and picture.dtype == np.uint8  # 4.2 × 8.1 mm
        assert picture[:13, :23].min() == 255 and picture[15:].max() < 255 and picture[:, 25:].max() < 255
    colours = np.zeros((6, 9, 3), np.uint8)
    colours[..., 1] = 200
    save(dataset(colours, Modality="XC"), tmp_path / "colour" / "1")
    assert thumbnail(list_series(tmp_path / "colour").entries[0], 18).tolist()[0][0] == [0, 200, 0]


def by_pydicom(content: bytes) -> dict[str, str]:
    header = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
    found = {keyword: header.get(keyword) for keyword in WANTED.values() if header.get(keyword) is not None}
    return {
        k: "\\".join(map(str, v)) if isinstance(v, pydicom.multival.MultiValue) else str(v) for k, v in found.items()
    }


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"])
@pytest.mark.parametrize("undefined", [False, True])
def test_the_walk_finds_what_pydicom_finds(syntax: str, undefined: bool) -> None:
    """Sequences of either kind of length stand before what is wanted, with the wanted elements inside them too."""
    image = radiograph(np.zeros((8, 9), np.uint16), StudyInstanceUID="1.2.3", ImagePositionPatient=[1.5, -2, 3])
    inner = pydicom.Dataset()
    inner.PatientID, inner.Rows = "inside", 3
    outer = pydicom.Dataset()
    outer.ReferencedImageSequence, outer.SeriesInstanceUID = [inner, inner], "1.9"
    image.ReferencedStudySequence = [outer, outer]
    image["ReferencedStudySequence"].is_undefined_length = undefined
    for item in (outer, inner):
        item.is_undefined_length_sequence_item = undefined
    outer["ReferencedImageSequence"].is_undefined_length = undefined
    image.file_meta.TransferSyntaxUID = syntax
    content = io.BytesIO()
    image["PixelData"].VR = "OW"
    pydicom.dcmwrite(content, image, implicit_vr=syntax.endswith("1.2"), little_endian=not syntax.endswith("2.2"))
    found = scan_header(io.BytesIO(content.getvalue()))
    assert found == by_pydicom(content.getvalue()) and found["PatientID"] == "PAT-4711" and found["Rows"] == "8"


def test_a_header_longer_than_one_read_is_understood() -> None:
    image = radiograph(np.zeros((8, 9), np.uint16), StudyInstanceUID="1.2.3")
    image.private_block(0x0009, "LONG", create=True).add_new(1, "OB", bytes(40_000))
    content = io.BytesIO()
    image.save_as(content, enforce_file_format=True)
    assert scan_header(io.BytesIO(content.getvalue())) == by_pydicom(content.getvalue())


@given(st.data())
def test_a_damaged_header_is_told_and_never_more(data: st.DataObject) -> None:
    image = radiograph(np.zeros((2, 2), np.uint16), StudyInstanceUID="1.2.3", SOPInstanceUID="1.2.3.4")
    image.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    content = io.BytesIO()
    image.save_as(content, enforce_file_format=True)
    damaged = bytearray(content.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(132, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(140, len(damaged)))]
    try:
        found = scan_header(io.BytesIO(damaged))
    except DamagedFileError:
        return
    assert found is None or set(found) <= set(WANTED.values())


def test_an_archive_is_closed_after_its_check(disc: Path, tmp_path: Path) -> None:
    with opened(packed(disc, tmp_path / "disc.zip")) as archive:
        assert archive.namelist()
    assert archive.fp is None
