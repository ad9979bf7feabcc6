"""Learning from paint: what is learned, what is kept, and what may happen meanwhile."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_model import save_tiny

from napari_lungseg import LabelMap, Volume, segment
from napari_lungseg.errors import IncompatibleModelError, TrainingDataError, UnknownNameError
from napari_lungseg.models.spec import Preprocessing
from napari_lungseg.models.weights import read_spec, read_weights, save_model
from napari_lungseg.phantom import thorax_ct
from napari_lungseg.segmentation.predict import SegmentSettings
from napari_lungseg.training import examples, interactive
from napari_lungseg.training.examples import Examples, spread
from napari_lungseg.training.interactive import iter_learn, train_painted
from napari_lungseg.training.kept import KeptModel
from napari_lungseg.training.learner import Learner, entropy
from napari_lungseg.training.paint_loss import ScribbleCrossEntropy
from napari_lungseg.training.painted import BACKGROUND, Painted, Strokes
from napari_lungseg.training.rounds import PaintSettings, Preview, Ranking, Remarks, Round, Update
from napari_lungseg.training.start import make_fabric
from napari_lungseg.training.step_sizes import parameter_groups, suited_rate
from napari_lungseg.training.transfer import start_from
from napari_lungseg.training.unknown import IGNORE

SHAPE = (6, 64, 80)
PLAIN = SegmentSettings(postprocess=False, precision="float32")
QUICK = PaintSettings(steps=2, precision="float32", device="cpu")


def scan(seed: int = 3) -> tuple[Volume, LabelMap]:
    return thorax_ct(SHAPE, seed=seed)


def painted(slices: tuple[int, ...] = (2, 3), names: dict[int, str] | None = None, **more: Any) -> Painted:
    volume, truth = scan()
    labels = np.zeros(SHAPE, np.uint8)
    for z in slices:
        labels[z] = np.where(truth.array[z] > 0, truth.array[z], BACKGROUND)
    return Painted(volume, LabelMap(labels, volume.geometry, names=names or truth.names), **more)


def learner(item: Painted, start: str, settings: PaintSettings = QUICK) -> Learner:
    item = item.standard()
    begun = start_from(start, item.volume, item.labels.names, {})
    seen = Examples([item], begun.spec.preprocessing, settings.hold_out, settings.seed)
    return Learner(make_fabric("cpu", "float32"), begun, seen, settings)


def rounds_of(steps: Iterator[Any], until: int) -> list[Round]:
    """Run until so many rounds are over."""
    found = []
    for step in steps:
        if isinstance(step.payload, Round):
            found.append(step.payload)
            if step.payload.number == until:
                break
    return found


def stopped(steps: Any, within: int = 8) -> Path:
    """The model file of a training that is stopped, which may still take so many steps."""
    for _ in range(within):
        try:
            steps.send(Update(stop=True))
        except StopIteration as stop:
            model: Path = stop.value
            return model
    raise AssertionError(f"not stopped after {within} steps")


# What is learned


def test_a_painted_class_is_learned_from_scratch_and_found_elsewhere(tmp_path: Path) -> None:
    """Bright bone against the rest, painted in two slices; found in the slices between, on the anisotropic grid."""
    volume, _ = scan()
    bright = volume.array > 150
    labels = np.zeros(SHAPE, np.uint8)
    labels[1], labels[4] = np.where(bright[1], 7, BACKGROUND), np.where(bright[4], 7, BACKGROUND)
    item = Painted(volume, LabelMap(labels, volume.geometry, names={7: "bone"}))
    recipe = tmp_path / "small.toml"
    recipe.write_text(
        '[model]\narchitecture = "improved-unet"\noptions = { base = 4, depth = 3, dropout = 0.0 }\n'
        "[preprocessing]\nsize = [64, 80]\nwindow = [-1024.0, 600.0]\n[augmentation]\nrotation = 0.0\nmirror = 0.0\n"
        "scale = [1.0, 1.0]\nshift = 0.0\nelastic = 0.0\nnoise = 0.0\nblur = 0.0\n"
    )
    steps = iter_learn([item], str(recipe), tmp_path / "run", settings=dataclasses.replace(QUICK, steps=20))
    rounds_of(steps, until=8)
    model = stopped(steps)
    spec = read_spec(model)
    assert dict(spec.names) == {7: "bone"}
    assert spec.training["painted"]["7"]["slices"] == 2
    found = segment(volume, model, device="cpu", settings=SegmentSettings(postprocess=False)).array == 7
    unpainted = [2, 3]
    both = (found & bright)[unpainted].sum()
    assert 2 * both / (found[unpainted].sum() + bright[unpainted].sum()) > 0.6
    assert BACKGROUND not in segment(volume, model, device="cpu").array


def test_unpainted_pixels_teach_nothing(tmp_path: Path) -> None:
    """With nothing to hold on to, pixels that were not painted may change without changing a step."""
    settings = dataclasses.replace(QUICK, keep=0, prior=0, augment=False, hold_out=0)
    item = painted((2,))
    item.labels.array[2, :40] = 0
    start = str(save_tiny(tmp_path))
    losses = []
    for label in (1, 2):
        other = item.with_strokes(Strokes(0, (3,), np.zeros((1, *SHAPE[1:]), np.uint8)))
        one = learner(other, start, settings)
        empty = one.learned[0, 2] == IGNORE
        assert empty.any()
        one.examples.slice((0, 2)).image[:, empty] += 0 * label
        losses.append(one.step())
    assert losses[0] == losses[1]


def test_strokes_thinner_than_a_network_pixel_still_count(tmp_path: Path) -> None:
    volume, _ = thorax_ct((2, 256, 320), seed=1)
    labels = np.zeros(volume.geometry.shape, np.uint8)
    labels[1, 120, 60:200] = 1  # one pixel thick; the tiny network sees a fifth of the pixels a side
    labels[1, 200, 60:200] = BACKGROUND
    item = Painted(volume, LabelMap(labels, volume.geometry, names={1: "line"})).standard()
    steps = Preprocessing(size=(64, 64), window=(-1024.0, 600.0), crop_body=True)
    known = Examples([item], steps, 0.0, 0).labels[0, 1]
    assert 15 < (known == 1).sum() < 60
    assert 15 < (known == 0).sum() < 60
    assert (known == IGNORE).sum() > 0.9 * known.numel()


def test_every_class_counts_the_same_however_much_is_painted() -> None:
    scores = torch.randn(1, 3, 8, 8, requires_grad=True)
    labels = torch.full((1, 8, 8), IGNORE)
    labels[0, :3], labels[0, 5, 5], labels[0, 6, 6] = 0, 1, 2
    value = ScribbleCrossEntropy()(scores, labels)
    each = torch.nn.functional.cross_entropy(scores, labels, ignore_index=IGNORE, reduction="none")[0]
    assert torch.isclose(value, (each[:3].mean() + each[5, 5] + each[6, 6]) / 3)
    value.backward()
    assert scores.grad is not None
    assert not scores.grad[0, :, 7].any()
    nothing = ScribbleCrossEntropy()(scores, torch.full((1, 8, 8), IGNORE))
    assert nothing == 0


def test_in_a_slice_that_is_known_all_over_pixels_count_too() -> None:
    # All scores the same but for the rare class, which is found everywhere: dear where everything is known to be background.
    scores = torch.zeros(2, 2, 8, 8)
    scores[:, 1] = 1.0
    whole = torch.zeros(2, 8, 8, dtype=torch.long)
    whole[:, 0, 0] = 1
    strokes = torch.full_like(whole, IGNORE)
    strokes[:, 0, :2] = torch.tensor([1, 0])
    by_class = ScribbleCrossEntropy()(scores, strokes)
    each = torch.nn.functional.cross_entropy(scores, whole, reduction="none")
    assert torch.isclose(by_class, (each[0, 0, 0] + each[0, 0, 1]) / 2)
    assert by_class < ScribbleCrossEntropy()(scores, whole) < each.mean()
    mixed = torch.cat([whole[:1], strokes[1:]])
    assert by_class < ScribbleCrossEntropy()(scores, mixed) <= ScribbleCrossEntropy()(scores, whole)


# What a start brings


def test_classes_of_the_same_name_keep_their_weights_whatever_their_label(tmp_path: Path) -> None:
    start = save_tiny(tmp_path)
    volume, _ = scan()
    begun = start_from(str(start), volume, {1: "nodule", 3: "Right_Lung", 5: "left-lung"}, {})
    assert dict(begun.spec.names) == {1: "nodule", 3: "right lung", 5: "left lung"}
    own, learned = begun.network.state_dict(), read_weights(start)
    key = "segmentation_head.0.weight"
    assert begun.shared == {3, 5}
    assert not begun.scratch
    assert torch.equal(own[key][3], learned[key][1])
    assert torch.equal(own[key][5], learned[key][2])
    assert torch.equal(own[key][0], learned[key][0])
    assert not own[key][1].any()
    assert own["segmentation_head.0.bias"][1] < own["segmentation_head.0.bias"][[0, 3, 5]].min()
    assert all(torch.equal(own[name], learned[name]) for name in own if "segmentation_head" not in name)


def test_the_same_classes_begin_with_what_the_model_says(tmp_path: Path) -> None:
    start = save_tiny(tmp_path)
    one = learner(painted(), str(start))
    (model_says,) = learner(painted(), str(start)).chances([(0, 3)])
    assert torch.equal(one.chances([(0, 3)])[0], model_says)
    volume, _ = scan()
    raw = segment(volume, start, device="cpu", settings=SegmentSettings(postprocess=False, precision="float32"))
    shown, _ = one.preview((0, 3))
    assert (shown.labels == raw.reoriented()[0].array[3]).all()
    one.mirror = True
    shown, _ = one.preview((0, 3))
    mirrored = SegmentSettings(postprocess=False, precision="float32", mirror=True)
    wanted = segment(volume, start, device="cpu", settings=mirrored).reoriented()[0].array[3]
    assert (shown.labels == wanted).mean() > 0.99  # means of chances here, of scores there
    assert raw.array.any()
    one.mirror, one.smooth_mm = False, 60.0  # the phantom has few slices, far apart
    shown, _ = one.preview((0, 3))
    averaged = save_tiny(tmp_path, name="averaging", smooth_mm=60.0)
    wanted = segment(volume, averaged, device="cpu", settings=PLAIN).reoriented()[0].array[3]
    # Averaged on the network's grid here, on the scan's there; a network of random weights is nowhere sure.
    assert (shown.labels == wanted).mean() > (raw.reoriented()[0].array[3] == wanted).mean() + 0.1
    one.smooth_mm, one.follow_edges = 0.0, True
    shown, _ = one.preview((0, 3))
    following = save_tiny(tmp_path, name="following", follow_edges=True)
    wanted = segment(volume, following, device="cpu", settings=PLAIN).reoriented()[0].array[3]
    assert (shown.labels == wanted).mean() > 0.999
    assert (raw.reoriented()[0].array[3] != wanted).any()


@pytest.mark.parametrize("better", [False, True])
def test_the_mirrored_image_is_used_where_the_paint_agrees_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, better: bool
) -> None:
    one = learner(painted(), str(save_tiny(tmp_path)))
    one.mirror = not better

    def chances(places: list[tuple[int, int]], network: object, mirror: bool) -> torch.Tensor:
        known = torch.stack([one.examples.labels[place].long() for place in places])
        said = torch.where(known == IGNORE, 0, known)
        right = torch.nn.functional.one_hot(said, len(one.order)).movedim(-1, 1).float()
        return right if mirror == better else right.roll(1, dims=1)

    monkeypatch.setattr(one, "chances", chances)
    one.choose_view()
    assert one.mirror == better
    never = dataclasses.replace(one.start.augmentation, mirror=0.0)
    one.start, one.mirror = dataclasses.replace(one.start, augmentation=never), False
    one.choose_view()
    assert not one.mirror  # it has never seen a mirrored image


@pytest.mark.parametrize(("worse", "expected"), [(0.0, 4.0), (0.04, 4.0), (0.06, 0.0)])
@pytest.mark.parametrize(("worse_at_edges", "follow_edges"), [(0.01, True), (0.03, False)])
def test_new_classes_are_averaged_and_follow_edges_unless_paint_speaks_against_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    worse: float,
    expected: float,
    worse_at_edges: float,
    follow_edges: bool,
) -> None:
    one = learner(painted(names={1: "bone", 2: "fat"}), str(save_tiny(tmp_path)))
    alone, averaged = {0: 0.9, 1: 0.8, 2: 0.8}, {0: 1.0, 1: 0.8 - worse, 2: 1.0}
    chosen = averaged if expected else alone
    dices = iter([alone, averaged, {**chosen, 1: chosen[1] - worse_at_edges}])
    monkeypatch.setattr(one, "_agreement", lambda *_: next(dices))
    one.choose_smoothing()
    assert not one.smooth_mm and not one.follow_edges, "before anything is learned, paint speaks of nothing"
    one.steps = 8
    one.choose_smoothing()
    assert (one.smooth_mm, one.follow_edges) == (expected, follow_edges)
    one.steps = 15
    one.choose_smoothing()  # not looked at again before there is other paint, or twice as much was learned
    one.steps = 16
    with pytest.raises(StopIteration):
        one.choose_smoothing()
    assert learner(painted(), str(save_tiny(tmp_path))).smooth_mm == 0.0


def test_known_classes_are_left_as_they_are_and_frames_never_averaged(tmp_path: Path) -> None:
    known = learner(painted(), str(save_tiny(tmp_path)))
    known.steps = 8
    known.choose_smoothing()
    assert (known.smooth_mm, known.follow_edges) == (0.0, False)
    item = painted(names={1: "bone", 2: "fat"})
    where = dataclasses.replace(item.volume.geometry, frames=True)
    volume = dataclasses.replace(item.volume, geometry=where)
    frames = learner(Painted(volume, dataclasses.replace(item.labels, geometry=where)), str(save_tiny(tmp_path)))
    frames.steps = 8
    frames.choose_smoothing()
    assert frames.smooth_mm == 0.0


def test_strokes_are_learned_on_the_slices_beside_them_but_do_not_judge(tmp_path: Path) -> None:
    item = painted((2,), names={1: "bone", 2: "fat"})
    where = dataclasses.replace(item.volume.geometry, spacing=(3.0, 4.75, 4.25))
    volume, labels = (dataclasses.replace(each, geometry=where) for each in (item.volume, item.labels))
    one = learner(Painted(volume, labels), str(save_tiny(tmp_path)), dataclasses.replace(QUICK, hold_out=0.3))
    assert sorted(one.learned) == [(0, 2)] and sorted(one.examples.labels) == [(0, 2)]
    assert {(0, 1), (0, 3)} <= set(one.taught)
    assert all((one.held[place] != IGNORE).any() for place in one.held) and set(one.held) <= {(0, 2)}
    overlap = [(one.held[place] != IGNORE) & (one.taught[place] != IGNORE) for place in one.held]
    assert overlap and not any(bool(part.any()) for part in overlap)
    known = Painted(volume, dataclasses.replace(labels, names=scan()[1].names))
    assert set(learner(known, str(save_tiny(tmp_path))).taught) == {(0, 2)}, "nothing is lent of what the start knows"


def test_the_step_size_suits_the_start(tmp_path: Path) -> None:
    start, (volume, truth) = str(save_tiny(tmp_path)), scan()
    rates = [
        suited_rate(start_from(name, volume, names, {}))
        for name, names in ((start, truth.names), (start, {1: "heart"}), ("paint", truth.names))
    ]
    assert rates == sorted(rates)
    assert len(set(rates)) == 3


def test_a_recipe_for_pictures_sees_a_ct_through_the_bundled_window() -> None:
    volume, truth = scan()
    begun = start_from("improved-unet", volume, truth.names, {})
    assert begun.scratch
    assert begun.spec.preprocessing.window == (-1024.0, 600.0)
    assert begun.spec.preprocessing.size == (256, 256)
    assert begun.spec.unit == "HU"


def test_a_start_that_is_none_is_told(tmp_path: Path) -> None:
    volume, truth = scan()
    with pytest.raises(UnknownNameError):
        start_from("no-such-model", volume, truth.names, {})
    with pytest.raises(IncompatibleModelError, match="chest X-ray"):
        start_from("xray-lungs", volume, truth.names, {})


# What is held on to


def test_what_the_start_knew_is_held_on_to_where_nothing_is_painted(tmp_path: Path) -> None:
    """One wrong stroke in one slice: with keep, the other slices change less."""
    start = str(save_tiny(tmp_path))
    labels = np.zeros(SHAPE, np.uint8)
    labels[3, 30:34, 30:50] = 2
    labels[3, 10:14, 30:50] = BACKGROUND
    volume, truth = scan()
    item = Painted(volume, LabelMap(labels, volume.geometry, names=truth.names))
    moved = []
    for keep in (0.0, 100.0):
        settings = dataclasses.replace(QUICK, keep=keep, learning_rate=3e-3, hold_out=0, augment=False)
        one = learner(item, start, settings)
        places = [(0, z) for z in (0, 1, 5)]
        before = one.chances(places, one.network.module)
        for _ in range(8):
            one.step()
        moved.append(float((one.chances(places, one.network.module) - before).abs().mean()))
    assert moved[1] < 0.7 * moved[0]


def test_unpainted_pixels_lean_to_the_background_of_new_classes_only(tmp_path: Path) -> None:
    start = str(save_tiny(tmp_path))
    shared, new = learner(painted(), start), learner(painted(names={1: "a", 2: "b"}), start)
    assert shared.new == []
    assert new.new == [1, 2]
    scores = torch.zeros(1, 3, 4, 4)
    unknown = torch.full((1, 4, 4), IGNORE)
    assert float(new._held_on(scores, None, unknown)) > 0
    sure = torch.tensor([0.0, 5.0, 0.0])[None, :, None, None].expand(1, 3, 4, 4)
    assert float(new._held_on(sure, None, unknown)) == 0  # a class was found there
    leans = []
    for count in (0, 2, 8, 40):  # slices that show a new class, beside one that shows background alone
        new.learned = {(0, z): torch.full((4, 4), int(z < count), dtype=torch.uint8) for z in range(count + 1)}
        leans.append(float(new._held_on(scores, None, unknown)))
    assert np.array(leans) / leans[0] == pytest.approx([1, 1, 4, 10])
    new.start = dataclasses.replace(new.start, scratch=True)
    assert float(new._held_on(scores, None, unknown)) == pytest.approx(leans[0])  # lungs were lost by more


def test_the_layer_of_new_classes_takes_larger_steps() -> None:
    """Classes that start from nothing were not found at all in the first preview."""
    volume, truth = scan()
    known = start_from("ct-lungs", volume, truth.names, {})
    assert [group["faster"] for group in parameter_groups(known, new=False)] == [1.0]
    heart = start_from("ct-lungs", volume, {1: "heart"}, {})
    rest, head = parameter_groups(heart, new=True)
    assert (rest["faster"], head["faster"]) == (1.0, 4.0)
    assert {len(weights) for weights in head["params"]} == {2}  # rows: background and heart
    assert sum(len(group["params"]) for group in (rest, head)) == len(list(heart.network.parameters()))
    scratch = start_from("paint", volume, {1: "heart"}, {})
    assert [group["faster"] for group in parameter_groups(scratch, new=True)] == [1.0]
    one = learner(painted(names={1: "heart", 2: "aorta"}), "ct-lungs")
    one._prepare_step()
    usual, faster = (group["lr"] for group in one.optimiser.param_groups)
    assert faster == pytest.approx(4 * usual)


def test_a_checkpoint_of_one_group_of_weights_goes_on_without_its_momentum() -> None:
    """As they were before new classes took larger steps."""
    old = torch.optim.AdamW(start_from("ct-lungs", scan()[0], {1: "heart"}, {}).network.parameters()).state_dict()
    one = learner(painted(names={1: "heart", 2: "aorta"}), "ct-lungs")
    before = one.optimiser.state_dict()
    one.load_optimiser(old)
    assert one.optimiser.state_dict()["param_groups"] == before["param_groups"]
    assert np.isfinite(one.step())


def test_where_the_network_gives_no_numbers_it_knows_nothing() -> None:
    chances = torch.full((3, 2, 2), 1 / 3)
    chances[:, 0, 0], chances[:, 1, 1] = float("nan"), torch.tensor([1.0, 0.0, 0.0])
    assert entropy(chances).flatten().tolist() == pytest.approx([1, 1, 1, 0])


def test_doubt_about_classes_that_nobody_paints_does_not_count(tmp_path: Path) -> None:
    """Ends of the stack, where bowel may be lung, were offered to somebody who paints a heart."""
    item = painted()
    one = learner(item, str(save_tiny(tmp_path)))
    assert one.painted == [1, 2]
    lungs_or_not = torch.tensor([0.5, 0.5, 0.0])[:, None, None]
    assert float(one.doubt(lungs_or_not)) == pytest.approx(np.log(2) / np.log(3))
    one.painted = [2]
    assert float(one.doubt(lungs_or_not)) == 0
    assert float(one.doubt(torch.tensor([0.25, 0.25, 0.5])[:, None, None])) == pytest.approx(1)
    one.painted = []
    assert float(one.doubt(lungs_or_not)) > 0.5


# Held-out paint


def test_held_out_paint_is_not_learned_from_and_always_the_same(tmp_path: Path) -> None:
    settings = dataclasses.replace(QUICK, hold_out=0.3)
    one, again = (learner(painted(), str(save_tiny(tmp_path)), settings) for _ in range(2))
    assert one.held
    for place, held in one.held.items():
        assert not ((held != IGNORE) & (one.learned[place] != IGNORE)).any()
        both = torch.where(held != IGNORE, held, one.learned[place])
        assert torch.equal(both, one.examples.labels[place])
        assert torch.equal(held, again.held[place])


def test_nothing_is_held_out_while_a_class_has_one_spot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "_TILE", 64)  # the whole slice is one square
    item = painted((2,))
    one = learner(item, str(save_tiny(tmp_path)), dataclasses.replace(QUICK, hold_out=0.5))
    assert not one.held
    assert one.dices()
    one.held = {(0, 2): torch.where(one.learned[0, 2] == 1, 1, IGNORE).to(torch.uint8)}
    assert set(one.dices()) == {1}, "the others have no paint to judge by"


# Rounds


def test_rounds_previews_and_ranks_come_in_turn(tmp_path: Path) -> None:
    steps = iter_learn([painted()], str(save_tiny(tmp_path)), tmp_path / "run", settings=QUICK)
    seen = []
    for step in steps:
        seen.append(step.payload)
        if sum(isinstance(payload, Ranking) for payload in seen) == 3:
            break
    steps.close()
    kinds = [type(payload).__name__ for payload in seen if payload is not None]
    assert kinds == ["Preview", "Round", "Ranking"] * 3
    figures = [payload for payload in seen if isinstance(payload, Round)]
    assert [one.number for one in figures] == [0, 1, 2]
    assert figures[0].loss is None
    assert figures[1].loss is not None
    assert figures[2].seconds > figures[1].seconds > 0
    assert figures[0].pixels > 0
    previews = [payload for payload in seen if isinstance(payload, Preview)]
    preview = previews[0]
    assert [each.number for each in previews] == [0, 1, 2]
    assert set(figures[2].dices) <= {0, 1, 2}
    assert figures[2].dice == pytest.approx(np.mean(list(figures[2].dices.values())))
    assert figures[2].held_out
    assert (preview.image, preview.index) == (0, 2)
    assert preview.labels.shape == preview.uncertainty.shape == SHAPE[1:]
    ranks = [payload for payload in seen if isinstance(payload, Ranking)][-1].scores[0]
    assert ranks.shape == (SHAPE[0],)
    assert np.isfinite(ranks).all()
    assert ranks[0] > ranks[2]  # fully painted: nothing to learn there


def test_new_strokes_are_taken_up_at_the_next_round(tmp_path: Path) -> None:
    steps = iter_learn([painted((2,))], str(save_tiny(tmp_path)), tmp_path / "run", settings=QUICK)
    (_, first) = rounds_of(steps, until=1)
    strokes = Strokes(0, (2, 4), np.full((2, *SHAPE[1:]), BACKGROUND, np.uint8))
    step = steps.send(Update(strokes=(strokes,), look=(0, 5)))
    payloads = [step.payload]
    payloads += [one.payload for one in (steps.send(None) for _ in range(10))]
    later = next(payload for payload in payloads if isinstance(payload, Round))
    assert later.pixels > first.pixels
    remarks = next(payload for payload in payloads if isinstance(payload, Remarks))
    assert [finding.message.split()[0] for finding in remarks.findings] == ["right", "left"], "painted over"
    assert next(payload for payload in payloads if isinstance(payload, Preview)).index == 5
    steps.close()


def test_a_new_class_is_taken_up_without_losing_the_others(tmp_path: Path) -> None:
    start = save_tiny(tmp_path)
    # Enough steps to decide: chances that are all but equal fall either way by the last digit.
    steps = iter_learn([painted((2,))], str(start), tmp_path / "run", settings=dataclasses.replace(QUICK, steps=10))
    rounds_of(steps, until=1)
    names = {1: "right lung", 2: "left lung", 3: "nodule"}
    block = np.zeros((1, *SHAPE[1:]), np.uint8)
    block[0, 20:40, 20:40] = 3
    steps.send(Update(strokes=(Strokes(0, (4,), block, names=names),)))
    rounds_of(steps, until=3)
    model = stopped(steps)
    spec = read_spec(model)
    assert dict(spec.names) == names
    kept = KeptModel([painted((2,))], model, QUICK)
    shown, found = kept.preview((0, 4)), segment(scan()[0], model, device="cpu", settings=PLAIN).reoriented()[0]
    assert shown.number == spec.training["rounds"]
    assert (shown.labels == found.array[4]).mean() > 0.99
    assert list((tmp_path / "run").glob("classes-before*")) == []


def test_stop_returns_the_best_model_at_once(tmp_path: Path) -> None:
    steps = iter_learn(
        [painted()], str(save_tiny(tmp_path)), tmp_path / "run", settings=dataclasses.replace(QUICK, steps=500)
    )
    next(step for step in steps if step.message.startswith("round 1"))
    model = stopped(steps)  # after a few steps of the five hundred
    assert model == tmp_path / "run" / "model.safetensors"
    assert read_spec(model).training["started_from"] == "tiny"


def test_weights_that_got_worse_are_not_the_ones_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps far too large: round 0 stays the best, and its weights are in the file."""
    start = save_tiny(tmp_path)
    dices = iter([0.9, 0.5, 0.4, 0.3])
    monkeypatch.setattr(Learner, "dices", lambda self, network=None: {1: next(dices)})
    monkeypatch.setattr(Learner, "error_of", lambda self, dice: 0.1)
    settings = dataclasses.replace(QUICK, learning_rate=0.5)
    steps = iter_learn([painted()], str(start), tmp_path / "run", settings=settings)
    last = rounds_of(steps, until=3)[-1]
    steps.close()
    assert (last.best, last.best_number, last.dice) == (0.9, 0, 0.3)
    kept, began = read_weights(tmp_path / "run" / "model.safetensors"), read_weights(start)
    assert all(torch.equal(kept[name], began[name]) for name in began)


def test_a_little_worse_on_the_held_out_paint_is_within_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dices = iter([0.9, 0.85, 0.7])
    monkeypatch.setattr(Learner, "dices", lambda self, network=None: {1: next(dices)})
    monkeypatch.setattr(Learner, "error_of", lambda self, dice: 0.1)
    steps = iter_learn([painted()], str(save_tiny(tmp_path)), tmp_path / "run", settings=QUICK)
    last = rounds_of(steps, until=2)[-1]
    steps.close()
    assert (last.best, last.best_number) == (0.9, 1)


@pytest.mark.parametrize(("name", "painted_more", "best"), [("heart", True, 3), ("heart", False, 0), ("", True, 0)])
def test_a_round_that_has_seen_more_of_a_new_class_may_be_worse_on_what_is_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, painted_more: bool, best: int
) -> None:
    """What is held out of early paint is easy: a round that had seen a third of the strokes was kept for good."""
    # The best weights are judged again when paint comes.
    monkeypatch.setattr(Learner, "dices", lambda self, network=None: {1: 0.9 if network or self.steps == 0 else 0.75})
    monkeypatch.setattr(Learner, "error_of", lambda self, dice: 0.1)
    names = {1: name, 2: "aorta"} if name else None
    steps = iter_learn([painted((2,), names=names)], str(save_tiny(tmp_path)), tmp_path / "run", settings=QUICK)
    assert rounds_of(steps, until=2)[-1].best_number == 0
    if painted_more:
        steps.send(Update(strokes=(Strokes(0, (4,), painted((4,)).labels.array[4:5].copy()),)))
    assert rounds_of(steps, until=3)[-1].best_number == best
    steps.close()


def test_a_round_that_finds_a_class_nowhere_any_more_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A heart was lost within the error of the mean, and with it what was shown of it."""
    dices = iter([{1: 0.5, 2: 0.6}, {1: 0.9, 2: 0.0}, {1: 0.9, 2: 0.05}])
    monkeypatch.setattr(Learner, "dices", lambda self, network=None: next(dices))
    monkeypatch.setattr(Learner, "error_of", lambda self, dice: 0.5)
    steps = iter_learn([painted()], str(save_tiny(tmp_path)), tmp_path / "run", settings=QUICK)
    assert rounds_of(steps, until=1)[-1].best_number == 0
    assert rounds_of(steps, until=2)[-1].best_number == 2
    steps.close()


def test_an_adapted_network_is_kept_near_its_start_until_much_is_painted(tmp_path: Path) -> None:
    start = str(save_tiny(tmp_path))
    one = learner(painted((2,)), start)
    name = "segmentation_head.0.weight"
    one.average.network.state_dict()[name].add_(1)
    one.settle()
    assert float((one.mean.state_dict()[name] - one._origin.state_dict()[name]).mean()) == pytest.approx(0.5)
    one.learned = dict.fromkeys([(0, z) for z in range(72)], torch.zeros(1))
    one.settle()
    assert float((one.mean.state_dict()[name] - one._origin.state_dict()[name]).mean()) == pytest.approx(0.9)
    new = learner(painted((2,), names={1: "a", 2: "b"}), start)
    new.average.network.state_dict()[name].add_(1)
    new.settle()
    assert torch.equal(new.mean.state_dict()[name], new.average.network.state_dict()[name])


def test_all_paint_may_be_undone(tmp_path: Path) -> None:
    steps = iter_learn([painted((2,))], str(save_tiny(tmp_path)), tmp_path / "run", settings=QUICK)
    rounds_of(steps, until=1)
    steps.send(Update(strokes=(Strokes(0, (2,), np.zeros((1, *SHAPE[1:]), np.uint8)),)))
    last = rounds_of(steps, until=3)[-1]
    steps.close()
    assert (last.pixels, last.dice) == (0, None)


# Going on


def test_a_stopped_training_is_gone_on_with(tmp_path: Path) -> None:
    start = str(save_tiny(tmp_path))
    steps = iter_learn([painted()], start, tmp_path / "run", settings=QUICK)
    before = rounds_of(steps, until=2)[-1]
    stopped(steps)
    again = iter_learn([painted()], start, tmp_path / "run", settings=QUICK, resume=True)
    (after,) = rounds_of(again, until=3)
    again.close()
    assert after.number == 3
    assert after.seconds > before.seconds


def test_what_cannot_be_gone_on_with_is_told(tmp_path: Path) -> None:
    start = str(save_tiny(tmp_path))
    with pytest.raises(TrainingDataError, match="nothing to resume"):
        list(
            iter_learn(
                [painted()], start, tmp_path / "run", settings=dataclasses.replace(QUICK, seconds=1), resume=True
            )
        )
    train_painted([painted()], start, tmp_path / "run", settings=dataclasses.replace(QUICK, seconds=1))
    other = painted(names={1: "heart"})
    with pytest.raises(TrainingDataError, match=r"learned right lung, left lung, but now heart, class 2 is painted"):
        list(iter_learn([other], start, tmp_path / "run", settings=QUICK, resume=True))


def test_a_checkpoint_holds_no_code(tmp_path: Path) -> None:
    steps = iter_learn([painted()], str(save_tiny(tmp_path)), tmp_path / "run", settings=QUICK)
    rounds_of(steps, until=1)
    stopped(steps)
    saved = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert saved["number"] >= 1


def test_pauses_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the caller waits between two steps."""
    clock = {"now": 0.0}
    monkeypatch.setattr(interactive.time, "monotonic", lambda: clock["now"])
    steps = iter_learn([painted()], str(save_tiny(tmp_path)), tmp_path / "run", settings=QUICK)
    for step in steps:
        clock["now"] += 100.0
        if isinstance(step.payload, Round) and step.payload.number == 2:
            break
    steps.close()
    assert step.payload.seconds == 0


def test_slices_are_looked_at_from_coarse_to_fine() -> None:
    places = [(0, z) for z in range(16)]
    order = [z for _, z in spread(places)]
    assert sorted(order) == list(range(16))
    assert sorted(order[:4]) == [0, 4, 8, 12]
    assert spread([(0, 0)]) == [(0, 0)]


def test_radiographs_of_different_size_are_learned_together(tmp_path: Path) -> None:
    from napari_lungseg.phantom import thorax_xray

    items = []
    for seed, shape in ((1, (80, 64)), (2, (64, 96))):
        volume, truth = thorax_xray(shape, seed=seed)
        labels = np.where(truth.array > 0, truth.array, BACKGROUND).astype(np.uint8)
        items.append(Painted(volume, LabelMap(labels, volume.geometry, names=truth.names)))
    start = save_tiny(tmp_path, modality="xray", unit="a.u.", preprocessing=Preprocessing(size=(64, 64)))
    steps = iter_learn(items, str(start), tmp_path / "run", settings=QUICK)
    first = next(step.payload for step in steps if isinstance(step.payload, Preview))
    steps.send(Update(look=(1, 0)))
    shown = [step.payload for step in (next(steps) for _ in range(7)) if isinstance(step.payload, Preview)]
    steps.close()
    assert first.labels.shape == (80, 64)
    assert shown[0].labels.shape == (64, 96)


def test_a_model_without_its_own_weights_is_refused(tmp_path: Path) -> None:
    start = save_tiny(tmp_path)
    weights = read_weights(start)
    weights.pop("segmentation_head.0.bias")
    broken = save_model(tmp_path / "broken.safetensors", read_spec(start), weights)
    volume, truth = scan()
    with pytest.raises(IncompatibleModelError, match=r"do not fit its own architecture \(segmentation_head.0.bias\)"):
        start_from(str(broken), volume, truth.names, {})
