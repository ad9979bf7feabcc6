"""What a radiographer may hand over by mistake: each case one clear sentence, exit code 2, and nothing written."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from command_line import runner, save_untrained
from dicom_phantom import ct_slice, save

from napari_lungseg.io import write
from napari_lungseg.phantom import thorax_ct, thorax_xray


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {kind: save_untrained(folder / f"{kind}.safetensors", kind) for kind in ("ct", "xray")}


@pytest.fixture
def lungseg(capsys):
    return runner(capsys)


def truncated_dicom(folder: Path) -> Path:
    path = save(ct_slice(np.zeros((64, 64), np.uint16), (0, 0, 0)), folder / "slice.dcm")
    path.write_bytes(path.read_bytes()[:-3000])
    return path


def cut_in_the_header(folder: Path) -> Path:
    path = save(ct_slice(np.zeros((64, 64), np.uint16), (0, 0, 0)), folder / "slice.dcm")
    path.write_bytes(path.read_bytes()[:300])
    return path


def empty_folder(folder: Path) -> Path:
    path = folder / "empty"
    path.mkdir(parents=True)
    return path


def empty_file(folder: Path) -> Path:
    path = folder / "nothing.nii.gz"
    path.touch()
    return path


def text_named_dcm(folder: Path) -> Path:
    path = folder / "report.dcm"
    path.write_text("Lungs clear. No effusion.\n" * 20)
    return path


def text_named_nifti(folder: Path) -> Path:
    path = folder / "report.nii"
    path.write_text("Lungs clear. No effusion.\n" * 50)
    return path


def nan_spacing(folder: Path) -> Path:
    path = folder / "nan.nii"
    sitk.WriteImage(sitk.GetImageFromArray(np.full((4, 40, 40), -500, np.int16)), str(path))
    raw = bytearray(path.read_bytes())
    raw[76 + 4 : 76 + 16] = struct.pack("<3f", *[float("nan")] * 3)  # pixdim[1…3]
    raw[252:256] = struct.pack("<2h", 0, 0)  # neither qform nor sform, so that pixdim is what counts
    path.write_bytes(raw)
    return path


def colour_photograph(folder: Path) -> Path:
    path = folder / "holiday.png"
    colours = np.random.default_rng(0).integers(0, 255, (80, 90, 3)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(path))
    return path


def one_pixel(folder: Path) -> Path:
    path = folder / "pixel.png"
    sitk.WriteImage(sitk.GetImageFromArray(np.full((1, 1), 7, np.uint8)), str(path))
    return path


def radiograph(folder: Path) -> Path:
    return write(thorax_xray((64, 72))[0], folder / "film.png")


def scan(folder: Path) -> Path:
    return write(thorax_ct((4, 40, 50))[0], folder / "scan.nii.gz")


def label_map(folder: Path) -> Path:
    return write(thorax_ct((4, 40, 50))[1], folder / "lung-labels.nii.gz")


CASES = [
    (truncated_dicom, "ct", "pixel|truncat|incomplete|cut"),
    (cut_in_the_header, "ct", "DICOM"),
    (empty_folder, "ct", "holds 0 file"),
    (empty_file, "ct", "empty"),
    (text_named_dcm, "ct", "DICOM"),
    (text_named_nifti, "ct", "report.nii"),
    (nan_spacing, "ct", "spacing"),
    (colour_photograph, "ct", "colour photograph"),
    (colour_photograph, "xray", "colour photograph"),
    (colour_photograph, None, "photo"),
    (one_pixel, "xray", "1 × 1"),
    (radiograph, "ct", "is for a chest CT, but this image is a chest X-ray"),
    (scan, "xray", "is for a chest X-ray, but this image is a chest CT"),
    (label_map, "ct", "label map"),
    (lambda folder: folder / "missing.dcm", "ct", "no file or folder"),
]


@pytest.mark.parametrize(("make", "model", "says"), CASES, ids=[f"{case[0].__name__}-{case[1]}" for case in CASES])
def test_one_clear_sentence_and_nothing_written(lungseg, models, tmp_path, make, model, says):
    inputs, out = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    path = make(inputs)
    before = sorted(inputs.rglob("*"))
    chosen = ["--model", models[model]] if model else []
    for target in (out, tmp_path / "labels.nii.gz"):
        done = lungseg("segment", path, "-o", target, *chosen)
        assert done.code == 2
        assert done.out == ""
        (line,) = done.err.strip().splitlines()
        assert line.startswith("lungseg: ")
        assert path.name in line
        assert any(word in line for word in says.split("|")), line
        assert "Traceback" not in line
        assert "Error(" not in line
        assert 30 < len(line) < 600
        assert not target.exists()
    assert sorted(inputs.rglob("*")) == before


def test_the_same_pipeline_works_on_good_input(lungseg, models, tmp_path):
    """So that the refusals above are refusals of the input, not of everything."""
    for make, model in ((scan, "ct"), (radiograph, "xray")):
        path = make(tmp_path / "in")
        done = lungseg("segment", path, "-o", tmp_path / "out", "--model", models[model], "--device", "cpu")
        assert done.code == 0, done.err
    assert {path.name for path in (tmp_path / "out").glob("*.nii.gz")} == {"scan-labels.nii.gz", "film-labels.nii.gz"}


@pytest.mark.parametrize("make", [cut_in_the_header, empty_folder, text_named_dcm, nan_spacing])
def test_info_refuses_in_one_sentence_too(lungseg, tmp_path, make):
    (tmp_path / "in").mkdir()
    done = lungseg("info", make(tmp_path / "in"))
    assert (done.code, done.out) == (2, "")
    assert len(done.err.strip().splitlines()) == 1


def test_a_damaged_model_is_one_sentence(lungseg, tmp_path):
    model = tmp_path / "mine.safetensors"
    model.write_bytes(b"\x00" * 100)
    done = lungseg("segment", scan(tmp_path / "in"), "-o", tmp_path / "out", "--model", model)
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1
    assert "mine.safetensors" in done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["labels.jpg", "labels.xyz"])
def test_an_output_that_ends_like_a_file_of_no_known_kind_is_refused(lungseg, models, tmp_path, name):
    outcome = lungseg("segment", radiograph(tmp_path), "-o", tmp_path / name, "--model", models["xray"])
    assert outcome.code == 2
    assert name in outcome.err and ".nii.gz" in outcome.err
    assert not (tmp_path / name).exists()
