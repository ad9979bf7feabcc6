"""Which models are found: bundled ones, the user's own, those of other packages; and that a bad one hides no other."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import TINY, save_tiny

from napari_lungseg import SegmentSettings, Volume, segment
from napari_lungseg.errors import ModelFileError, UnknownNameError
from napari_lungseg.models import catalog
from napari_lungseg.models.catalog import (
    Model,
    entries,
    find_entry,
    list_models,
    load_model,
    offer_of_file,
    taken_names,
)
from napari_lungseg.models.library import import_model, model_folder
from napari_lungseg.models.published import CHESTX_DET, CHESTX_DET_LUNGS
from napari_lungseg.models.weights import read_spec, save_model
from napari_lungseg.volume import FRONTAL, Geometry

PACKAGE = """
from napari_lungseg.models.catalog import Model
from napari_lungseg.models.spec import ModelSpec, Preprocessing

SPEC = ModelSpec("whatever", "of its own", {"depth": 2}, modality="xray", unit="a.u.",
                 preprocessing=Preprocessing(size=(32, 48), percentiles=(0, 100)), names={1: "bright"}, licence="MIT")
MODEL = Model(SPEC, None, build="brightness:build")

def made():
    return MODEL

def build(in_channels, classes, depth):
    import torch
    network = torch.nn.Conv2d(in_channels, classes, 1)
    network.weight.data[:] = torch.tensor([0.0, 1.0])[:, None, None, None]
    network.bias.data[:] = torch.tensor([0.0, -0.25 * depth])
    return network

def broken():
    raise OSError("its server is down")
"""
POINTS = "[napari_lungseg.models]\nbright = brightness:{what}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models of the test's own."""
    monkeypatch.setenv("LUNGSEG_MODELS", str(tmp_path / "models"))
    monkeypatch.delenv("LUNGSEG_MODELS_OFFLINE", raising=False)
    return tmp_path / "models"


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """A package beside this one that brings the model "bright"."""
    (folder / "brightness-1.0.dist-info").mkdir()
    (folder / "brightness-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: brightness\nVersion: 1.0\n"
    )
    (folder / "brightness-1.0.dist-info" / "entry_points.txt").write_text(POINTS.format(what=what))
    (folder / "brightness.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "brightness", raising=False)


@pytest.mark.parametrize("what", ["MODEL", "made"])
def test_a_model_of_another_package_is_listed_and_segments(tmp_path: Path, monkeypatch, what: str) -> None:
    install(tmp_path, monkeypatch, what)
    assert [entry.state for entry in entries() if entry.spec.name == "bright"] == ["installed"]
    assert "bright" in {spec.name for spec in list_models()} & taken_names()
    image = np.zeros((1, 64, 96), np.uint8)
    image[0, 16:40, 48:90] = 200
    volume = Volume(image, Geometry(image.shape, direction=FRONTAL), "xray", "a.u.")
    labels = segment(volume, "bright", device="cpu", settings=SegmentSettings(precision="float32", postprocess=False))
    assert (labels.array == (image > 0)).mean() > 0.97
    assert labels.names == {1: "bright"}


@pytest.mark.parametrize("what", ["broken", "missing", "SPEC"])
def test_a_broken_package_is_told_and_hides_no_other_model(tmp_path: Path, monkeypatch, what: str) -> None:
    install(tmp_path, monkeypatch, what)
    assert "bright" not in {spec.name for spec in list_models()} >= {"ct-lungs", "xray-lungs"}
    entry = find_entry("bright")
    assert entry is not None and "package brightness cannot be loaded" in entry.problem
    with pytest.raises(ModelFileError, match="brightness"):
        load_model("bright")


def test_a_model_whose_library_is_missing_says_what_to_install(monkeypatch) -> None:
    lacking = dataclasses.replace(CHESTX_DET, needs="no_such_library")
    monkeypatch.setattr(catalog, "LUNGMASK", {"chestx-det": lacking})
    assert "chestx-det" not in {spec.name for spec in list_models()}
    with pytest.raises(ModelFileError, match=r"no_such_library.*pip install 'napari-lungseg\[xrv\]'"):
        load_model("chestx-det", fetch=True)


def test_an_imported_model_is_found_by_name(tmp_path: Path, folder: Path) -> None:
    source = save_tiny(tmp_path)
    target = import_model(source, licence="MIT")
    assert target == folder / "tiny.safetensors" == model_folder() / "tiny.safetensors"
    assert [entry.state for entry in entries() if entry.spec.name == "tiny"] == ["yours"]
    assert load_model("tiny").spec == dataclasses.replace(TINY, licence="MIT")
    image = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        assert torch.equal(load_model("tiny").network()(image), load_model(source).network()(image))
    with pytest.raises(ModelFileError, match=r"already.*--overwrite"):
        import_model(source)
    assert read_spec(import_model(source, overwrite=True)).licence == TINY.licence
    assert read_spec(import_model(source, "mine-2.0")).name == "mine-2.0"
    assert load_model("mine-2.0").spec.name == "mine-2.0"


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "two words", "ü"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path, folder: Path, name: str) -> None:
    with pytest.raises(ModelFileError, match="cannot be the name of a model"):
        import_model(save_tiny(tmp_path), name)
    assert not folder.exists()


def test_names_of_others_are_not_taken(tmp_path: Path) -> None:
    assert {"ct-lungs", "lungmask-r231", "chestx-det"} <= taken_names()
    with pytest.raises(ModelFileError, match="not yours"):
        import_model(save_tiny(tmp_path), "ct-lungs", taken=taken_names())


def test_a_damaged_file_among_the_users_own_hides_no_other(tmp_path: Path, folder: Path) -> None:
    import_model(save_tiny(tmp_path), "good")
    (folder / "bad.safetensors").write_bytes(b"rubbish")
    names = {spec.name for spec in list_models()}
    assert "good" in names and "bad" not in names
    with pytest.raises(ModelFileError, match=r"bad\.safetensors"):
        load_model("bad")


def test_the_users_folder_is_in_his_data_folder(monkeypatch) -> None:
    monkeypatch.delenv("LUNGSEG_MODELS")
    assert model_folder().parts[-2:] == ("napari-lungseg", "models")


def test_an_unknown_name_lists_the_known(tmp_path: Path) -> None:
    import_model(save_tiny(tmp_path))
    with pytest.raises(UnknownNameError, match=r"'nope'.*ct-lungs.*tiny.*lungmask-r231.*chestx-det"):
        load_model("nope")


def test_listing_imports_no_torch_and_no_torchxrayvision() -> None:
    code = "import sys; from napari_lungseg.models.catalog import entries; print(len(entries()))\n"
    code += "print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    count, loaded = done.stdout.splitlines()
    assert int(count) >= 7
    assert not {"torch", "torchxrayvision"} & set(loaded.split())


@pytest.fixture(scope="module")
def pspnet():
    """The class of torchxrayvision whose constructor downloads."""
    found = pytest.importorskip(
        "torchxrayvision.baseline_models.chestx_det",
        reason="torchxrayvision is not installed: pip install torchxrayvision",
    )
    return found.PSPNet


@pytest.fixture(scope="module")
def shallow(pspnet):
    """Its network with random weights, fewer layers, and statistics under which every structure comes up."""
    with pytest.MonkeyPatch.context() as patch:
        make = sys.modules["torchxrayvision.baseline_models.chestx_det.ptsemseg.pspnet"].pspnet
        patch.setattr(make.__init__, "__defaults__", (14, [1, 1, 1, 1], (473, 473), None))
        torch.manual_seed(0)
        network = make(14).eval()
        with torch.no_grad():
            network.classification.weight *= 30
        yield network


@pytest.mark.parametrize("offer", [CHESTX_DET, CHESTX_DET_LUNGS], ids=lambda offer: offer.spec.name)
def test_chestx_det_gives_each_structure_its_own_label(shallow, pspnet, tmp_path: Path, offer) -> None:
    from napari_lungseg.models.networks.chestx_det import convert_chestx_det

    saved = {f"module.{name}": tensor for name, tensor in shallow.state_dict().items()}
    path = save_model(tmp_path / "x.safetensors", offer.spec, convert_chestx_det(saved), half=False)
    image = torch.rand(1, 1, 72, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        scores = Model(offer.spec, path, offer.build).network()(image)
        mean, deviation = (torch.tensor(each)[:, None, None] for each in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        with pytest.warns(UserWarning, match="upsample"):
            theirs = shallow((image.repeat(1, 3, 1, 1) - mean) / deviation)
    latin = {"hilum": "hilus pulmonis", "diaphragm": "facies diaphragmatica", "trachea": "weasand"}
    assert scores.shape == (1, offer.spec.classes, 72, 96)
    for label, name in offer.spec.names.items():
        *side, part = name.split()
        target = " ".join([*side, latin.get(part, part)]).title()
        torch.testing.assert_close(scores[:, label], theirs[:, pspnet.targets.index(target)], atol=1e-4, rtol=1e-4)
    assert (scores[:, 0] == 0).all()


def test_chestx_det_tells_sides_by_name_and_shares_one_file() -> None:
    assert [CHESTX_DET.spec.names[label] for label in (1, 2, 9, 10)] == [
        "right lung", "left lung", "right clavicle", "left clavicle",
    ]  # fmt: skip
    assert len(CHESTX_DET.spec.names) == len(set(CHESTX_DET.spec.options["channels"])) == 14
    assert catalog.fetched_file(CHESTX_DET) == catalog.fetched_file(CHESTX_DET_LUNGS)
    found = offer_of_file(Path("pspnet_chestxray_best_model_4.pth"))
    assert found is not None and found.same_as == ""


@pytest.mark.slow
def test_chestx_det_labels_an_image_as_torchxrayvision_does(shallow, pspnet, tmp_path: Path, rng) -> None:
    from napari_lungseg.models.networks.chestx_det import convert_chestx_det

    theirs = pspnet.__new__(pspnet)
    torch.nn.Module.__init__(theirs)
    theirs.model = shallow
    import torchvision

    theirs.transform = torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    image = rng.integers(0, 256, (1, 64, 64)).astype(np.uint8).repeat(8, 1).repeat(8, 2)
    image[0, 0, :2] = 0, 255
    with torch.inference_mode(), pytest.warns(UserWarning, match="upsample"):
        chances = theirs(torch.from_numpy(2048 * (image[None] / 255.0) - 1024).float())[0].sigmoid().numpy()
    path = save_model(tmp_path / "x.safetensors", CHESTX_DET.spec, convert_chestx_det(shallow.state_dict()), half=False)
    volume = Volume(image, Geometry(image.shape, direction=FRONTAL), "xray", "a.u.")
    settings = SegmentSettings(precision="float32", postprocess=False)
    labels = segment(volume, Model(CHESTX_DET.spec, path, CHESTX_DET.build), device="cpu", settings=settings).array[0]
    order = [pspnet.targets[channel] for channel in CHESTX_DET.spec.options["channels"]]
    best = np.stack([chances[pspnet.targets.index(name)] for name in order])
    expected = np.where(best.max(0) > 0.5, best.argmax(0) + 1, 0)
    assert len(np.unique(expected)) > 2
    assert (labels == expected).mean() > 0.999


def test_a_function_that_wants_other_channels_is_refused() -> None:
    from napari_lungseg.models.networks.chestx_det import build_chestx_det

    pytest.importorskip("torchxrayvision", reason="torchxrayvision is not installed: pip install torchxrayvision")
    with pytest.raises(ValueError, match="do not go with 2 structures"):
        build_chestx_det(1, 5, [5, 4])
