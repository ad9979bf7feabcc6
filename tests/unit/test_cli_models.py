"""``lungseg models``, and the question before anything is fetched."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from pathlib import Path

import pytest
import torch
from command_line import runner
from tiny_model import save_tiny

from napari_lungseg.io import write
from napari_lungseg.models import catalog
from napari_lungseg.models.networks.lungmask import build_lungmask_unet
from napari_lungseg.models.published import LUNGMASK
from napari_lungseg.phantom import thorax_ct

NAME = "lungmask-r231"


@pytest.fixture
def lungseg(capsys):
    return runner(capsys)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models of the test's own."""
    monkeypatch.setenv("LUNGSEG_MODELS", str(tmp_path / "models"))
    for variable in ("LUNGSEG_MODELS_OFFLINE", "LUNGSEG_MODELS_MIRROR"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "models"


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small lungmask, published in a folder."""
    torch.manual_seed(0)
    path = tmp_path / "unet.pth"
    torch.save(build_lungmask_unet(1, 3, base=2).state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    path = path.rename(tmp_path / f"unet-{digest}.pth")
    spec = dataclasses.replace(LUNGMASK[NAME].spec, options={"base": 2})
    offer = dataclasses.replace(LUNGMASK[NAME], spec=spec, url=path.as_uri(), sha256=digest)
    monkeypatch.setattr(catalog, "LUNGMASK", {NAME: offer})
    return path


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write(thorax_ct((3, 40, 48))[0], tmp_path / "scan.nii.gz")


class Terminal(io.StringIO):
    """Somebody who answers."""

    def isatty(self) -> bool:
        return True


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> Terminal:
    asked = Terminal()
    monkeypatch.setattr("sys.stdin", Terminal(text))
    monkeypatch.setattr("napari_lungseg.cli.models.sys.stderr", asked)
    return asked


def state(lungseg, name: str) -> str:
    return next(record["state"] for record in json.loads(lungseg("models", "--json").out) if record["name"] == name)


def test_a_fetched_model_says_so_and_is_not_fetched_again(lungseg, published, folder) -> None:
    assert state(lungseg, NAME) == "not fetched yet"
    done = lungseg("models", "fetch", NAME)
    assert (done.code, done.out.strip()) == (0, str(folder / "fetched" / f"{NAME}.safetensors"))
    assert state(lungseg, NAME) == "fetched"
    published.unlink()
    assert "already" in lungseg("models", "fetch", NAME).out
    assert lungseg("models", "fetch", "ct-lungs").code == 0
    assert lungseg("models", "fetch", "nothing").code == 2


def test_segmenting_fetches_with_yes(lungseg, published, scan, tmp_path) -> None:
    done = lungseg("segment", scan, "-o", tmp_path / "out.nii.gz", "--model", NAME, "--device", "cpu", "--yes")
    assert done.code == 0, done.err
    assert (tmp_path / "out.nii.gz").is_file()


@pytest.mark.parametrize(("text", "code"), [("y\n", 0), ("n\n", 2), ("\n", 2), ("", 2)])
def test_segmenting_asks_before_it_fetches(lungseg, published, scan, tmp_path, monkeypatch, text, code) -> None:
    asked = answer(monkeypatch, text)
    done = lungseg("segment", scan, "-o", tmp_path / "out.nii.gz", "--model", NAME, "--device", "cpu")
    assert done.code == code
    for part in (NAME, "125 MB", str(published), "Apache-2.0", "[y/N]"):
        assert part in asked.getvalue()
    assert (tmp_path / "out.nii.gz").is_file() == (code == 0)


def test_nobody_there_to_be_asked_is_told_what_to_do(lungseg, published, scan, tmp_path) -> None:
    done = lungseg("segment", scan, "-o", tmp_path / "out.nii.gz", "--model", NAME)
    assert done.code == 2
    assert "lungseg models fetch lungmask-r231" in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_a_published_file_at_hand_is_imported_as_its_model(lungseg, published) -> None:
    done = lungseg("models", "import", published)
    assert done.code == 0, done.err
    assert state(lungseg, NAME) == "fetched"


def test_a_model_is_imported_shown_and_exported(lungseg, tmp_path, folder) -> None:
    done = lungseg("models", "import", save_tiny(tmp_path), "--name", "mine", "--licence", "CC BY 4.0")
    assert done.out.strip() == f"mine: {folder / 'mine.safetensors'}"
    assert state(lungseg, "mine") == "yours"
    assert "mine" in lungseg("models").out
    shown = json.loads(lungseg("models", "show", "mine").out)
    assert (shown["name"], shown["licence"], shown["state"]) == ("mine", "CC BY 4.0", "yours")
    assert "64 × 64" in shown["how_to_use"]
    out = tmp_path / "mine.pt"
    assert lungseg("models", "export", "mine", "--format", "torchscript", "-o", out).out.strip() == str(out)
    assert out.is_file()
    again = lungseg("models", "import", save_tiny(tmp_path), "--name", "mine")
    assert again.code == 2 and "--overwrite" in again.err
    assert "ct-lungs" in lungseg("models", "import", save_tiny(tmp_path), "--name", "ct-lungs").err


def test_a_model_that_cannot_be_used_is_told_in_the_list(lungseg, folder) -> None:
    folder.mkdir()
    (folder / "bad.safetensors").write_bytes(b"rubbish")
    done = lungseg("models")
    assert done.code == 0
    assert "cannot be used" in done.out
    assert "! bad.safetensors is not a complete" in done.out
    assert lungseg("models", "show", "bad").code == 2


def test_a_wrong_format_names_the_right_ones(lungseg) -> None:
    done = lungseg("models", "export", "ct-lungs", "--format", "onyx")
    assert done.code == 2 and "torchscript" in done.err
