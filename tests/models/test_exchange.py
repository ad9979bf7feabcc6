"""What is exported computes the same in other programs, says how to use it, and comes back."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from tiny_model import TINY, save_tiny

from napari_lungseg.cli.models import Exchange
from napari_lungseg.errors import LungSegError, ModelFileError, UnknownNameError
from napari_lungseg.models import library
from napari_lungseg.models.catalog import Model, load_model
from napari_lungseg.models.exchange import EXPORTERS, SUFFIXES, export, how_to_use
from napari_lungseg.models.spec import ModelSpec, Preprocessing
from napari_lungseg.models.weights import read_spec, read_weights

XRAY: dict[str, Any] = {
    "modality": "xray",
    "unit": "a.u.",
    "preprocessing": Preprocessing(size=(64, 96), percentiles=(1.0, 99.0)),
    "licence": "CC BY 4.0",
    "training": {"figures": {"Dice": 0.5}},
}


@pytest.fixture(params=["ct", "xray"])
def model(request, tmp_path: Path) -> Model:
    return load_model(save_tiny(tmp_path, **({} if request.param == "ct" else XRAY)))


@pytest.fixture
def images(model: Model) -> torch.Tensor:
    """A batch of another size than any that the exporters see."""
    return torch.rand(3, 1, *model.spec.preprocessing.size, generator=torch.Generator().manual_seed(5))


def scores_of(model: Model, images: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return model.network()(images).numpy()


def test_the_tables_and_the_flag_name_the_same_formats() -> None:
    assert set(EXPORTERS) == set(SUFFIXES) == set(get_args(Exchange))
    with pytest.raises(UnknownNameError, match="onnx"):
        export(Model(TINY, None), "onyx", "model.onyx")


def test_onnx_computes_the_same_for_any_batch(model: Model, images: torch.Tensor, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime")
    path = export(model, "onnx", tmp_path / "out" / "tiny.onnx")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(["scores"], {"image": images.numpy()})
    np.testing.assert_allclose(found, scores_of(model, images), atol=1e-4)
    described = session.get_modelmeta().custom_metadata_map
    assert ModelSpec.from_json(described["napari_lungseg"]) == model.spec
    assert described["how_to_use"] == how_to_use(model.spec)
    assert [entry.name for entry in path.parent.iterdir()] == ["tiny.onnx"]


def test_torchscript_computes_the_same_for_any_batch(model: Model, images: torch.Tensor, tmp_path: Path) -> None:
    path = export(model, "torchscript", tmp_path / "tiny.pt")
    described = {"napari_lungseg": ""}
    network = torch.jit.load(str(path), _extra_files=described)
    np.testing.assert_allclose(network(images).numpy(), scores_of(model, images), atol=1e-5)
    assert ModelSpec.from_json(described["napari_lungseg"]) == model.spec


def test_exporting_leaves_the_model_as_it_was(model: Model, images: torch.Tensor, tmp_path: Path) -> None:
    before = scores_of(model, images)
    export(model, "torchscript", tmp_path / "tiny.pt")
    assert np.array_equal(scores_of(model, images), before)
    assert model.network() is model.network()


# In a Python of its own, because the library leaves files open.
VALIDATE = """
import json, sys
from bioimageio.spec import InvalidDescr, load_description
found = load_description(sys.argv[1])
if isinstance(found, InvalidDescr):
    sys.exit(str(found.validation_summary.errors))
(image,), (scores,) = found.inputs, found.outputs
print(json.dumps([found.license, [axis.size for axis in image.axes[2:]], scores.axes[1].channel_names]))
"""


def test_a_package_for_the_zoo_is_valid(model: Model, tmp_path: Path) -> None:
    pytest.importorskip("bioimageio.spec", reason="bioimageio.spec is not installed: pip install bioimageio.spec")
    path = export(model, "bioimageio", tmp_path / "tiny.zip")
    done = subprocess.run(
        [sys.executable, "-c", VALIDATE, path], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    licence, size, channels = json.loads(done.stdout.splitlines()[-1])
    assert licence == model.spec.licence.replace(" ", "-")
    assert tuple(size) == model.spec.preprocessing.size
    assert channels == ["background", "right_lung", "left_lung"]


def test_the_packages_test_image_gives_its_test_scores(model: Model, tmp_path: Path) -> None:
    path = export(model, "bioimageio", tmp_path / "tiny.zip")
    with zipfile.ZipFile(path) as packed:
        packed.extractall(tmp_path / "open")
    folder = tmp_path / "open"
    description = json.loads((folder / "rdf.yaml").read_text())
    image = np.load(folder / "test_image.npy")
    for step in description["inputs"][0]["preprocessing"]:
        options = step["kwargs"]
        if step["id"] == "clip":
            image = image.clip(options["min"], options["max"])
        elif step["id"] == "scale_linear":
            image = image * options["gain"] + options["offset"]
        else:
            low, high = np.percentile(image, [options["min_percentile"], options["max_percentile"]])
            image = (image - low) / (high - low)
    assert 0 <= image.min() < 0.1 and 0.9 < image.max() <= 1
    scores = torch.jit.load(str(folder / "network.pt"))(torch.from_numpy(image.astype(np.float32)))
    np.testing.assert_allclose(scores.numpy(), np.load(folder / "test_scores.npy"), atol=1e-3)
    assert "## Validation" in (folder / "README.md").read_text()


def test_a_package_comes_back_as_the_same_model(model: Model, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LUNGSEG_MODELS", str(tmp_path / "mine"))
    path = export(model, "bioimageio", tmp_path / "tiny.zip")
    again = library.import_model(path, "again")
    assert read_spec(again).names == model.spec.names
    weights = read_weights(model.path)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in read_weights(again).items())
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as packed:
        packed.writestr("notes.txt", "nothing")
    with pytest.raises(ModelFileError, match=r"other\.zip holds 0"):
        library.import_model(tmp_path / "other.zip")


def test_a_licence_in_words_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    model = load_model(save_tiny(tmp_path, licence="ask us"))
    with pytest.raises(ModelFileError, match=r"'ask us'.*SPDX"):
        export(model, "bioimageio", tmp_path / "out" / "tiny.zip")
    assert list((tmp_path / "out").iterdir()) == []


def test_onnx_without_its_packages_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(LungSegError, match=r"pip install 'napari-lungseg\[onnx\]'"):
        export(load_model(save_tiny(tmp_path)), "onnx", tmp_path / "tiny.onnx")


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        (Preprocessing(size=(128, 256), window=(-1024, 600), crop_body=True), ["of the body", "-1024 and 600 HU", "128 × 256"]),
        (Preprocessing(crop_border=True, fit="pad"), ["blank borders", "percentiles 0.5 and 99.5", "keeping the aspect"]),
        (Preprocessing(window=(-1024, 600), fit="lungmask"), ["box of the body", "first pixel's centre"]),
        (Preprocessing(), ["the whole image", "whatever the aspect"]),
    ],
)  # fmt: skip
def test_the_words_say_what_the_description_says(steps: Preprocessing, says: list[str]) -> None:
    words = how_to_use(ModelSpec("x", "unet", preprocessing=steps, names={1: "right lung", 2: "left lung"}))
    assert "mirrored" not in words
    assert "mirrored input" in how_to_use(ModelSpec("x", "unet", preprocessing=steps, names={1: "heart"}, mirror=True))
    assert all(part in words for part in [*says, "0 background, 1 right lung, 2 left lung"])
