"""Model files: what is written is read back, and damaged ones are refused in words."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_model import TINY, save_tiny

from napari_lungseg.errors import LungSegError, ModelFileError, UnknownNameError, WriteError
from napari_lungseg.models.catalog import load_model
from napari_lungseg.models.spec import ModelSpec
from napari_lungseg.models.weights import read_spec, read_weights, save_model


def test_spec_survives_the_file(tmp_path: Path) -> None:
    assert read_spec(save_tiny(tmp_path)) == TINY


def test_whoever_may_read_other_files_may_read_a_model_file(tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.touch()
    assert save_tiny(tmp_path).stat().st_mode == other.stat().st_mode


def test_spec_survives_json() -> None:
    assert ModelSpec.from_json(TINY.to_json()) == TINY


def test_weights_are_half_precision_on_disk_and_float_in_memory(tmp_path: Path) -> None:
    path = save_model(tmp_path / "m.safetensors", TINY, {"w": torch.tensor([1.0, 0.1]), "n": torch.tensor(7)})
    weights = read_weights(path)
    assert weights["w"].dtype == torch.float32
    assert weights["n"].item() == 7
    assert weights["w"][1] == torch.tensor(0.1).half().float()


def test_network_computes_the_same_after_a_round_trip(tmp_path: Path) -> None:
    first, second = save_tiny(tmp_path, name="a"), save_tiny(tmp_path, name="b")
    image = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        one, two = load_model(first).network()(image), load_model(second).network()(image)
    assert torch.equal(one, two)
    assert one.shape == (1, 3, 64, 64)


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(WriteError, match="No space"):
        save_model(tmp_path / "tiny.safetensors", TINY, {"w": torch.zeros(1)})
    assert list(tmp_path.iterdir()) == []


def make_truncated(path: Path) -> None:
    path.write_bytes(save_tiny(path.parent).read_bytes()[:1000])


def make_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"w": 1}))


def make_foreign(path: Path) -> None:
    save_file({"w": torch.zeros(1)}, path)


def make_newer(path: Path) -> None:
    save_file({"w": torch.zeros(1)}, path, metadata={"napari_lungseg": '{"format": 999}'})


def make_garbled(path: Path) -> None:
    save_file({"w": torch.zeros(1)}, path, metadata={"napari_lungseg": '{"format": 1, "name": 3}'})


@pytest.mark.parametrize("make", [make_truncated, make_pickle, make_foreign, make_newer, make_garbled])
def test_damaged_and_foreign_files_are_refused(make: object, tmp_path: Path) -> None:
    path = tmp_path / "broken.safetensors"
    make(path)  # type: ignore[operator]
    with pytest.raises(ModelFileError, match="broken"):
        load_model(path)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = save_model(tmp_path / "m.safetensors", TINY, {"w": torch.zeros(1)})
    with pytest.raises(ModelFileError, match="do not fit"):
        load_model(path).network()


def test_unknown_names_are_told() -> None:
    with pytest.raises(UnknownNameError, match="ct-lung-typo"):
        load_model("ct-lung-typo")
    with pytest.raises(LungSegError, match="no model file"):
        load_model("nowhere.safetensors")
