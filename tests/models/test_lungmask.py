"""lungmask's network and its way of feeding it: the same labels as lungmask's own, voxel by voxel."""

from __future__ import annotations

import csv
import dataclasses
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_lungseg import SegmentSettings, Volume, segment
from napari_lungseg.models.catalog import Model
from napari_lungseg.models.networks.lungmask import build_lungmask_unet, convert_lungmask
from napari_lungseg.models.published import LUNGMASK
from napari_lungseg.models.weights import save_model
from napari_lungseg.phantom import thorax_ct
from napari_lungseg.segmentation import lungmask_fit
from napari_lungseg.volume import Geometry

SETTINGS = SegmentSettings(precision="float32", postprocess=False)


@pytest.fixture(scope="module")
def theirs():
    """The package lungmask, which the tests and benchmarks compare with; its import changes global filters."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.filterwarnings", lambda *_, **__: None)
        pytest.importorskip("lungmask.mask", reason="lungmask is not installed: pip install lungmask")
    return sys.modules["lungmask.mask"]


def published_like(path: Path, build, classes: int, volume: np.ndarray) -> Path:
    """Random weights saved as lungmask saves them, with statistics under which every label comes up."""
    torch.manual_seed(classes)
    network = build(n_classes=classes, padding=True, depth=5, up_mode="upsample", batch_norm=True, residual=False)
    images = torch.from_numpy((np.clip(volume[:, ::3, ::3], -1024, 600) + 1024) / 1624).float()[:, None]
    images = torch.nn.functional.interpolate(images, size=(96, 96))
    with torch.no_grad():
        for _ in range(30):
            network.train()(images)
        # Each class stands out as often as any other.
        features = []
        network.last.register_forward_pre_hook(lambda _, given: features.append(given[0]))
        network.eval()(images)
        scores = network.last(features[0])
        network.last.weight /= scores.std(dim=(0, 2, 3))[:, None, None, None]
        network.last.bias[:] = 0
        network.last.bias -= network.last(features[0]).mean(dim=(0, 2, 3))
    torch.save(network.state_dict(), path)
    return path


def both(theirs, path: Path, name: str, volume: Volume, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Labels of lungmask and of this package, from the same weights."""
    inferer = theirs.LMInferer(modelpath=str(path), force_cpu=True, volume_postprocessing=False, tqdm_disable=True)
    weights = convert_lungmask(torch.load(path, weights_only=True))
    spec = LUNGMASK[name].spec
    base = len(weights["last.weight"][0])
    spec = dataclasses.replace(spec, options={"base": base})
    model = Model(spec, save_model(folder / "converted.safetensors", spec, weights, half=False))
    return inferer.apply(volume.array), segment(volume, model, device="cpu", settings=SETTINGS).array


def assert_same(expected: np.ndarray, found: np.ndarray, classes: int) -> None:
    shares = np.bincount(expected.ravel(), minlength=classes) / expected.size
    assert (shares > 0.02).sum() >= 3, f"these weights tell little apart: {shares}"
    assert (expected == found).mean() >= 0.999, (expected == found).mean()


@pytest.mark.parametrize(("name", "classes"), [("lungmask-r231", 3), ("lungmask-ltrclobes", 6)])
@pytest.mark.parametrize("shape", [(4, 200, 312), (3, 512, 356)])
def test_the_labels_are_lungmasks_own(theirs, monkeypatch, tmp_path, name, classes, shape) -> None:
    volume, _ = thorax_ct(shape=shape, spacing=None, seed=3)
    volume = dataclasses.replace(volume, array=volume.load().array.astype(np.int16))
    slim = partial(theirs.UNet, wf=3)  # eight channels instead of sixty-four
    monkeypatch.setattr(theirs, "UNet", slim)
    path = published_like(tmp_path / "unet.pth", slim, classes, volume.array)
    assert_same(*both(theirs, path, name, volume, tmp_path), classes)


def test_the_labels_are_lungmasks_own_on_values_with_fractions(theirs, monkeypatch, tmp_path) -> None:
    rng = np.random.default_rng(0)
    volume, _ = thorax_ct(shape=(3, 160, 190), spacing=None, seed=4)
    array = volume.load().array.astype(np.float32) + rng.normal(0, 3, volume.geometry.shape).astype(np.float32)
    volume = dataclasses.replace(volume, array=array)
    slim = partial(theirs.UNet, wf=3)
    monkeypatch.setattr(theirs, "UNet", slim)
    path = published_like(tmp_path / "unet.pth", slim, 3, array)
    assert_same(*both(theirs, path, "lungmask-r231", volume, tmp_path), 3)


@pytest.mark.slow
def test_the_labels_are_lungmasks_own_at_full_width(theirs, test_data, tmp_path) -> None:
    from napari_lungseg import read

    with (test_data / "ct" / "split.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row["split"] == "train")
    scan = next(item for item in read(test_data / "ct" / row["image"]) if isinstance(item, Volume))
    view, _ = scan.load().reoriented()
    part = np.ascontiguousarray(view.array[len(view.array) // 4 :: len(view.array) // 8][:4])
    volume = Volume(part, Geometry(part.shape, view.geometry.spacing), "ct", "HU")
    path = published_like(tmp_path / "unet.pth", theirs.UNet, 3, part)
    assert_same(*both(theirs, path, "lungmask-r231", volume, tmp_path), 3)


@pytest.mark.parametrize("shape", [(512, 512), (200, 312), (123, 105)])
def test_the_body_is_where_lungmask_sees_it(theirs, shape, rng) -> None:
    volume, _ = thorax_ct(shape=(5, *shape), spacing=None, seed=2)
    slices = volume.load().array.astype(np.int16)
    slices[3] = -1000
    slices[4] = rng.integers(-1000, 200, shape)
    _, expected = theirs.utils.preprocess(slices, resolution=[32, 32])
    found = lungmask_fit.body_boxes(torch.from_numpy(slices))
    assert [(box[0], box[2], box[1], box[3]) for box in found] == [tuple(box) for box in expected]


def test_the_weights_fit_without_their_dead_branches(theirs) -> None:
    published = theirs.UNet(n_classes=6, padding=True, depth=5, wf=2, up_mode="upsample", batch_norm=True).state_dict()
    ours = convert_lungmask(published)
    assert len(ours) < len(published)
    build_lungmask_unet(1, 6, base=4).load_state_dict(ours, strict=True)


def test_images_of_any_size_come_back_in_it() -> None:
    network = build_lungmask_unet(1, 3, base=2).eval()
    assert network(torch.zeros(2, 1, 45, 67)).shape == (2, 3, 45, 67)
