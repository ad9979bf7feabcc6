"""Anonymised copies: identifiers gone everywhere, pixels and geometry kept, references followed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from command_line import runner
from labelled_series import labels_on, series
from pydicom.dataset import Dataset

from napari_lungseg.errors import ReadError, WriteError
from napari_lungseg.io import read, write
from napari_lungseg.io.anonymise import anonymise
from napari_lungseg.progress import drain
from napari_lungseg.volume import LabelMap, Volume

# What `planted` and `labelled_series` write, each once in its own kind of place.
IDENTIFIERS = (
    b"Mustermann",
    b"Erika",
    b"PAT-4711",
    b"19700101",
    b"Muster^Arzt",
    b"20240229",
    b"Krankenhaus",
    b"12.4.6",
)


def planted(folder: Path) -> Volume:
    """A series with the patient in listed, nested, private and unlisted elements, and in the preamble."""
    nested = Dataset()
    nested.RequestedProcedureDescription = "CT of Mustermann"
    nested.ScheduledProcedureStepID = "PAT-4711"
    deep = Dataset()
    deep.PatientName, deep.CodeMeaning = "Mustermann^Erika", "of Erika"
    nested.ReferencedPatientSequence = [deep]
    volume = series(
        folder, InstitutionName="Krankenhaus", ImageComments="born 19700101", ContrastBolusAgent="Erika 50 ml"
    )
    for path in folder.iterdir():
        image = pydicom.dcmread(path)
        image.RequestAttributesSequence = [nested]
        image.AnatomicRegionSequence = [deep]
        image.DeviceSerialNumber = "12.4.6"
        block = image.private_block(0x0029, "SCANNER PAT-4711", create=True)
        block.add_new(0x10, "LO", "Mustermann")
        image.add_new(0x60000010, "US", 1)
        image.add_new(0x60004000, "LT", "Erika")
        image.file_meta.SourceApplicationEntityTitle = "PAT-4711"
        image.preamble = b"Mustermann".ljust(128, b"\0")
        image.save_as(path)
    return volume


def test_nothing_of_the_patient_is_left(tmp_path: Path) -> None:
    volume = planted(tmp_path / "Mustermann Erika")
    labels = labels_on(volume)
    write(labels, tmp_path / "Mustermann Erika" / "case.seg.dcm")
    before = b"".join(path.read_bytes() for path in (tmp_path / "Mustermann Erika").iterdir())
    assert not [word for word in IDENTIFIERS if word not in before]
    (private,) = drain(anonymise([tmp_path / "Mustermann Erika"], tmp_path / "out"))
    assert private.code == "private-removed" and private.message.startswith("10 private")  # with their creators
    files = sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert len(files) == 6
    old = {str(pydicom.dcmread(path).get(key)) for path in (tmp_path / "Mustermann Erika").iterdir() for key in _UIDS}
    for path in files:
        content = path.read_bytes() + str(path.relative_to(tmp_path)).encode()
        assert not [word for word in (*IDENTIFIERS, *(uid.encode() for uid in old)) if word.lower() in content.lower()]
        image = pydicom.dcmread(path)
        assert image.PatientIdentityRemoved == "YES" and image.PatientID.startswith("ANON-")
        assert image.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    assert len({pydicom.dcmread(path).PatientID for path in files}) == 1


_UIDS = ("StudyInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")


def test_voxels_geometry_and_references_are_kept(tmp_path: Path) -> None:
    volume = series(tmp_path / "scan", "oblique")
    labels = labels_on(volume)
    segmentation = write(labels, tmp_path / "case.seg.dcm")
    drain(anonymise([tmp_path / "scan", segmentation], tmp_path / "out"))
    found = read(tmp_path / "out")
    (image,) = [item for item in found if isinstance(item, Volume)]
    (back,) = [item for item in found if isinstance(item, LabelMap)]
    np.testing.assert_array_equal(np.asarray(image.array), np.asarray(volume.array))
    assert image.geometry == volume.geometry and image.unit == "HU"
    np.testing.assert_array_equal(back.array, labels.array)
    assert back.geometry.same_grid(volume.geometry) and back.names == labels.names
    sent = pydicom.dcmread(next((tmp_path / "out" / "002-SEG").iterdir()))
    slices = [pydicom.dcmread(path) for path in (tmp_path / "out" / "001-CT").iterdir()]
    referenced = sent.ReferencedSeriesSequence[0]
    assert referenced.SeriesInstanceUID == slices[0].SeriesInstanceUID
    uids = {item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence}
    assert uids == {one.SOPInstanceUID for one in slices}
    assert sent.FrameOfReferenceUID == slices[0].FrameOfReferenceUID
    # What was written on the anonymised series is a segmentation as good as any.
    (again,) = read(write(labels_on(image), tmp_path / "again.seg.dcm"))
    np.testing.assert_array_equal(again.array, labels.array)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian's dicom3tools) is not installed")
def test_the_validator_finds_nothing_new(tmp_path: Path) -> None:
    volume = series(tmp_path / "scan")
    labels = [write(labels_on(volume), tmp_path / f"case{suffix}") for suffix in (".seg.dcm", ".rtstruct.dcm")]
    before = {error for path in [next((tmp_path / "scan").iterdir()), *labels] for error in errors_in(path)}
    drain(anonymise([tmp_path / "scan", *labels], tmp_path / "out"))
    after = {error for path in (tmp_path / "out").rglob("*.dcm") for error in errors_in(path)}
    assert after - before == set()


def errors_in(path: Path) -> list[str]:
    told = subprocess.run(["dciodvfy", path], capture_output=True, text=True, errors="replace").stderr
    return [line for line in told.splitlines() if line.startswith("Error")]


def test_the_command_tells_of_burned_in_names_and_leaves_nothing_half(tmp_path: Path, capsys: Any) -> None:
    lungseg = runner(capsys)
    series(tmp_path / "scan", BurnedInAnnotation="YES")
    done = lungseg("anonymise", tmp_path / "scan", "-o", tmp_path / "out")
    assert done.code == 0 and "5 image(s) in 001-CT may show" in done.out
    again = lungseg("anonymise", tmp_path / "scan", "-o", tmp_path / "out")
    assert again.code == 2 and "holds something" in again.err
    steps = anonymise([tmp_path / "scan"], tmp_path / "half")
    next(steps), next(steps), steps.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "scan"]
    with pytest.raises(WriteError):
        drain(anonymise([tmp_path / "scan"], tmp_path / "scan"))
    (tmp_path / "notes.nii").write_bytes(b"x" * 400)
    with pytest.raises(ReadError, match="no DICOM"):
        drain(anonymise([tmp_path / "notes.nii"], tmp_path / "half"))
