"""A model whose weights are not here: the widget asks, and fetches in the background."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_network import FakeNetwork
from qtpy.QtWidgets import QMessageBox

from napari_lungseg.models import catalog
from napari_lungseg.models.networks.lungmask import build_lungmask_unet
from napari_lungseg.models.published import LUNGMASK
from napari_lungseg.plugin.opening import add_item

from .conftest import make_volume

NAME = "lungmask-r231"


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small lungmask, published in a folder; returns the file that will be made of it."""
    monkeypatch.setenv("LUNGSEG_MODELS", str(tmp_path / "models"))
    for variable in ("LUNGSEG_MODELS_OFFLINE", "LUNGSEG_MODELS_MIRROR"):
        monkeypatch.delenv(variable, raising=False)
    path = tmp_path / "unet.pth"
    torch.save(build_lungmask_unet(1, 3, base=2).state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    spec = dataclasses.replace(LUNGMASK[NAME].spec, options={"base": 2})
    offer = dataclasses.replace(LUNGMASK[NAME], spec=spec, url=path.as_uri(), sha256=digest)
    monkeypatch.setattr(catalog, "LUNGMASK", {NAME: offer})
    return tmp_path / "models" / "fetched" / f"{NAME}.safetensors"


def answering(monkeypatch: pytest.MonkeyPatch, answer: QMessageBox.StandardButton) -> list[str]:
    asked: list[str] = []

    def question(parent: Any, title: str, text: str, *buttons: Any) -> QMessageBox.StandardButton:
        asked.append(text)
        return answer

    monkeypatch.setattr(QMessageBox, "question", question)
    return asked


def chosen(make_widget: Callable[[], Any], model_viewer: Any) -> Any:
    add_item(model_viewer, make_volume())
    widget = make_widget()
    widget._models.setCurrentIndex(widget._models.findData(NAME))
    assert "fetched when first used" in widget._models.currentText()
    return widget


def test_after_a_yes_the_weights_are_fetched_and_used(
    published: Path, make_widget: Callable[[], Any], model_viewer: Any, network: FakeNetwork, qtbot: Any, monkeypatch
) -> None:
    asked = answering(monkeypatch, QMessageBox.StandardButton.Yes)
    widget = chosen(make_widget, model_viewer)
    for _ in range(2):
        widget.run_button.click()
        qtbot.waitUntil(lambda: widget.job is None, timeout=20_000)
    assert published.is_file()
    assert [call["model"] for call in network.calls] == [NAME, NAME]
    assert len(asked) == 1 and "125 MB" in asked[0] and "Apache-2.0" in asked[0] and "unet.pth" in asked[0]


def test_after_a_no_nothing_happens(
    published: Path, make_widget: Callable[[], Any], model_viewer: Any, network: FakeNetwork, monkeypatch
) -> None:
    asked = answering(monkeypatch, QMessageBox.StandardButton.No)
    widget = chosen(make_widget, model_viewer)
    widget.run_button.click()
    assert widget.job is None and len(asked) == 1
    assert not network.calls and not published.exists()
