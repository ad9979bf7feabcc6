"""Many cases: which files belong together, what is written, and what one bad case does to the others."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
from command_line import SHAPE, quick_runner, rows_of, save_untrained

from napari_lungseg import EvaluateSettings, evaluate_cases
from napari_lungseg.analysis.cuts import cut_of
from napari_lungseg.analysis.pairing import case_name, images_of, pair_files
from napari_lungseg.analysis.pairs import Both, Pair, alike, pairs_of_files, read_labels
from napari_lungseg.analysis.report import page_of
from napari_lungseg.errors import IncompatibleModelError, LungSegError, ReadError
from napari_lungseg.io import write
from napari_lungseg.phantom import thorax_ct, thorax_xray
from napari_lungseg.volume import Geometry, LabelMap


@pytest.fixture
def lungseg(capsys, monkeypatch):
    return quick_runner(capsys, monkeypatch)


@pytest.fixture(scope="module")
def reference():
    return thorax_ct(SHAPE, seed=1)[1]


def moved(labels, steps):
    """The labels, so many voxels too far down."""
    return dataclasses.replace(labels, array=np.roll(labels.array, steps, axis=1))


def pair(name, predicted, reference, volume=None):
    def opened():
        yield from ()
        return Both(predicted, reference, volume)

    return Pair(name, opened)


@pytest.fixture
def folders(reference, tmp_path):
    """Predictions a, b (worse) and lonely; references a, b and other; a scan beside one of them."""
    predicted, references = tmp_path / "predicted", tmp_path / "reference"
    for name, steps in (("a-labels", 0), ("b-labels", 4), ("lonely-labels", 0)):
        write(moved(reference, steps), predicted / f"{name}.nii.gz")
    for name in ("a", "b_mask", "other"):
        write(reference, references / f"{name}.nrrd")
    write(thorax_ct(SHAPE, seed=1)[0], references / "b.nii.gz")
    return predicted, references


@pytest.mark.parametrize(
    ("file", "case"),
    [
        ("a.nii.gz", "a"),
        ("a-labels.nii.gz", "a"),
        ("a_mask.png", "a"),
        ("ISIC_0000001_segmentation.png", "ISIC_0000001"),
        ("a_pred_seg.nrrd", "a"),
        ("a.seg.nrrd", "a"),
        ("unmask.png", "unmask"),
        ("_mask.png", "_mask"),
    ],
)
def test_words_for_labels_are_no_part_of_a_case(tmp_path, file, case):
    assert case_name(tmp_path / file) == case


def test_folders_are_paired_by_name_and_the_rest_is_told(folders):
    pairs, told = pair_files(*folders)
    assert [(p.name, p.predicted.name, p.reference.name) for p in pairs] == [
        ("a", "a-labels.nii.gz", "a.nrrd"),
        ("b", "b-labels.nii.gz", "b_mask.nrrd"),  # not the scan beside it
    ]
    assert ["lonely-labels.nii.gz" in told[0].message, "other.nrrd" in told[1].message, len(told)] == [True, True, 2]


def test_what_cannot_be_paired_is_refused(folders, tmp_path, reference):
    predicted, references = folders
    with pytest.raises(ReadError, match=r"is a folder, but .* is a file"):
        pair_files(predicted, references / "a.nrrd")
    with pytest.raises(ReadError, match="no file or folder 'nowhere'"):
        pair_files(predicted, tmp_path / "nowhere")
    write(reference, references / "a-seg.nrrd")
    write(reference, references / "a-labels.nrrd")
    with pytest.raises(ReadError, match=r"a-labels\.nrrd, a-seg\.nrrd could all be"):
        pair_files(predicted, references)
    write(reference, tmp_path / "strange" / "zebra.nrrd")
    with pytest.raises(ReadError, match=r"No file .* a-labels\.nii\.gz, .*zebra\.nrrd"):
        pair_files(predicted, tmp_path / "strange")


def test_one_bad_case_is_told_and_does_not_stop_the_others(reference):
    elsewhere = dataclasses.replace(
        reference, geometry=dataclasses.replace(reference.geometry, origin=(0.0, 0.0, 900.0))
    )
    empty = LabelMap(np.zeros((1, 5, 5), np.uint8), Geometry((1, 5, 5)))
    steps = []
    result = evaluate_cases(
        [
            pair("good", reference, reference),
            pair("far", elsewhere, reference),
            pair("good", moved(reference, 3), reference),
            pair("nothing", empty, empty),
        ],
        progress=steps.append,
    )
    assert list(dict.fromkeys(result.cases.column("case"))) == ["good", "good (2)"]
    assert "different grids" in result.failed["far"]
    assert "nothing can be compared" in result.failed["nothing"]
    assert [step.done for step in steps] == [1, 2, 3, 4]
    with pytest.raises(LungSegError, match=r"Nothing could be compared\. far: .*different grids"):
        evaluate_cases([pair("far", elsewhere, reference)])


def test_another_grid_is_resampled_only_when_asked(reference):
    fine = dataclasses.replace(
        reference,
        array=reference.array.repeat(2, axis=1),
        geometry=dataclasses.replace(
            reference.geometry,
            shape=(6, 80, 50),
            spacing=tuple(s / (2 if axis == 1 else 1) for axis, s in enumerate(reference.geometry.spacing)),
            origin=tuple(reference.geometry.position((0, -0.25, 0))),
        ),
    )
    with pytest.raises(LungSegError, match="different grids"):
        evaluate_cases([pair("fine", fine, reference)])
    result = evaluate_cases([pair("fine", fine, reference)], settings=EvaluateSettings(resample=True))
    assert set(result.cases.column("dice")) == {1.0}


def test_the_worst_are_kept_in_order_with_the_slice_that_differs_most(reference):
    pairs = [pair(f"moved {steps}", moved(reference, steps), reference) for steps in (1, 6, 3, 0)]
    result = evaluate_cases(pairs, settings=EvaluateSettings(worst=2))
    assert [cut.title.split(",")[0] for cut in result.worst] == ["moved 6", "moved 3"]
    spoiled = reference.array.copy()
    spoiled[4] = 0
    volume = thorax_ct(SHAPE, seed=1)[0]
    cut = cut_of(Both(dataclasses.replace(reference, array=spoiled), reference, volume), "x", 0.5)
    assert np.array_equal(cut.reference, reference.array[4])
    assert not cut.predicted.any()
    assert cut.aspect == pytest.approx(volume.geometry.spacing[1] / volume.geometry.spacing[2])
    assert np.ptp(cut.image) > 200


def test_labels_are_matched_by_name_or_taken_as_one():
    grid = Geometry((1, 2, 4))
    ours = LabelMap(np.array([[[0, 1, 2, 3]] * 2], np.uint8), grid, {1: "right lung", 2: "left lung", 3: "heart"})
    swapped = LabelMap(np.array([[[0, 2, 1, 0]] * 2], np.uint8), grid, {2: "right lung", 1: "left lung"})
    predicted, reference = alike(ours, swapped)
    assert np.array_equal(predicted.array, swapped.array)
    assert predicted.names == swapped.names
    lungs = LabelMap(np.array([[[0, 1, 1, 1]] * 2], np.uint8), grid, {1: "lungs"})
    predicted, reference = alike(ours, lungs)
    assert np.array_equal(predicted.array, reference.array)
    predicted, reference = alike(lungs, swapped)
    assert (predicted.names, reference.array.max()) == ({1: "lungs"}, 1)
    with pytest.raises(IncompatibleModelError, match=r"right lung, left lung, heart.*upper lobe, lower lobe"):
        alike(ours, dataclasses.replace(lungs, names={1: "upper lobe", 2: "lower lobe"}))


def test_files_are_matched_by_name_where_both_have_the_same_names(reference, tmp_path):
    swapped = dataclasses.replace(
        reference,
        array=np.array([0, 2, 1], np.uint8)[reference.array],
        names={2: "Right_Lung", 1: "Left_Lung"},
        colours={},
    )
    paths = write(swapped, tmp_path / "p.nrrd"), write(reference, tmp_path / "r.nrrd")
    pairs, _ = pair_files(*paths)
    result = evaluate_cases(pairs_of_files(pairs))
    assert result.cases.column("name") == ("right lung", "left lung", "both")
    assert set(result.cases.column("dice")) == {1.0}
    assert not result.notes


def test_labels_that_may_not_mean_the_same_are_told(reference, tmp_path):
    mask = LabelMap((reference.array > 0).astype(np.uint8), reference.geometry)
    lobes = dataclasses.replace(reference, names={1: "upper lobe", 2: "lower lobe"}, colours={})
    for other, says in (
        (mask, "single label without a name"),
        (lobes, "'right lung' in the prediction, but 'upper lobe'"),
    ):
        paths = write(reference, tmp_path / "p.nii"), write(other, tmp_path / "r.nii")
        pairs, _ = pair_files(*paths)
        result = evaluate_cases(pairs_of_files(pairs))
        assert says in result.notes["r"]


def test_outlines_are_drawn_over_scans_where_they_are_given(reference, tmp_path):
    scan = thorax_ct(SHAPE, seed=1)[0]
    folder = tmp_path / "scans"
    write(scan, folder / "a.nii.gz")
    write(reference, folder / "a-labels.nii.gz")
    (folder / "series").mkdir()
    assert images_of(folder) == {"a": folder / "a.nii.gz", "series": folder / "series"}
    paths = write(reference, tmp_path / "p" / "a.nrrd"), write(moved(reference, 2), tmp_path / "r" / "a_mask.nrrd")
    pairs, _ = pair_files(*paths)
    (bare,) = evaluate_cases(pairs_of_files(pairs)).worst
    (drawn,) = evaluate_cases(pairs_of_files(pairs, images_of(folder))).worst
    assert (bare.image.max(), np.ptp(drawn.image) > 200) == (0, True)
    far = dataclasses.replace(scan, geometry=dataclasses.replace(scan.geometry, origin=(0.0, 0.0, 900.0)))
    assert cut_of(Both(reference, reference, far), "x", 1.0).image.max() == 0  # another patient, perhaps


def test_two_folders_make_rows_a_summary_and_a_page(lungseg, folders, tmp_path):
    out = tmp_path / "out"
    done = lungseg("evaluate", *folders, "-o", out, "--json")
    assert done.code == 0, done.err
    assert "lonely-labels.nii.gz" in done.err
    assert {path.name for path in out.iterdir()} == {"cases.csv", "summary.json", "report.html"}
    rows = rows_of(out / "cases.csv")
    assert [(row["case"], row["name"]) for row in rows][:3] == [("a", "right lung"), ("a", "left lung"), ("a", "both")]
    assert rows[2]["label"] == ""
    printed = json.loads(done.out)
    summary = json.loads((out / "summary.json").read_text())
    assert printed["summary"] == summary["summary"]
    dice = next(r for r in summary["summary"] if (r["name"], r["metric"]) == ("both", "dice"))
    assert dice["cases"] == 2
    assert dice["mean"] == pytest.approx(np.mean([float(row["dice"]) for row in rows if row["name"] == "both"]))
    assert dice["low"] <= dice["mean"] <= dice["high"]
    assert dice["worst_case"] == "b"
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert not re.search(r'(src|href)="(?!data:)', page)  # nothing beside it is needed
    assert str(tmp_path) not in page + json.dumps(summary)


def test_the_screen_shows_means_of_many_and_metrics_of_one(lungseg, folders):
    done = lungseg("evaluate", *folders)
    assert done.code == 0
    for word in ("worst case", "mean_iou", "with background", "relative_difference"):
        assert word in done.out
    alone = lungseg("evaluate", folders[0] / "b-labels.nii.gz", folders[1] / "b_mask.nrrd")
    assert alone.code == 0
    (line,) = [line for line in alone.out.splitlines() if line.startswith("hd95 (mm)")]
    assert len(line.split()) == 2 + 3
    assert lungseg("evaluate", *folders, "--limit", 1, "--json").out.count('"case": "b"') == 0
    assert lungseg("evaluate", *folders, "--limit", 0).code == 2


def test_a_case_on_another_grid_gives_exit_code_2_after_the_others_are_written(lungseg, folders, tmp_path):
    write(thorax_ct((6, 40, 48))[1], folders[1] / "lonely.nrrd")
    done = lungseg("evaluate", *folders, "-o", tmp_path / "rows.csv")
    assert done.code == 2
    assert "lonely: The prediction (6 × 40 × 50" in done.err
    assert {row["case"] for row in rows_of(tmp_path / "rows.csv")} == {"a", "b"}
    assert lungseg("evaluate", *folders, "--resample").code == 0


def test_a_model_is_evaluated_on_the_part_asked_for(lungseg, tmp_path):
    data = tmp_path / "data"
    for number in range(3):
        film, labels = thorax_xray((64, 72), seed=number)
        write(film, data / "images" / f"film{number}.png")
        write(labels, data / "masks" / f"film{number}.png")
    names = [f"images/film{n}.png,masks/film{n}.png,{part},p{n}" for n, part in enumerate(("train", "test", "test"))]
    (data / "split.csv").write_text("\n".join(["image,mask,split,patient", *names]) + "\n")
    model = save_untrained(tmp_path / "tiny.safetensors", "xray")
    done = lungseg("evaluate", "--model", model, data, "-o", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert (result["model"], result["data"], result["split"]) == ("untrained-xray", "data", "test")
    assert {row["case"] for row in result["cases"]} == {"film1", "film2"}
    assert {row["name"] for row in result["cases"]} == {"right lung", "left lung", "both"}
    assert 0.2 < result["cases"][-1]["dice"] < 1  # dark voxels by the side they lie on are not lungs, but some are
    missing = lungseg("evaluate", "--model", model, data, "--split", "val")
    assert missing.code == 2
    assert "it has test, train" in missing.err
    assert len(missing.err.strip().splitlines()) == 1


def test_one_case_in_detail(lungseg, folders, tmp_path):
    files = (folders[0] / "b-labels.nii.gz", folders[1] / "b_mask.nrrd")
    rows, where = tmp_path / "rows.csv", tmp_path / "where.nii.gz"
    done = lungseg("evaluate", *files, "--slices", rows, "--disagreement", where)
    assert done.code == 0 and "dice" in done.out and str(where) in done.err
    assert len(rows_of(rows)) == SHAPE[0] * 3 and {"slice", "position_mm", "differing_mm2"} <= set(rows_of(rows)[0])
    found = read_labels(where)
    assert set(np.unique(found.array)) <= {0, 1, 2, 3} and found.array.any() and found.names[1].startswith("only")
    assert lungseg("evaluate", *folders, "--slices", rows).code == 2
    refused = lungseg("evaluate", *files, "--disagreement", files[1])
    assert refused.code == 2 and "never overwritten" in refused.err


def test_too_few_and_too_many_paths_are_refused(lungseg, folders):
    for arguments, says in (((folders[0],), "--model"), ((*folders, "--model", "xray-lungs"), "one data set")):
        done = lungseg("evaluate", *arguments)
        assert done.code == 2
        assert says in done.err


def test_names_of_cases_are_no_markup_of_the_page(reference):
    page = page_of(evaluate_cases([pair("<b>bold", reference, reference)]))
    assert "&lt;b&gt;bold" in page and "<b>" not in page


def test_from_python(folders):
    pairs, _ = pair_files(*folders)
    result = evaluate_cases(pairs_of_files(pairs), settings=EvaluateSettings(worst=0, tolerance=5.0))
    assert result.worst == ()
    assert result.record["tolerance"] == 5.0
    assert len(result.cases) == 6
