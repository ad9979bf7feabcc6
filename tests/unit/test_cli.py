"""The command line: names, formats, JSON, exit codes; with a segmenter that needs no model."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from command_line import SHAPE, quick_runner, rows_of
from dicom_phantom import ct_series, places
from labelled_series import foreign, labels_on, series

from napari_lungseg.analysis.table import Table
from napari_lungseg.cli import demo, show
from napari_lungseg.cli.outputs import slug
from napari_lungseg.errors import LungSegError
from napari_lungseg.io import read, write
from napari_lungseg.phantom import thorax_ct, thorax_xray
from napari_lungseg.segmentation.predict import SegmentSettings
from napari_lungseg.settings import fields_of


@pytest.fixture
def lungseg(capsys, monkeypatch):
    return quick_runner(capsys, monkeypatch)


@pytest.fixture(scope="module")
def scan():
    return thorax_ct(SHAPE, seed=1)


@pytest.fixture
def ct_file(scan, tmp_path):
    return write(scan[0], tmp_path / "in" / "patient one.nii.gz")


@pytest.fixture
def xray_file(tmp_path):
    return write(thorax_xray((64, 72))[0], tmp_path / "in" / "film.png")


def series_folder(folder: Path, numbers=(4, 5)) -> Path:
    for number in numbers:
        stored = np.random.default_rng(number).integers(0, 2000, (4, 40, 44)).astype(np.uint16)
        where = places(4, (1, 0, 0, 0, 1, 0))
        ct_series(folder, stored, where, prefix=f"{number}-", SeriesNumber=number, SeriesInstanceUID=f"1.2.{number}")
    return folder


def test_one_volume_goes_to_the_file_named(lungseg, ct_file, tmp_path, scan):
    target = tmp_path / "out.mha"
    done = lungseg("segment", ct_file, "-o", target)
    assert (done.code, done.err) == (0, "")
    assert str(target) in done.out
    assert "right lung" in done.out
    image = sitk.ReadImage(str(target))
    assert np.array_equal(sitk.GetArrayFromImage(image) > 0, scan[0].array < -300)
    assert image.GetSpacing()[::-1] == pytest.approx(scan[0].geometry.spacing)
    assert image.GetOrigin()[::-1] == pytest.approx(scan[0].geometry.origin)


def test_findings_stand_under_the_result_and_brackets_are_no_markup(lungseg, ct_file, tmp_path):
    done = lungseg("segment", ct_file, "-o", tmp_path / "out")
    assert "  ! Made by a rule of thumb [not a network]." in done.out.splitlines()


def test_files_in_a_folder_are_called_after_inputs_and_stay_apart(lungseg, ct_file, xray_file, scan, tmp_path):
    same_stem = write(scan[0], tmp_path / "other" / "patient one.nrrd")
    out = tmp_path / "labels"
    done = lungseg("segment", ct_file, xray_file, same_stem, "-o", out, "--format", "nrrd")
    assert done.code == 0, done.err
    names = sorted(path.name for path in out.iterdir() if path.suffix == ".nrrd")
    assert names == ["film-labels.nrrd", "patient one-2-labels.nrrd", "patient one-labels.nrrd"]


def test_every_series_of_a_folder_gets_its_own_neutral_name(lungseg, tmp_path):
    folder = series_folder(tmp_path / "study")
    done = lungseg("segment", folder, "-o", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    outputs = [Path(record["output"]).name for record in json.loads(done.out)]
    assert len(set(outputs)) == 2
    assert all(name.startswith("study-ct-series-") and name.endswith("-labels.nii.gz") for name in outputs)
    assert "ustermann" not in " ".join(outputs) + done.out + done.err
    assert all((tmp_path / "out" / name).exists() for name in outputs)


def test_several_volumes_do_not_fit_one_file(lungseg, ct_file, xray_file, tmp_path):
    folder = series_folder(tmp_path / "study")
    for paths in ([ct_file, xray_file], [folder]):
        done = lungseg("segment", *paths, "-o", tmp_path / "one.nii.gz")
        assert done.code == 2
        assert "2" in done.err
        assert "folder" in done.err
        assert not (tmp_path / "one.nii.gz").exists()


def test_inputs_are_never_overwritten(lungseg, ct_file, tmp_path):
    before = ct_file.read_bytes()
    series = series_folder(tmp_path / "study", [4])
    slice_file = sorted(series.iterdir())[0]
    for path, target in ((ct_file, ct_file), (ct_file, ct_file.parent / ".." / "in" / ct_file.name)):
        done = lungseg("segment", path, "-o", target, "--overwrite")
        assert (done.code, done.out) == (2, "")
        assert "never overwritten" in done.err
    assert ct_file.read_bytes() == before
    assert slice_file.exists()


def test_labels_that_exist_are_replaced_only_with_leave(lungseg, ct_file, tmp_path):
    target = tmp_path / "out.nii.gz"
    target.write_text("precious")
    done = lungseg("segment", ct_file, "-o", target)
    assert done.code == 2
    assert "--overwrite" in done.err
    assert repr(str(target)) in done.err  # the folder too: names repeat
    assert target.read_text() == "precious"
    assert lungseg("segment", ct_file, "-o", target, "--overwrite").code == 0
    assert len(read(target)) == 1


def test_one_bad_input_does_not_stop_the_others(lungseg, ct_file, xray_file, tmp_path):
    bad = tmp_path / "in" / "bad.dcm"
    bad.write_text("not DICOM")
    done = lungseg("segment", ct_file, bad, xray_file, "-o", tmp_path / "out", "--json")
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1
    assert "bad.dcm" in done.err
    records = json.loads(done.out)
    assert ["error" in record for record in records] == [False, True, False]
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 2


def test_json_is_all_that_stands_on_the_output(lungseg, ct_file, tmp_path):
    (record,) = json.loads(lungseg("segment", ct_file, "-o", tmp_path / "out", "--json", "--device", "cpu").out)
    assert record["path"] == str(ct_file)
    assert Path(record["output"]).exists()
    assert record["record"]["device"] == "cpu"
    assert [row["name"] for row in record["labels"]] == ["right lung", "left lung", "both"]
    assert record["labels"][2]["volume_ml"] == pytest.approx(sum(row["volume_ml"] for row in record["labels"][:2]))
    assert record["findings"][-1] == {"code": "look-closely", "message": "Made by a rule of thumb [not a network]."}


def test_flags_are_the_settings_themselves(lungseg, ct_file, tmp_path):
    flags = ["--batch-size", 3, "--precision", "float32", "--mirror", "--no-postprocess"]
    (record,) = json.loads(lungseg("segment", ct_file, "-o", tmp_path / "out", "--json", *flags).out)
    settings = record["record"]["settings"]
    assert (settings["batch_size"], settings["precision"], settings["mirror"], settings["postprocess"]) == (
        3,
        "float32",
        True,
        False,
    )
    shown = " ".join(lungseg("segment", "--help").out.replace("│", " ").split())
    for info in fields_of(SegmentSettings):
        assert f"--{info.name.replace('_', '-')}" in shown
        assert info.help.split()[0] in shown


@pytest.mark.parametrize(
    ("flag", "value"), [("--batch-size", "0"), ("--batch-size", "many"), ("--precision", "int3"), ("--nonsense", "1")]
)
def test_a_wrong_option_is_one_line(lungseg, ct_file, tmp_path, flag, value):
    done = lungseg("segment", ct_file, "-o", tmp_path / "out", flag, value)
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1
    assert done.err.startswith("lungseg: ")
    assert not (tmp_path / "out").exists()


def test_an_unknown_model_is_told_before_anything_is_read(lungseg, tmp_path):
    done = lungseg("segment", tmp_path / "missing.nii", "-o", tmp_path, "--model", "ct-lnugs")
    assert done.code == 2
    assert "ct-lnugs" in done.err
    assert "missing" not in done.err


@pytest.mark.parametrize(
    ("flags", "says"), [(("--device", "cuda:9"), "cuda:9"), (("--device", "cpu", "--precision", "float16"), "float16")]
)
def test_a_missing_device_is_told_once_before_anything_is_read(lungseg, ct_file, xray_file, tmp_path, flags, says):
    done = lungseg("segment", ct_file, xray_file, tmp_path / "missing.nii", "-o", tmp_path / "out", *flags)
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.strip().splitlines()
    assert says in line
    assert "missing" not in line


def test_one_series_of_several_is_picked_by_number_or_name(lungseg, tmp_path):
    folder = series_folder(tmp_path / "study", (4, 5, 41))
    names = [record["name"] for record in json.loads(lungseg("info", folder, "--json").out)]
    assert len(set(names)) == 3
    assert "ustermann" not in " ".join(names)
    for given, number in (("4", 4), (names[1], 5), (names[2].upper(), 41)):
        (record,) = json.loads(lungseg("info", folder, "--series", given, "--json").out)
        assert f"series {number}" in f"{record['name']} "
    done = lungseg("segment", folder, "--series", 5, "-o", tmp_path / "one.nii.gz")
    assert done.code == 0, done.err
    assert lungseg("measure", folder, tmp_path / "one.nii.gz", "--series", 5).code == 0
    several = lungseg("measure", folder, tmp_path / "one.nii.gz")
    missing = lungseg("info", folder, "--series", 6)
    assert (several.code, missing.code) == (2, 2)
    assert "--series" in several.err
    assert all(name in several.err and name in missing.err for name in names)


def test_a_number_of_several_series_tells_their_rows_and_a_row_that_is_none_tells_how_many(lungseg, tmp_path):
    folder = series_folder(tmp_path / "study")
    where = places(3, (1, 0, 0, 0, 1, 0))
    ct_series(folder, np.zeros((3, 40, 44), np.uint16), where, prefix="6-", SeriesNumber=5, SeriesInstanceUID="1.2.6")
    several = lungseg("report", folder, tmp_path / "labels.nii.gz", "--series", 5, "-o", tmp_path / "page.html")
    assert several.code == 2
    assert "--series 5 means 2 series: 'row-2 CT series 5', 'row-3 CT series 5'" in several.err
    assert "row-N of `lungseg series`" in several.err
    assert len(json.loads(lungseg("info", folder, "--series", "row-3", "--json").out)) == 1
    none = lungseg("info", folder, "--series", "row-999")
    assert none.code == 2
    assert none.err.endswith("There is no row-999; `lungseg series` lists 3 series.\n")


def test_an_argument_that_nobody_typed_is_called_missing(lungseg, ct_file):
    for typed, said in (
        (("segment", ct_file), "--out or -o is missing: `lungseg segment` needs it. See --help."),
        (("measure", ct_file), "LABELS is missing: `lungseg measure` needs it. See --help."),
    ):
        done = lungseg(*typed)
        assert (done.code, done.err) == (2, f"lungseg: {said}\n")
    assert "requires an argument" in lungseg("segment", ct_file, "-o").err


def test_labels_of_a_picture_in_a_placed_format_come_with_one_hint(lungseg, ct_file, xray_file, tmp_path):
    same = write(thorax_xray((64, 72))[0], tmp_path / "in" / "film two.png")
    for sidecar in same.parent.glob("*.volume.json"):  # a picture from elsewhere has none
        sidecar.unlink()
    assert lungseg("segment", xray_file, same, "-o", tmp_path / "nifti").out.count("--format png") == 1
    assert "--format png" not in lungseg("segment", xray_file, "-o", tmp_path / "png", "--format", "png").out
    assert "--format png" not in lungseg("segment", ct_file, "-o", tmp_path / "ct").out


def test_a_single_slice_of_a_ct_has_an_area_and_says_what_its_volume_is_of(lungseg, scan, tmp_path):
    grid = scan[0].geometry
    one = dataclasses.replace(
        scan[0], array=scan[0].array[3:4], geometry=dataclasses.replace(grid, shape=(1, *grid.shape[1:]))
    )
    path = write(one, tmp_path / "slice.nii.gz")
    done = lungseg("segment", path, "-o", tmp_path / "out")
    assert f"cm² (one slice of {grid.spacing[0]:.3g} mm: " in done.out
    (record,) = json.loads(lungseg("segment", path, "-o", tmp_path / "again", "--json").out)
    row = record["labels"][0]
    assert row["area_mm2"] == pytest.approx(row["voxels"] * grid.spacing[1] * grid.spacing[2], rel=1e-4)
    assert row["volume_ml"] == pytest.approx(row["area_mm2"] * grid.spacing[0] / 1000, rel=1e-4)


def test_ctrl_c_leaves_nothing_half_written(lungseg, ct_file, tmp_path, monkeypatch):
    def interrupted(*args, **options):
        yield from ()
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_lungseg.segmentation.predict.iter_segment", interrupted)
    done = lungseg("segment", ct_file, "-o", tmp_path / "out")
    assert done.code == 130
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_an_offset_makes_hounsfield_units(lungseg, scan, tmp_path):
    image = sitk.GetImageFromArray((scan[0].array + 1024).astype(np.uint16))
    path = tmp_path / "offset.nii.gz"
    sitk.WriteImage(image, str(path))
    assert json.loads(lungseg("info", path, "--modality", "ct", "--json").out)[0]["unit"] == "a.u."
    lung = (scan[0].array < -300).sum()
    for given in ("-1024", "auto"):
        done = lungseg("segment", path, "-o", tmp_path / given, "--modality", "ct", "--hu-offset", given, "--json")
        assert done.code == 0, done.err
        assert json.loads(done.out)[0]["labels"][2]["voxels"] == lung


def test_a_label_map_is_not_segmented(lungseg, scan, tmp_path):
    path = write(scan[1], tmp_path / "lungs-labels.nii.gz")
    done = lungseg("segment", path, "-o", tmp_path / "out")
    assert done.code == 2
    assert "label map" in done.err


def test_info_tells_the_geometry_in_exactly_the_promised_keys(lungseg, ct_file, scan):
    (record,) = json.loads(lungseg("info", ct_file, "--json").out)
    assert list(record) == ["path", "modality", "shape", "spacing", "origin", "direction", "unit", "findings", "name"]
    assert record["shape"] == list(SHAPE)
    assert record["spacing"] == pytest.approx(scan[0].geometry.spacing, abs=1e-4)
    assert record["origin"] == pytest.approx(scan[0].geometry.origin, abs=1e-4)
    assert (record["modality"], record["unit"]) == ("ct", "HU")
    assert np.asarray(record["direction"]) == pytest.approx(np.eye(3))
    assert all(set(finding) == {"code", "message"} for finding in record["findings"])


def test_info_for_people_names_axes_units_and_findings(lungseg, ct_file, xray_file):
    done = lungseg("info", ct_file, xray_file)
    assert "ct in HU, 6 × 40 × 50 voxels" in done.out
    assert "axes run to H, P, L" in done.out
    assert done.out.count("H and F head and feet") == 1
    assert "film.png" in done.out


def test_info_goes_on_after_a_bad_file(lungseg, ct_file, tmp_path):
    done = lungseg("info", tmp_path / "nowhere", ct_file, "--json")
    assert done.code == 2
    assert len(json.loads(done.out)) == 1
    assert "nowhere" in done.err


def test_models_are_listed(lungseg, monkeypatch):
    from napari_lungseg.models.catalog import Entry
    from napari_lungseg.models.spec import ModelSpec

    spec = ModelSpec(
        "ct-lungs",
        "unet",
        names={1: "right lung", 2: "left lung"},
        licence="CC-BY-4.0",
        training={"figures": {"Dice": 0.975}},
    )
    monkeypatch.setattr("napari_lungseg.models.catalog.entries", lambda: [Entry(spec, "bundled")])
    (record,) = json.loads(lungseg("models", "--json").out)
    assert record["labels"] == {"1": "right lung", "2": "left lung"}
    assert (record["licence"], record["figures"]) == ("CC-BY-4.0", {"Dice": 0.975})
    assert record["state"] == "bundled"
    shown = lungseg("models").out
    for word in ("ct-lungs", "1 right lung, 2 left lung", "CC-BY-4.0", "Dice 0.975"):
        assert word in shown
    monkeypatch.setattr("napari_lungseg.models.catalog.entries", list)
    assert lungseg("models").code == 2


def test_evaluate_prints_and_writes_the_table(lungseg, scan, tmp_path):
    reference = write(scan[1], tmp_path / "reference.nii.gz")
    out = tmp_path / "scores.csv"
    done = lungseg("evaluate", reference, reference, "-o", out, "--json")
    assert done.code == 0, done.err
    assert [row["dice"] for row in json.loads(done.out)] == [1, 1, 1]
    assert [row["hd95_mm"] for row in rows_of(out)] == ["0.0"] * 3
    assert "right lung" in lungseg("evaluate", reference, reference).out
    assert "hd95 (mm)" in lungseg("evaluate", reference, reference).out


def test_evaluate_refuses_another_grid_in_one_line(lungseg, scan, tmp_path):
    reference = write(scan[1], tmp_path / "reference.nii.gz")
    other = write(thorax_ct((6, 40, 48))[1], tmp_path / "other.nii.gz")
    done = lungseg("evaluate", other, reference)
    assert done.code == 2
    assert "6 × 40 × 48" in done.err
    assert "6 × 40 × 50" in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_measure_prints_hounsfield_units(lungseg, ct_file, scan, tmp_path):
    labels = write(scan[1], tmp_path / "labels.nii.gz")
    rows = json.loads(lungseg("measure", ct_file, labels, "--json").out)
    lung = scan[0].array[scan[1].array == 1]
    assert rows[0]["median_HU"] == pytest.approx(float(np.median(lung)))
    assert rows[0]["voxels"] == lung.size


@pytest.mark.parametrize("command", [("measure",), ("report", "-o", "report.html")])
def test_image_and_labels_in_each_others_place_are_named(lungseg, ct_file, scan, tmp_path, command):
    name, *flags = command
    labels = write(scan[1], tmp_path / "marks.nii.gz")
    for given, said in (
        ((labels, ct_file), "marks.nii.gz is a label map, not an image"),
        ((labels, labels), "marks.nii.gz is a label map, not an image"),
        ((ct_file, ct_file), "patient one.nii.gz is no label map"),
    ):
        done = lungseg(name, *given, *flags)
        assert (done.code, done.out) == (2, "")
        assert said in done.err
        assert len(done.err.strip().splitlines()) == 1
    assert lungseg("measure", labels, labels, "--modality", "ct").code == 0


def test_contours_that_lie_elsewhere_are_drawn_on_the_image_that_is_measured(lungseg, tmp_path):
    volume = series(tmp_path / "scan")
    contours = write(labels_on(volume), tmp_path / "marks" / "lungs.rtstruct.dcm")
    contours.with_name("lungs.labels.json").unlink()  # it knows the grid
    rows = json.loads(lungseg("measure", tmp_path / "scan", contours, "--json").out)
    assert rows[0]["voxels"] == np.count_nonzero(labels_on(volume).array == 1)
    assert lungseg("report", tmp_path / "scan", contours, "-o", tmp_path / "page.html").code == 0
    alone = lungseg("info", contours)
    assert alone.code == 2
    assert "the scan they were drawn on is not here" in alone.err
    assert "--reference" not in alone.err


def test_labels_that_overlap_are_measured_one_by_one(lungseg, tmp_path):
    volume = series(tmp_path / "scan")
    segments = np.zeros((*volume.geometry.shape, 3), np.uint8)
    segments[1:3, 2:9, 2:9, 0] = segments[2, 5:7, 5:7, 1] = segments[4, 1:3, 1:3, 2] = 1
    foreign(volume, "BINARY", segments).save_as(tmp_path / "marks.dcm", enforce_file_format=True)
    done = lungseg("measure", tmp_path / "scan", tmp_path / "marks.dcm", "--json")
    rows = json.loads(done.out)
    assert [(row["name"], row["voxels"]) for row in rows] == [("thing 1", 98), ("thing 2", 4), ("thing 3", 4)]
    assert done.err == "  ! Labels overlap in marks.dcm; each is measured by itself.\n"
    page = lungseg("report", tmp_path / "scan", tmp_path / "marks.dcm", "-o", tmp_path / "page.html")
    assert page.code == 2
    assert "marks.dcm holds 2 label maps" in page.err
    assert "thing 1, thing 3, thing 2" in page.err


def test_label_maps_that_have_nothing_to_do_with_each_other_are_not_measured_together(lungseg, ct_file, scan, tmp_path):
    for name in ("one.nii.gz", "two.nii.gz"):
        write(scan[1], tmp_path / "masks" / name)
    done = lungseg("measure", ct_file, tmp_path / "masks")
    assert (done.code, done.out) == (2, "")
    assert "masks holds 2 label maps" in done.err


def test_demo_writes_labels_a_picture_and_a_table(lungseg, tmp_path):
    done = lungseg("demo", "-o", tmp_path / "demo", "--no-napari")
    assert done.code == 0, done.err
    names = {path.name for path in (tmp_path / "demo").iterdir()}
    assert {
        "ct-phantom.nii.gz",
        "ct-phantom-labels.nii.gz",
        "xray-phantom-labels.nii.gz",
        "demo.png",
        "demo.csv",
    } <= names
    assert done.out.count("Dice ") == 2
    rows = rows_of(tmp_path / "demo" / "demo.csv")
    assert [row["image"] for row in rows] == ["ct"] * 3 + ["xray"] * 3
    assert all(0 < float(row["dice"]) <= 1 for row in rows)
    scan, labels = (sitk.ReadImage(str(tmp_path / "demo" / f"ct-phantom{end}.nii.gz")) for end in ("", "-labels"))
    assert scan.GetOrigin() == labels.GetOrigin()
    assert scan.GetSize() == labels.GetSize()
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "demo" / "demo.png")))
    orange = (picture[..., 0].astype(int) - picture[..., 2]) > 60
    blue = (picture[..., 2].astype(int) - picture[..., 0]) > 60
    assert orange.sum() > 500
    assert blue.sum() > 500
    assert lungseg("demo", "-o", tmp_path / "demo", "--no-napari").code == 0  # again over its own files


def test_napari_is_opened_only_with_a_display(capsys, monkeypatch):
    opened = []

    class Window:
        def __init__(self, command):
            opened.append(command[-2:])

        def wait(self):
            opened.append("waited")

    monkeypatch.setattr(demo.subprocess, "Popen", Window)
    monkeypatch.setattr(demo.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    assert "not installed" in demo.why_no_window()
    monkeypatch.setattr(demo, "find_spec", lambda name: name)
    demo.open_napari([[Path("a"), Path("b")]])
    assert opened == []
    assert "there is no display" in capsys.readouterr().out
    monkeypatch.setenv("DISPLAY", ":0")
    demo.open_napari([[Path("a"), Path("b")], [Path("c"), Path("d")]])
    assert opened == [["a", "b"], ["c", "d"], "waited", "waited"]


def test_cells_of_a_table_are_no_markup(capsys):
    show.table(Table(("name", "dice", "volume", "note"), (("[bold]x", 0.5, 12.34, None),)))
    assert capsys.readouterr().out.splitlines()[1].split() == ["[bold]x", "0.5000", "12.3", "–"]


def test_long_paths_are_not_broken(capsys):
    path = "/" + "long/" * 60 + "[bold]labels.nii.gz"
    show.line(path)
    show.error(path)
    out, err = capsys.readouterr()
    assert out == path + "\n"
    assert path in err


@pytest.mark.parametrize(
    ("name", "wanted"), [("CT series 4, chest", "ct-series-4-chest"), ("../x", "x"), ("—", "scan")]
)
def test_names_are_made_of_letters_digits_and_hyphens(name, wanted):
    assert slug(name) == wanted


def test_starting_and_asking_load_no_torch(ct_file):
    commands = [["--help"], ["segment", "--help"], ["info", str(ct_file)], ["models"]]
    code = (
        "import sys\nfrom napari_lungseg.cli import run\n"
        f"for arguments in {commands!r}:\n"
        "    run(arguments)\n"
        "    loaded = {'torch', 'napari', 'matplotlib'} & set(sys.modules)\n"
        "    if loaded: sys.exit(f'{arguments} loads {loaded}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_module_runs_too():
    done = subprocess.run(
        [sys.executable, "-m", "napari_lungseg", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip()[0].isdigit()


def test_errors_of_ours_never_show_a_traceback(lungseg, ct_file, tmp_path, monkeypatch):
    def broken(*args, **options):
        yield from ()
        raise LungSegError("First line.\n  second line")

    monkeypatch.setattr("napari_lungseg.segmentation.predict.iter_segment", broken)
    done = lungseg("segment", ct_file, "-o", tmp_path / "out")
    assert done.code == 2
    assert done.err.strip().splitlines() == [f"lungseg: {ct_file}: First line. second line"]


def test_the_confidence_is_told_and_the_uncertainty_written_beside(lungseg, ct_file, tmp_path):
    told = lungseg("segment", ct_file, "-o", tmp_path / "out", "--uncertainty").out
    assert "good; predicted Dice 0.96 (0.94 to 0.98 in 90% of cases)" in told
    (labels,) = (tmp_path / "out").glob("*-labels.nii.gz")
    beside = labels.with_name(labels.name.replace("-labels", "-uncertainty"))
    (entropy,), (written,) = read(beside, modality="ct"), read(labels, labels=True)
    assert entropy.geometry.shape == written.geometry.shape
    assert np.array_equal(np.asarray(entropy.array) == 50, np.asarray(written.array) > 0)
    plain = lungseg("segment", ct_file, "-o", tmp_path / "new.nii.gz", "--json")
    (record,) = json.loads(plain.out)
    assert record["confidence"]["light"] == "green" and record["confidence"]["predicted_dice"] == 0.96
    assert "uncertainty" not in record
    assert lungseg("segment", ct_file, "-o", tmp_path / "out2", "--uncertainty", "--json").code == 0
    (tmp_path / "out2" / labels.name).unlink()
    again = lungseg("segment", ct_file, "-o", tmp_path / "out2", "--uncertainty")
    assert again.code == 2 and "--overwrite" in again.err


def test_an_uncertainty_beside_dicom_labels_is_nifti(lungseg, tmp_path):
    from labelled_series import series

    volume = series(tmp_path / "scan")
    done = lungseg("segment", tmp_path / "scan", "-o", tmp_path / "lungs.seg.dcm", "--uncertainty")
    assert done.code == 0, done.err
    (map_of,) = read(tmp_path / "lungs-uncertainty.nii.gz")
    assert map_of.geometry.same_grid(volume.geometry)
