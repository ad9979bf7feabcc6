"""``lungseg train-painted``: what is painted in files is learned, on any grid, and what was learned is kept."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Outcome, runner
from tiny_model import save_tiny

from napari_lungseg import PaintSettings, read, segment, train_painted, write
from napari_lungseg.cli.painted_inputs import Options, complete_in, gather, names_in
from napari_lungseg.cli.painting import _no_better
from napari_lungseg.errors import IncompatibleModelError, LungSegError, TrainingDataError
from napari_lungseg.models.weights import read_spec, read_weights
from napari_lungseg.phantom import thorax_ct, thorax_xray
from napari_lungseg.segmentation.predict import SegmentSettings
from napari_lungseg.training import interactive
from napari_lungseg.training.painted import class_names
from napari_lungseg.training.painted_pairs import bundled_start, painted_pair
from napari_lungseg.training.work import Work, WorkItem, image_hash, save_work
from napari_lungseg.volume import Geometry, LabelMap, Reorientation, Volume

SHAPE = (9, 48, 56)
PLATE, BACKGROUND = 3, 100
PAINTED = (1, 4, 7)
NAMED = ("--name", "3=plate")
# By the clock of these tests every step takes as long.
STEP_S = 0.25
FEW, MANY = 3, 30


@pytest.fixture(autouse=True)
def _steady_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a busy machine learns as much as an idle one."""
    ticks = count()
    monkeypatch.setattr(interactive, "time", SimpleNamespace(monotonic=lambda: next(ticks) * STEP_S))


@pytest.fixture
def lungseg(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    return runner(capsys)


@dataclasses.dataclass(frozen=True)
class Scan:
    """A CT with a metal plate in front of it, a few strokes on it, and a network that knows nothing of plates."""

    volume: Volume
    plate: np.ndarray
    paint: LabelMap
    image: Path
    labels: Path
    start: Path

    def written(self, paint: LabelMap, name: str) -> Path:
        return write(paint, self.image.parent / name)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    folder = tmp_path_factory.mktemp("scan")
    volume, _ = thorax_ct(SHAPE, seed=3)
    array, plate = np.array(volume.array), np.zeros(SHAPE, bool)
    for z in range(SHAPE[0]):
        plate[z, 18 + z : 27 + z, 14 : 34 + z] = True
    array[plate] = 2500
    painted = np.zeros(SHAPE, np.uint8)
    for z in PAINTED:
        painted[z][plate[z]] = PLATE
        painted[z, 4:12, 5:50] = painted[z, 40:46, 5:50] = BACKGROUND
    volume = dataclasses.replace(volume, array=array)
    paint = LabelMap(painted, volume.geometry)
    image, labels = write(volume, folder / "ct.nii.gz"), write(paint, folder / "paint.nrrd")
    return Scan(volume, plate, paint, image, labels, save_tiny(folder))


def train(lungseg: Callable[..., Outcome], scan: Scan, out: Path, *more: object, labels: Path | None = None) -> Outcome:
    """Train on the scan's paint, with options of its own where ``more`` has none."""
    usual = {"--start-from": scan.start, "--seconds": FEW, "--learning-rate": 0.01, "--hold-out": 0.3}
    common = [part for flag, value in usual.items() if flag not in more for part in (flag, value)]
    exact = ("--device", "cpu", "--precision", "float32")
    return lungseg("train-painted", scan.image, labels or scan.labels, "-o", out, *exact, *common, *more)


def same_weights(one: Path, other: Path) -> bool:
    mine, its = read_weights(one), read_weights(other)
    return mine.keys() == its.keys() and all(torch.equal(mine[key], its[key]) for key in mine)


def dice(scan: Scan, model: Path) -> float:
    """Of the plate, on slices that nobody painted."""
    found = segment(scan.volume, model, device="cpu", settings=SegmentSettings(postprocess=False)).array == PLATE
    left = [z for z in range(SHAPE[0]) if z not in PAINTED]
    return float(2 * (found & scan.plate)[left].sum() / (found[left].sum() + scan.plate[left].sum()))


# What is learned


def test_what_was_painted_is_found_where_nobody_painted(lungseg, scan, tmp_path: Path) -> None:
    model = tmp_path / "plates.safetensors"
    outcome = train(lungseg, scan, model, *NAMED, "--name", "1=right lung", "--seconds", MANY)
    assert outcome.code == 0, outcome.err
    assert dice(scan, scan.start) < 0.3 and dice(scan, model) > 0.75
    spec = read_spec(model)
    assert spec.name == "plates" and dict(spec.names) == {1: "right lung", 3: "plate"}
    pixels = int((scan.paint.array == PLATE).sum())
    told = outcome.out.splitlines()
    assert told[0].startswith(f"{model}: Dice on held-out paint 0.") and " → 0.9" in told[0] and "on cpu" in told[0]
    assert f"  plate: {pixels} pixels in 3 slices" in told
    assert "  background: 1890 pixels in 3 slices" in told
    assert any("right lung (label 1) has nothing painted" in line for line in told)
    assert not list(tmp_path.glob("[!p]*"))


def test_machines_are_told_the_same(lungseg, scan, tmp_path: Path) -> None:
    outcome = train(lungseg, scan, tmp_path / "m.safetensors", *NAMED, "--json", "--seconds", 6)
    told = json.loads(outcome.out)
    assert told["painted"]["background"] == {"label": 0, "pixels": 1890, "slices": 3}
    assert told["painted"]["plate"]["label"] == PLATE
    held = told["held_out"]
    assert 0 <= held["dice_before"] <= held["dice"] <= 1 and held["pixels"] > 0
    assert 0 <= told["round"] <= told["rounds"] and not told["stopped"]
    assert told["model"].endswith("m.safetensors") and told["start"] == str(scan.start)


def test_a_start_that_is_not_bettered_is_kept_and_told(
    lungseg, scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, worse = tmp_path / "good.safetensors", tmp_path / "worse.safetensors"
    assert train(lungseg, scan, good, *NAMED, "--seconds", 12).code == 0
    step = interactive.Learner.step

    def spoil(learner: Any) -> float:
        loss = step(learner)
        for weights in learner.average.network.parameters():
            weights.data.normal_(std=1)
        return loss

    monkeypatch.setattr(interactive.Learner, "step", spoil)
    outcome = train(lungseg, scan, worse, *NAMED, "--start-from", good)
    assert outcome.code == 0, outcome.err
    assert "It did not get better: the model written is the start's." in outcome.out
    assert "round 0 of" in outcome.out
    # But for classes that nobody named, which are drawn anew.
    one, other = read_weights(good), read_weights(worse)
    assert all(len(one[key]) == PLATE + 1 for key in one if not torch.equal(one[key], other[key]))


@pytest.mark.parametrize(
    ("kept", "before", "after", "told"),
    [(0, 0.9, 0.9, "the start's"), (4, 0.9, 0.89, "no better than the start"), (4, 0.9, 0.91, ""), (4, None, None, "")],
)
def test_a_training_of_no_use_is_told(kept: int, before: float | None, after: float | None, told: str) -> None:
    found = _no_better(kept, {"dice_before": before, "dice": after})
    assert [told in str(finding) for finding in found] == [True] * bool(told)


def turned(labels: LabelMap) -> LabelMap:
    """The same voxels at the same places, in another order."""
    turn = Reorientation((2, 0, 1), (True, False, True), (0, 1, 2), (1, 1, 1))
    return LabelMap(np.ascontiguousarray(turn.apply(labels.array)), labels.geometry.reoriented(turn), labels.names)


def test_labels_in_another_voxel_order_teach_the_same(lungseg, scan, tmp_path: Path) -> None:
    other = scan.written(turned(scan.paint), "turned.nrrd")
    assert read(other)[0].geometry.shape != scan.volume.geometry.shape
    assert train(lungseg, scan, tmp_path / "straight.safetensors", *NAMED).code == 0
    assert train(lungseg, scan, tmp_path / "turned.safetensors", *NAMED, labels=other).code == 0
    assert same_weights(tmp_path / "straight.safetensors", tmp_path / "turned.safetensors")


def test_names_come_from_the_file_of_labels(lungseg, scan, tmp_path: Path) -> None:
    named = scan.written(dataclasses.replace(scan.paint, names={PLATE: "Metall", 100: "Rest"}), "named.seg.nrrd")
    assert train(lungseg, scan, tmp_path / "m.safetensors", labels=named).code == 0
    assert dict(read_spec(tmp_path / "m.safetensors").names) == {PLATE: "Metall"}


def test_from_scratch_with_a_recipe(lungseg, scan, tmp_path: Path) -> None:
    recipe = tmp_path / "small.toml"
    options = 'options = { encoder = "timm-regnetx_002", decoder_channels = [16, 8, 8, 8, 8] }'
    recipe.write_text(
        f'title = "Small"\nsource = "a test"\n[model]\narchitecture = "unet"\n{options}\n'
        "[preprocessing]\nsize = [64, 64]\nwindow = [-1024.0, 600.0]\n"
    )
    outcome = train(lungseg, scan, tmp_path / "m.safetensors", *NAMED, "--start-from", recipe)
    assert outcome.code == 0, outcome.err
    assert read_spec(tmp_path / "m.safetensors").training["recipe"] == "small"


# A folder of saved work


def test_a_folder_of_saved_work_teaches_what_its_files_would(lungseg, scan, tmp_path: Path) -> None:
    untouched = (scan.paint.array > 0) * np.uint8(1)
    paint = LabelMap(np.where(scan.paint.array == BACKGROUND, 7, scan.paint.array), scan.volume.geometry, {3: "plate"})
    original = LabelMap(untouched, scan.volume.geometry)
    image = write(scan.volume, tmp_path / "there" / "ct.nii.gz")
    item = WorkItem(paint, 7, frozenset({6}), untouched, "CT 1", image_hash(read(image)[0]), image)
    settings = PaintSettings(learning_rate=0.01, device="cpu", precision="float32", hold_out=0.3)
    folder = save_work(tmp_path / "work", Work((item,), start=str(scan.start), settings=settings))
    files = ("--background", 7, "--complete", 6, "--edited-from", scan.written(original, "untouched.nrrd"))
    labels = scan.written(paint, "seven.nrrd")
    assert train(lungseg, scan, tmp_path / "files.safetensors", *NAMED, *files, labels=labels).code == 0
    outcome = lungseg("train-painted", folder, "-o", tmp_path / "work.safetensors", "--seconds", FEW)
    assert outcome.code == 0, outcome.err
    assert same_weights(tmp_path / "files.safetensors", tmp_path / "work.safetensors")
    image.rename(tmp_path / "elsewhere.nii.gz")
    moved = lungseg("train-painted", folder, "-o", tmp_path / "moved.safetensors", "--seconds", FEW)
    assert moved.code == 2 and "CT 1 is not where it was" in moved.err
    found = ("train-painted", folder, tmp_path / "elsewhere.nii.gz", "-o", tmp_path / "moved.safetensors")
    changed = lungseg(*found, "--seconds", FEW, "--hold-out", 0.1)
    assert changed.code == 0 and not same_weights(tmp_path / "moved.safetensors", tmp_path / "work.safetensors")
    refused = lungseg(*found, "--overwrite", "--complete", "all")
    assert refused.code == 2 and "leave out --complete" in refused.err


# Ctrl-C


@pytest.fixture
def press_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Press Ctrl-C after so many steps of learning."""
    before = signal.getsignal(signal.SIGINT)
    step = interactive.Learner.step

    def at(*steps: int) -> None:
        taken = count(1)

        def press(learner: Any) -> float:
            if next(taken) in steps:
                signal.raise_signal(signal.SIGINT)
            return step(learner)

        monkeypatch.setattr(interactive.Learner, "step", press)

    yield at
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_keeps_what_was_learned_and_resume_goes_on(lungseg, scan, tmp_path: Path, press_at) -> None:
    model, work = tmp_path / "m.safetensors", tmp_path / "run"
    press_at(30)
    stopped = train(lungseg, scan, model, *NAMED, "--work", work, "--seconds", 60)
    assert stopped.code == 130
    assert stopped.err.strip() == f"lungseg: Stopped. {model} holds the best model so far. Go on with --resume."
    assert 0 < read_spec(model).training["rounds"] <= 4
    early = dice(scan, model)
    again = ("--work", work, "--overwrite", "--seconds", MANY)
    resumed = train(lungseg, scan, model, *NAMED, *again, "--resume")
    assert resumed.code == 0, resumed.err
    assert read_spec(model).training["rounds"] > 4
    assert dice(scan, model) > max(early, 0.75)
    over = train(lungseg, scan, model, *NAMED, *again, "--resume")
    assert over.code == 0 and "the time was over" in over.out


def test_a_second_ctrl_c_is_not_waited_for(lungseg, scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press_twice(learner: Any) -> float:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("went on")

    monkeypatch.setattr(interactive.Learner, "step", press_twice)
    assert train(lungseg, scan, tmp_path / "m.safetensors", *NAMED).code == 130
    assert not list(tmp_path.iterdir())


def test_stopped_before_anything_was_learned(lungseg, scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = interactive._Run.begin

    def press(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return begin(*arguments)

    monkeypatch.setattr(interactive._Run, "begin", press)
    # A class without paint is told before the first look.
    outcome = train(lungseg, scan, tmp_path / "m.safetensors", *NAMED, "--name", "1=right lung")
    assert outcome.code == 130 and "before anything was learned" in outcome.err
    assert not list(tmp_path.iterdir())


# What is refused, and what is told


def test_a_training_is_not_replaced_by_mistake(lungseg, scan, tmp_path: Path) -> None:
    model, work = tmp_path / "m.safetensors", tmp_path / "run"
    assert train(lungseg, scan, model, *NAMED, "--work", work).code == 0
    before = model.read_bytes()
    refused = train(lungseg, scan, model, *NAMED)
    assert refused.code == 2 and "--overwrite" in refused.err
    refused = train(lungseg, scan, tmp_path / "n.safetensors", *NAMED, "--work", work)
    assert refused.code == 2 and "--resume" in refused.err and "--overwrite" in refused.err
    other = train(lungseg, scan, model, "--name", "3=wire", "--work", work, "--resume", "--overwrite")
    assert other.code == 2 and "plate" in other.err and "wire" in other.err
    assert model.read_bytes() == before
    assert train(lungseg, scan, model, *NAMED, "--seed", 1, "--work", work, "--overwrite").code == 0
    assert model.read_bytes() != before


REFUSED = [
    (("--seconds", 0), "--seconds is 0"),
    (("--seconds", 100_000), "seconds is 100000"),
    (("--start-from", "nonsense"), "no model named 'nonsense'"),
    (("--complete", "1,x"), "must be numbers of slices"),
    (("--complete", "3,9"), "no slice 9"),
    (("--complete", "1", "--complete", "2"), "2 times for 1 images"),
    (("--name", "plate"), "LABEL=NAME"),
    (("--name", "100=plate"), "which is background"),
    (("--background", 255), "background's label is 255"),
    (("--resume",), "--work"),
    (("--series", "7"), "no series '7'"),
]


@pytest.mark.parametrize(("more", "says"), REFUSED, ids=[says for _, says in REFUSED])
def test_a_wrong_option_is_one_line(lungseg, scan, tmp_path: Path, more: tuple[object, ...], says: str) -> None:
    is_refused(train(lungseg, scan, tmp_path / "m.safetensors", *more), says, tmp_path)


def is_refused(outcome: Outcome, says: str, folder: Path) -> None:
    assert (outcome.code, outcome.out) == (2, "")
    (line,) = outcome.err.strip().splitlines()
    assert says in line and "Traceback" not in line
    assert not list(folder.rglob("*.safetensors"))


def test_wrong_files_are_one_line(lungseg, scan, tmp_path: Path) -> None:
    geometry = dataclasses.replace(scan.volume.geometry, origin=(0.0, 0.0, 0.0))
    film, lungs = thorax_xray((64, 72))
    elsewhere = write(LabelMap(scan.paint.array, geometry), tmp_path / "elsewhere.nrrd")
    film, lungs = write(film, tmp_path / "film.png"), write(lungs, tmp_path / "lungs.png")
    empty = write(LabelMap(np.zeros(SHAPE, np.uint8), scan.volume.geometry), tmp_path / "empty.nrrd")
    out = ("-o", tmp_path / "m.safetensors")
    for paths, says in (
        ((scan.image, elsewhere), "do not lie on the image's grid"),
        ((scan.labels, scan.image), "paint.nrrd is a label map"),
        ((scan.image,), "1 path cannot be paired"),
        ((scan.image, scan.labels, scan.image), "3 paths cannot be paired"),
        ((tmp_path, scan.labels), ""),
        ((scan.image, scan.image), "labels are whole numbers"),
        ((scan.image, empty), "Nothing is painted"),
        ((scan.image, scan.labels, film, lungs), "One image is ct"),
    ):
        common = ("--start-from", scan.start) if film in paths or empty in paths else ()
        is_refused(lungseg("train-painted", *paths, *out, *common, *NAMED, "--seconds", 5), says, tmp_path)
    is_refused(lungseg("train-painted", scan.image, scan.labels, "-o", tmp_path / "m.pt"), ".safetensors", tmp_path)


def test_a_nameless_class_that_the_start_may_know_is_told(scan) -> None:
    names = {1: "right lung"}
    drawn = dataclasses.replace(
        scan.paint, array=np.where(scan.plate, 2, scan.paint.array).astype(np.uint8), names=names
    )
    path = scan.written(drawn, "nameless.seg.nrrd")
    options = Options(start_from=str(scan.start))
    told = [str(finding) for finding in gather((scan.image, path), options).findings if finding.code == "unnamed-class"]
    assert len(told) == 1 and "Label 2 has no name" in told[0] and "--name '2=left lung'" in told[0]
    options = dataclasses.replace(options, names=("2=left lung", "3=plate"))
    inputs = gather((scan.image, path), options)
    assert class_names(inputs.painted) == {1: "right lung", 2: "left lung", 3: "plate"}
    assert not [finding for finding in inputs.findings if finding.code == "unnamed-class"]


# Pairs


def test_several_images_have_their_own_slices_and_untouched_segmentations(scan) -> None:
    pairs = (scan.image, scan.labels) * 2
    options = Options(
        start_from=str(scan.start), background=9, complete=("1, 4", "none"), edited_from=(scan.labels,) * 2
    )
    first, second = gather(pairs, options).painted
    assert (first.complete, second.complete) == ({1, 4}, set())
    assert first.background == 9 and np.array_equal(second.edited_from, second.labels.array)
    both = gather(pairs, dataclasses.replace(options, complete=("all",))).painted
    assert [len(item.complete) for item in both] == [SHAPE[0]] * 2
    with pytest.raises(LungSegError, match="--edited-from is given 1 times for 2 images"):
        gather(pairs, dataclasses.replace(options, edited_from=(scan.labels,)))


def test_what_holds_for_several_images_is_told_once(scan, tmp_path: Path) -> None:
    bare = shutil.copy(scan.image, tmp_path / "bare.nii.gz")  # without what was written beside it
    inputs = gather((bare, scan.labels, bare, scan.labels), Options(start_from=str(scan.start)))
    assert [finding.code for finding in inputs.findings].count("modality-inferred") == 1


def test_complete_slices_are_those_of_the_standard_view(scan) -> None:
    turn = Reorientation((1, 2, 0), (False, False, True), (0, 1, 2), (1, 1, 1))
    volume = Volume(turn.apply(scan.volume.array), scan.volume.geometry.reoriented(turn))
    whole = painted_pair(volume, scan.paint, complete="all", edited_from=turned(scan.paint))
    assert whole.complete == set(range(SHAPE[0]))
    assert whole.labels.geometry == volume.geometry
    view = whole.standard()
    assert np.array_equal(view.labels.array, scan.paint.array) and np.array_equal(view.edited_from, scan.paint.array)
    with pytest.raises(TrainingDataError, match="slices 0 to 8"):
        painted_pair(volume, scan.paint, complete=[20])


def test_labels_of_pictures_lie_pixel_for_pixel() -> None:
    film, lungs = thorax_xray((64, 72))
    picture = Geometry(film.geometry.shape, direction=film.geometry.direction, units="pixel")
    pair = painted_pair(film, LabelMap(lungs.array, picture))
    assert np.array_equal(pair.labels.array, lungs.array)
    smaller = LabelMap(lungs.array[:, :-1], Geometry((1, 63, 72), units="pixel"))
    with pytest.raises(TrainingDataError, match="do not lie on the image's grid"):
        painted_pair(film, smaller)
    stack = Volume(np.repeat(film.array, 3, 0), dataclasses.replace(film.geometry, shape=(3, 64, 72)), "xray", "a.u.")
    # A label file does not say that its slices are frames.
    drawn = LabelMap(np.repeat(lungs.array, 3, 0), dataclasses.replace(stack.geometry, frames=False))
    assert painted_pair(stack, drawn).labels.geometry == stack.geometry


def test_what_is_typed_is_understood() -> None:
    assert names_in(["3=heart", " 4 = right = upper "]) == {3: "heart", 4: "right = upper"}
    assert (complete_in("all"), complete_in("none"), complete_in("3, 7,12")) == ("all", (), (3, 7, 12))


def test_python_takes_images_and_labels(scan, tmp_path: Path) -> None:
    how = PaintSettings(seconds=FEW, hold_out=0.3, device="cpu", precision="float32")
    seen = []
    pairs = [(scan.volume, turned(scan.paint))]
    model = train_painted(pairs, scan.start, tmp_path / "run", settings=how, progress=seen.append)
    assert model == tmp_path / "run" / "model.safetensors" and read_spec(model).training["held_out"]["pixels"] > 0
    assert any(isinstance(step.payload, interactive.Round) for step in seen)
    with pytest.raises(TrainingDataError, match="never end"):
        train_painted(pairs, scan.start, tmp_path / "endless", settings=PaintSettings())
    with pytest.raises(TrainingDataError, match="no image"):
        train_painted([], out=tmp_path / "none")
    assert not (tmp_path / "endless").exists() and not (tmp_path / "none").exists()


def test_the_bundled_model_of_the_modality_is_the_start(scan) -> None:
    film, lungs = thorax_xray((64, 72))
    assert bundled_start([painted_pair(scan.volume, scan.paint)]) == "ct-lungs"
    assert bundled_start([painted_pair(film, lungs)]) == "xray-lungs"
    assert gather((scan.image, scan.labels), Options()).start == "ct-lungs"
    photo = Volume(np.zeros((1, 8, 8, 3), np.uint8), Geometry((1, 8, 8)), "photo", "rgb")
    with pytest.raises(IncompatibleModelError, match="colour photograph"):
        bundled_start([painted_pair(photo, LabelMap(np.ones((1, 8, 8), np.uint8), photo.geometry))])
