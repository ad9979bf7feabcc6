"""Mutated files of every format open rightly or are refused in one sentence; headers are not believed."""

from __future__ import annotations

import gzip
import struct
import sys
import zlib
from pathlib import Path

import fuzz_sources
import fuzzing
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from dicom_phantom import ct_slice, enhanced_ct, places, save, voxels
from fuzz_sources import CONTAINERS
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from napari_lungseg.errors import ReadError
from napari_lungseg.io import dicom_header, read

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="memory is measured through Linux's /proc"
)
# Cases that once crashed, hung, took what memory there was, ended in a traceback or gave wrong voxels.
KEPT = [
    *((7, number) for number in (391, 625, 765, 1529, 1573, 2593, 2947, 3160, 4339, 4399, 4792, 5089, 5515)),
    *((11, number) for number in (87, 3945, 4767, 5109, 6939, 7101, 7575, 7995, 10488, 10749)),
]


def test_mutated_files_open_rightly_or_are_refused(tmp_path: Path) -> None:
    cases = [(fuzzing.SEED, number) for number in range(200)]
    outcomes = fuzzing.run([*KEPT, *cases], tmp_path)
    assert [outcome for outcome in outcomes if fuzzing.is_harm(outcome)] == []
    verdicts = [outcome.verdict for outcome in outcomes]
    assert len(outcomes) == len(KEPT) + 200
    assert min(verdicts.count("volume"), verdicts.count("refused")) > 30
    assert sum(outcome.agrees is True for outcome in outcomes) > 15


def test_mutated_containers_open_rightly_or_are_refused(tmp_path: Path) -> None:
    cases = [(fuzzing.SEED, number) for number in range(90)]
    outcomes = fuzzing.run(cases, tmp_path, formats=CONTAINERS)
    assert [outcome for outcome in outcomes if fuzzing.is_harm(outcome)] == []
    verdicts = [outcome.verdict for outcome in outcomes]
    assert min(verdicts.count("volume"), verdicts.count("refused")) > 15


def test_sound_containers_open(tmp_path: Path) -> None:
    for name, paths in fuzz_sources.write_all(tmp_path, CONTAINERS).items():
        for path in paths:
            items = read(path, reference=None if name == "zip" else path.parent / "beside")
            assert items[0].geometry.shape[1:] == (fuzz_sources.ROWS, fuzz_sources.COLUMNS)


@pytest.mark.slow
def test_six_hundred_mutated_containers(tmp_path: Path) -> None:
    outcomes = fuzzing.run(((fuzzing.SEED, number) for number in range(600)), tmp_path, formats=CONTAINERS)
    sys.stderr.write(f"\n{fuzzing.table(outcomes)}\n")
    assert [outcome for outcome in outcomes if fuzzing.is_harm(outcome)] == []


@pytest.mark.slow
def test_two_thousand_mutated_files(tmp_path: Path) -> None:
    outcomes = fuzzing.run(((fuzzing.SEED, number) for number in range(2000)), tmp_path)
    sys.stderr.write(f"\n{fuzzing.table(outcomes)}\n")
    assert [outcome for outcome in outcomes if fuzzing.is_harm(outcome)] == []


def raw_header(path: Path, **changes: str) -> Path:
    """A MetaImage or NRRD of 4 × 3 × 2 voxels, with fields of its header changed."""
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 4), np.int16)), str(path))
    separator = b": " if "nrrd" in path.name or path.suffix == ".nhdr" else b" = "
    content = path.read_bytes()
    for key, value in changes.items():
        start = content.index(key.replace("_", " ").encode() + separator) + len(key) + len(separator)
        end = content.index(b"\n", start)
        content = content[:start] + value.encode() + content[end:]
    path.write_bytes(content)
    return path


def nifti(path: Path, packed: bool) -> Path:
    header = bytearray(sitk_bytes(path.with_name("plain.nii")))
    struct.pack_into("<8h", header, 40, 3, 32767, 32767, 32767, 1, 1, 1, 1)
    path.write_bytes(gzip.compress(bytes(header)) if packed else bytes(header))
    return path


def sitk_bytes(path: Path) -> bytes:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 4), np.int16)), str(path))
    return path.read_bytes()


def png(path: Path) -> Path:
    content = bytearray(sitk_bytes_2d(path))
    struct.pack_into(">II", content, 16, 100_000, 100_000)
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    return path


def sitk_bytes_2d(path: Path) -> bytes:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4), np.uint8)), str(path))
    return path.read_bytes()


def tiff(path: Path, compression: str | None) -> Path:
    tifffile.imwrite(path, np.zeros((30, 40), np.uint16), metadata=None, compression=compression)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["ImageLength"].overwrite(4_000_000)
        file.pages[0].tags["ImageWidth"].overwrite(4_000_000)
    return path


LIES = {
    "mha": lambda folder: raw_header(folder / "a.mha", DimSize="40000 30000 20000"),
    "mha type": lambda folder: raw_header(folder / "a.mha", ElementType="MET_DOUBLE"),
    "mhd": lambda folder: raw_header(folder / "a.mhd", DimSize="4 3 3"),
    "nrrd": lambda folder: raw_header(folder / "a.nrrd", sizes="40000 30000 20000"),
    "nrrd packed": lambda folder: raw_header(folder / "a.nrrd", sizes="40000 30000 20000", encoding="gzip"),
    "nhdr": lambda folder: raw_header(folder / "a.nhdr", sizes="4 3 3"),
    "nifti": lambda folder: nifti(folder / "a.nii", packed=False),
    "nifti packed": lambda folder: nifti(folder / "a.nii.gz", packed=True),
    "png": lambda folder: png(folder / "a.png"),
    "tiff": lambda folder: tiff(folder / "a.tif", None),
    "tiff packed": lambda folder: tiff(folder / "a.tif", "zlib"),
}


@pytest.mark.parametrize("lie", LIES)
def test_headers_that_claim_more_than_there_is_are_refused_before_memory_is_taken(tmp_path: Path, lie: str) -> None:
    import tracemalloc

    path = LIES[lie](tmp_path)
    tracemalloc.start()
    with pytest.raises(ReadError, match="claims") as caught:
        read(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert path.name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../secret.raw", "sub/../../secret.raw", "/etc/passwd"])
@pytest.mark.parametrize(("suffix", "key"), [("mhd", "ElementDataFile"), ("nhdr", "data_file")])
def test_voxels_are_never_taken_from_outside_the_folder(tmp_path: Path, name: str, suffix: str, key: str) -> None:
    (tmp_path / "secret.raw").write_bytes(bytes(100))
    (tmp_path / "scan").mkdir()
    path = raw_header(tmp_path / "scan" / f"a.{suffix}", **{key: name})
    with pytest.raises(ReadError, match="outside its own folder"):
        read(path)


@pytest.mark.parametrize(("suffix", "key"), [("mhd", "ElementDataFile"), ("nhdr", "data_file")])
def test_voxels_in_a_folder_below_are_read(tmp_path: Path, suffix: str, key: str) -> None:
    path = raw_header(tmp_path / f"a.{suffix}", **{key: "below/a.raw"})
    (tmp_path / "below").mkdir()
    (tmp_path / "a.raw").rename(tmp_path / "below" / "a.raw")
    assert read(path)[0].array.shape == (2, 3, 4)
    (tmp_path / "below" / "a.raw").unlink()
    with pytest.raises(ReadError, match="beside it"):
        read(path)


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr", "a.nii.gz", "a.png"])
def test_one_changed_byte_in_packed_voxels_is_told(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(2)
    shape, kind = ((40, 50), np.uint8) if name.endswith("png") else ((6, 40, 50), np.int16)
    image = sitk.GetImageFromArray(rng.integers(0, 200, shape).astype(kind))
    sitk.WriteImage(image, str(tmp_path / name), useCompression=True)
    assert read(tmp_path / name)
    voxels_file = max(tmp_path.iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(voxels_file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    voxels_file.write_bytes(content)
    with pytest.raises(ReadError, match="damaged"):
        read(tmp_path / name)[0].load()


def test_frames_that_are_promised_must_be_there(tmp_path: Path) -> None:
    axial = (1, 0, 0, 0, 1, 0)
    image = enhanced_ct(voxels(3), places(3, axial), axial)
    image.compress(RLELossless, generate_instance_uid=False)
    del image.PerFrameFunctionalGroupsSequence
    image.NumberOfFrames = 2_000_000_000
    with pytest.raises(ReadError, match="more frames than its 3"):
        read(save(image, tmp_path / "a.dcm"))


def test_a_packed_slice_of_absurd_size_is_refused(tmp_path: Path) -> None:
    image = ct_slice(voxels(1)[0], (0, 0, 0))
    image.compress(RLELossless, generate_instance_uid=False)
    image.Rows = image.Columns = 65535
    with pytest.raises(ReadError, match="far more pixels"):
        read(save(image, tmp_path / "a.dcm"))


def test_a_deflated_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_header, "_MOST_INFLATED", 1 << 20)
    image = ct_slice(np.zeros((2000, 1000), np.uint16), (0, 0, 0))
    image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = save(image, tmp_path / "a.dcm")
    assert path.stat().st_size < 20_000
    with pytest.raises(ReadError, match="unpacks to more than"):
        read(path)


def test_a_tiff_whose_pages_go_in_a_circle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((2, 3, 4), np.uint8), metadata=None)
    content = bytearray(path.read_bytes())
    first = int.from_bytes(content[4:8], "little")
    end = first + 2 + 12 * int.from_bytes(content[first : first + 2], "little")
    content[end : end + 4] = first.to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(ReadError, match="leads nowhere"):
        read(path)
