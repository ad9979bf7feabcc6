"""The window names nobody: layers, their metadata, what is shown of them, autosaves, and what Save work keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from needles import FILE, FOLDER, PATHS, WORDS, found_in, leaks, planted

from napari_lungseg.io import read
from napari_lungseg.plugin.layers import KEY, labels_to_layer
from napari_lungseg.plugin.opening import add_item
from napari_lungseg.plugin.painting import begin_painting
from napari_lungseg.plugin.recovery import Recovery
from napari_lungseg.training.work_record import RECORD


@pytest.fixture
def recovery(model_viewer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recovery]:
    monkeypatch.setenv("LUNGSEG_RECOVERY", str(tmp_path / "recovery"))
    made = Recovery(model_viewer, 10**8)
    yield made
    made.close()


def test_layers_and_autosaves_name_nobody(
    model_viewer: Any, recovery: Recovery, tmp_path: Path, qtbot: Any, notices: list[Any]
) -> None:
    scan, labels = planted(tmp_path)
    (volume,) = read(scan)
    image = add_item(model_viewer, volume.load())
    drawn = add_item(model_viewer, labels)
    layer = model_viewer.add_layer(begin_painting(image, names={1: "nodule"}))
    layer.data[4, 10:20, 10:20] = 1
    layer.refresh()
    for each in (image, drawn, layer):
        # Which file is damaged is told, and where the series lies is kept in memory for DICOM labels.
        stored = {name: value for name, value in each.metadata[KEY].items() if name not in ("source", "findings")}
        assert found_in(f"{each.name} {getattr(each, 'features', '')} {stored}") == []
        assert found_in(repr(each.metadata), WORDS) == []
    assert found_in(" ".join(notice.message for notice in notices), WORDS) == []
    assert FOLDER in image.metadata[KEY]["source"] and FILE in repr(image.metadata[KEY]["findings"])
    recovery.save_now()
    qtbot.waitUntil(lambda: not recovery.is_saving, timeout=60_000)
    (session,) = (path for path in (tmp_path / "recovery").iterdir() if path.is_dir())
    (saved,) = session.rglob(RECORD)
    assert json.loads(saved.read_text())["items"]
    assert leaks(tmp_path / "recovery") == {}


def test_what_is_read_again_is_called_neutrally(tmp_path: Path, model_viewer: Any) -> None:
    from napari_lungseg.io import write

    _, labels = planted(tmp_path)
    path = write(labels, tmp_path / f"{FILE}.nii.gz")
    (back,) = read(path, labels=True)
    _, attributes, _ = labels_to_layer(back)  # type: ignore[arg-type]
    assert found_in(attributes["name"]) == []
    (volume,) = read(path, labels=False)
    assert found_in(volume.name, (*PATHS, *WORDS)) == [] and np.asarray(volume.array).any()  # type: ignore[union-attr]
