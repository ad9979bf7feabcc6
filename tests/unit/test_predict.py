"""Segmentation from volume to labels: geometry, memory, precision, refusals. The networks are tiny or stand-ins."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_lungseg import Geometry, Volume, iter_segment, segment
from napari_lungseg.errors import DeviceError, IncompatibleModelError, LungSegError
from napari_lungseg.models.catalog import Model
from napari_lungseg.models.spec import ModelSpec, Preprocessing
from napari_lungseg.progress import drain
from napari_lungseg.segmentation.confidence import confidence_of
from napari_lungseg.segmentation.devices import resolve_device, resolve_precision
from napari_lungseg.segmentation.evidence import looked_at
from napari_lungseg.segmentation.predict import SegmentSettings, mirror_order
from napari_lungseg.volume import FRONTAL, LUNG_NAMES

PLAIN = SegmentSettings(postprocess=False, batch_size=4)
SPEC = ModelSpec(
    name="halves",
    architecture="unet",
    preprocessing=Preprocessing(size=(64, 64), window=(-1024.0, 600.0)),
    names=dict(LUNG_NAMES),
)


class Halves(torch.nn.Module):
    """Calls dark pixels in the left half of the picture class 1 (right lung), in the right half class 2."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        dark = (images < 0.3).float()
        left = (torch.arange(images.shape[-1], device=images.device) < images.shape[-1] / 2).float()
        return torch.cat([1 - dark, dark * left, dark * (1 - left)], 1) * 20


class StandIn(Model):
    """A model whose network is given."""

    def network(self, device: torch.device | str = "cpu") -> torch.nn.Module:
        return Halves().to(device)


HALVES = StandIn(SPEC, Path("halves.safetensors"))


def body(shape: tuple[int, int, int] = (10, 60, 80)) -> np.ndarray:
    """A body in standard view with a large right and a small left lung, HU."""
    z, y, x = shape
    hu = np.full(shape, 40, np.int16)
    hu[2 : z - 2, y // 4 : -y // 4, x // 8 : 3 * x // 8] = -850
    hu[2 : z - 3, y // 3 : -y // 3, 5 * x // 8 : 7 * x // 8] = -850
    return hu


def oriented(perm: tuple[int, ...], signs: tuple[int, ...]) -> tuple[Volume, np.ndarray]:
    """The body stored in another orientation, and where its right lung is in that array."""
    hu = body()
    right = (hu < 0) & (np.arange(hu.shape[2]) < hu.shape[2] / 2)
    matrix = np.zeros((3, 3))
    for axis, (world, sign) in enumerate(zip(perm, signs, strict=True)):
        matrix[world, axis] = sign
    flips = tuple(slice(None, None, sign) for sign in signs)
    spacing = np.array((3.0, 1.5, 1.2))[list(perm)]
    stored, where = hu.transpose(perm)[flips], right.transpose(perm)[flips]
    geometry = Geometry(stored.shape, tuple(spacing), (-40.0, 12.0, 7.0), tuple(map(tuple, matrix)))
    return Volume(np.ascontiguousarray(stored), geometry), where


@pytest.mark.parametrize("perm", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, -1)])
def test_right_is_the_patients_right_in_every_orientation(perm: tuple[int, ...], signs: tuple[int, ...]) -> None:
    volume, right = oriented(perm, signs)
    labels = segment(volume, HALVES, settings=PLAIN, device="cpu")
    assert labels.geometry == volume.geometry
    found = labels.array == 1
    assert 2 * (found & right).sum() / (found.sum() + right.sum()) > 0.93
    lateral = [np.mean([volume.geometry.position(i)[2] for i in np.argwhere(labels.array == k)[::37]]) for k in (1, 2)]
    assert lateral[0] < lateral[1]  # LPS: x grows to the patient's left


def test_one_slice_gives_what_the_stack_gives() -> None:
    volume = Volume(body(), Geometry((10, 60, 80), (3.0, 1.5, 1.2)))
    single = replace(volume, array=volume.array[4:5], geometry=Geometry((1, 60, 80), (3.0, 1.5, 1.2)))
    whole = segment(volume, HALVES, settings=PLAIN, device="cpu")
    assert np.array_equal(segment(single, HALVES, settings=PLAIN, device="cpu").array[0], whole.array[4])


def test_batches_do_not_matter_and_progress_is_told() -> None:
    volume = Volume(body(), Geometry((10, 60, 80)))
    steps: list[int] = []
    one = segment(volume, HALVES, settings=replace(PLAIN, batch_size=3), progress=lambda p: steps.append(p.done))
    other = segment(volume, HALVES, settings=replace(PLAIN, batch_size=10))
    assert np.array_equal(one.array, other.array)
    assert steps[-1] == 10 and steps == sorted(steps)


class LeftHalf(StandIn):
    """A network that finds what is dark in the left half of the picture alone: its mean with the mirrored one finds all."""

    def network(self, device: torch.device | str = "cpu") -> torch.nn.Module:
        class Half(Halves):
            def forward(self, images: torch.Tensor) -> torch.Tensor:
                scores = super().forward(images)
                return torch.stack([torch.full_like(scores[:, 0], 5.0), scores[:, 1]], 1)

        return Half().to(device)


def test_a_model_that_wants_the_mirrored_image_gets_it_whatever_the_settings() -> None:
    spec = replace(SPEC, names={1: "dark"})
    volume = Volume(body(), Geometry(body().shape, (3.0, 1.0, 1.0)), "ct", "HU")
    plain = segment(volume, LeftHalf(spec, Path("one.safetensors")), settings=PLAIN)
    asked = segment(volume, LeftHalf(spec, Path("one.safetensors")), settings=replace(PLAIN, mirror=True))
    wanted = segment(volume, LeftHalf(replace(spec, mirror=True), Path("two.safetensors")), settings=PLAIN)
    half = volume.geometry.shape[2] // 2
    assert plain.array[..., :half].any() and not plain.array[..., half:].any()
    assert wanted.array[..., :half].any() and wanted.array[..., half:].any()
    assert np.array_equal(wanted.array, asked.array)
    assert ModelSpec.from_json(replace(spec, mirror=True).to_json()).mirror


def test_mirror_gives_a_symmetric_network_the_same_labels() -> None:
    volume = Volume(body(), Geometry((10, 60, 80)))
    plain, mirrored = (segment(volume, HALVES, settings=replace(PLAIN, mirror=m)) for m in (False, True))
    assert np.array_equal(plain.array, mirrored.array)
    assert mirror_order(LUNG_NAMES) == [0, 2, 1]
    assert mirror_order({1: "right lung", 2: "heart"}) == [0, 1, 2]
    assert mirror_order({1: "Right_Lung", 2: "heart", 3: "left-lung"}) == [0, 3, 2, 1]


def test_lazy_volumes_are_read_batch_by_batch() -> None:
    import dask.array as da

    volume = Volume(body(), Geometry((10, 60, 80)))
    lazy = replace(volume, array=da.from_array(volume.array, chunks=(1, -1, -1)))
    one, other = (segment(v, HALVES, settings=PLAIN) for v in (volume, lazy))
    assert np.array_equal(one.array, other.array)


def failing_above(limit: int) -> Callable[[torch.nn.Module, torch.Tensor], torch.Tensor]:
    forward = Halves.forward

    def run(self: Halves, images: torch.Tensor) -> torch.Tensor:
        if len(images) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, images)

    return run


def test_out_of_memory_halves_the_batch_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = Volume(body(), Geometry((10, 60, 80)))
    expected = segment(volume, HALVES, settings=PLAIN)
    monkeypatch.setattr(Halves, "forward", failing_above(1))
    labels = segment(volume, HALVES, settings=replace(PLAIN, batch_size=8))
    assert np.array_equal(labels.array, expected.array)
    told = [finding.message for finding in labels.findings if finding.code == "out-of-memory"]
    assert len(told) == 1 and "1 slices" in told[0]


def test_out_of_memory_on_one_slice_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Halves, "forward", failing_above(0))
    with pytest.raises(DeviceError, match="single slice"):
        segment(Volume(body(), Geometry((10, 60, 80))), HALVES, settings=PLAIN)


def test_other_errors_of_the_network_are_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Halves, images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(Halves, "forward", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        segment(Volume(body(), Geometry((10, 60, 80))), HALVES, settings=PLAIN)


def test_the_record_says_what_made_the_labels() -> None:
    labels = segment(Volume(body(), Geometry((10, 60, 80))), HALVES, settings=PLAIN, device="cpu")
    assert labels.record["model"] == "halves" and labels.record["device"] == "cpu"
    assert labels.record["settings"]["batch_size"] == 4
    assert labels.names == dict(LUNG_NAMES)


def test_not_a_number_does_not_reach_the_network() -> None:
    hu = body().astype(np.float32)
    hu[:, :3, :3] = np.nan
    labels = segment(Volume(hu, Geometry(hu.shape)), HALVES, settings=PLAIN)
    assert set(np.unique(labels.array)) == {0, 1, 2}


def refuse(volume: Volume, match: str) -> None:
    with pytest.raises(IncompatibleModelError, match=match):
        segment(volume, HALVES, settings=PLAIN)


def test_wrong_images_are_refused_in_words() -> None:
    xray = Volume(np.zeros((1, 64, 64), np.uint8), Geometry((1, 64, 64), direction=FRONTAL), "xray", "a.u.")
    refuse(xray, "is for a chest CT, but this image is a chest X-ray")
    refuse(Volume(body(), Geometry((10, 60, 80)), unit="a.u."), "needs values in HU")
    refuse(Volume(np.zeros((1, 1, 1), np.int16), Geometry((1, 1, 1))), "1 × 1 pixels")
    photo = Volume(np.zeros((1, 64, 64, 3), np.uint8), Geometry((1, 64, 64)), "photo", "rgb")
    refuse(photo, "colour photograph")
    with pytest.raises(IncompatibleModelError, match="No bundled model"):
        segment(photo)


def test_a_coronal_slice_is_done_with_a_finding() -> None:
    geometry = Geometry((1, 64, 64), direction=FRONTAL)
    labels = segment(Volume(body((5, 64, 64))[2:3], geometry), HALVES, settings=PLAIN)
    assert "not-axial" in [finding.code for finding in labels.findings]


def test_closing_the_generator_midway_is_clean() -> None:
    steps = iter_segment(Volume(body(), Geometry((10, 60, 80))), HALVES, settings=PLAIN)
    next(steps)
    next(steps)
    steps.close()
    assert drain(iter_segment(Volume(body(), Geometry((10, 60, 80))), HALVES, settings=PLAIN)).array.any()


def test_settings_out_of_bounds_name_the_field() -> None:
    with pytest.raises(LungSegError, match="batch_size is 0"):
        SegmentSettings(batch_size=0)
    with pytest.raises(LungSegError, match="precision is 'int4'"):
        SegmentSettings(precision="int4")


def test_devices_that_are_not_there_are_refused() -> None:
    with pytest.raises(DeviceError, match="no device 'cuda:99'"):
        resolve_device("cuda:99")
    with pytest.raises(DeviceError, match="no kind of device"):
        resolve_device("abacus")
    with pytest.raises(DeviceError, match="float16"):
        resolve_precision("float16", torch.device("cpu"))


class Torn(torch.nn.Module):
    """Sure of the background, wholly undecided where it is dark."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        light = (images > 0.3).float() * 50
        return torch.cat([light, torch.zeros_like(light), torch.zeros_like(light)], 1)


class StandInTorn(Model):
    """A model whose network cannot decide."""

    def network(self, device: torch.device | str = "cpu") -> torch.nn.Module:
        return Torn().to(device)


@pytest.mark.parametrize(("perm", "signs"), [((0, 1, 2), (1, 1, 1)), ((2, 0, 1), (-1, 1, -1)), ((1, 2, 0), (1, -1, 1))])
def test_uncertainty_is_high_where_the_network_is_torn(
    perm: tuple[int, ...], signs: tuple[int, ...], tmp_path: Path
) -> None:
    volume, _ = oriented(perm, signs)
    entropy = np.memmap(tmp_path / "entropy", np.uint8, "w+", shape=volume.geometry.shape)
    segment(volume, StandInTorn(SPEC, Path("torn.safetensors")), settings=PLAIN, device="cpu", uncertainty=entropy)
    dark = np.asarray(volume.array) < 0
    assert np.median(entropy[dark]) == 100 and np.median(entropy[~dark]) == 0
    assert np.corrcoef(entropy.ravel(), dark.ravel())[0, 1] > 0.85


def test_a_stack_is_looked_at_again_in_a_few_slices_and_frames_one_by_one() -> None:
    assert looked_at(100, each=False).sum() == 6 and looked_at(5, each=False).all() and looked_at(100, each=True).all()
    assert np.diff(np.flatnonzero(looked_at(100, each=False))).max() <= 17


def test_views_agree_on_what_does_not_depend_on_them() -> None:
    """`Halves` names by the half of the picture, so that its mirror image agrees only if right and left change names."""
    volume, _ = oriented((0, 1, 2), (1, 1, 1))
    quality = segment(volume, HALVES, settings=PLAIN, device="cpu").record["quality"][0]
    assert quality["mirrored"] > 0.99 and quality["lighter"] > 0.9 and 0.8 < quality["turned"] < 1
    without = segment(volume, HALVES, settings=replace(PLAIN, look_again=False), device="cpu").record
    assert "mirrored" not in without["quality"][0] and without["confidence"]["predicted_dice"] is None


def test_a_model_without_a_calibration_predicts_nothing() -> None:
    volume, _ = oriented((0, 1, 2), (1, 1, 1))
    said = confidence_of(segment(volume, HALVES, settings=PLAIN, device="cpu"))
    assert said is not None and said.predicted_dice is None and said.light in ("grey", "amber")
