"""The *PACS* widget against a real Orthanc: search, open, send a segmentation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_series import labels_on, series
from orthanc import PASSWORD, USER, running_orthanc

from napari_lungseg.io.dicomweb import query, store
from napari_lungseg.io.pacs_session import Credentials
from napari_lungseg.plugin.layers import labels_to_layer
from napari_lungseg.plugin.pacs_widget import PacsWidget
from napari_lungseg.progress import drain

SIGNED = Credentials(user=USER, password=PASSWORD)


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[str]:
    with running_orthanc(tmp_path / "orthanc") as url:
        yield url


def test_search_open_and_send(orthanc: str, tmp_path: Path, model_viewer: Any, qtbot: Any, notices: list[Any]) -> None:
    volume = series(tmp_path / "scan", SeriesDescription="of Mustermann")
    drain(store(orthanc, [tmp_path / "scan"], credentials=SIGNED))
    widget = PacsWidget(model_viewer)
    qtbot.addWidget(widget)
    assert not widget.open_button.isEnabled() and not widget.send_button.isEnabled()

    def settled() -> None:
        qtbot.waitUntil(lambda: not widget.box.is_running, timeout=60_000)

    widget.user.setText(USER)
    widget.password.setText(PASSWORD)
    for wrong, told in (
        (f"{orthanc}/nothing/here", "check the"),
        ("http://127.0.0.1:9/x", "could not be reached"),
        ("pacs", "no address"),
    ):
        widget.url.setText(wrong)
        widget.search()
        settled()
        assert told in widget.box.message.text() and not widget.found
    widget.url.setText(orthanc)
    widget.password.setText("wrong")
    widget.search()
    settled()
    assert "did not accept" in widget.box.message.text() and "wrong" not in widget.box.message.text()
    widget.password.setText(PASSWORD)
    widget.filters["patient_name"].setText("Muster*")
    widget.search()
    settled()
    assert widget.table.table.rows == (("patient 1", "2024-02-29", "CT 4", "", 5),)
    widget.table.chosen.emit(0)
    widget.open_chosen()
    qtbot.waitUntil(lambda: len(model_viewer.layers) == 1, timeout=60_000)
    (image,) = model_viewer.layers
    np.testing.assert_array_equal(np.asarray(image.data), np.asarray(volume.reoriented()[0].array))
    data, attributes, _ = labels_to_layer(labels_on(volume))
    model_viewer.add_labels(data, **attributes)
    settled()
    widget.send()
    settled()
    assert "stored" in widget.box.message.text(), notices
    assert {one.modality for one in drain(query(orthanc, credentials=SIGNED))} == {"CT", "SEG"}
    told = repr([(layer.name, layer.metadata) for layer in model_viewer.layers]) + "".join(n.message for n in notices)
    assert not [word for word in ("Mustermann", "PAT-4711", "19700101", PASSWORD, USER) if word in told]
    again = PacsWidget(model_viewer)
    qtbot.addWidget(again)
    assert (again.url.text(), again.user.text(), again.password.text()) == (orthanc, "", "")
    kept = "".join(path.read_text() for path in (tmp_path / "settings").rglob("*") if path.is_file())
    assert orthanc in kept and not [word for word in (USER, PASSWORD, "Mustermann", "PAT-4711") if word in kept]
    again.close_down()
    folder = Path(widget._folder.name)
    widget.close_down()
    assert not folder.exists()
