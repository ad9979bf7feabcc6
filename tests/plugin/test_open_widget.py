"""*Open chest scan…*: what its rows say is what is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from dicom_phantom import ct_series, voxels

from napari_lungseg.plugin.open_widget import OpenWidget


def test_tilted_and_uneven_slices_open_straight_where_that_is_asked_for(
    tmp_path: Path, model_viewer: Any, qtbot: Any, notices: list[Any]
) -> None:
    positions = np.outer([0, 1, 2, 4, 5], [0, 1.4, 2.5])
    ct_series(tmp_path / "series", voxels(), positions)
    widget = OpenWidget(model_viewer)
    qtbot.addWidget(widget)
    for choice in ("as scanned", "straight and even"):
        widget.slices.setCurrentText(choice)
        widget.open([tmp_path / "series"])
        qtbot.waitUntil(lambda: not widget.is_reading, timeout=60_000)
    scanned, straight = model_viewer.layers
    assert scanned.data.shape == voxels().shape
    assert straight.data.shape == (6, voxels().shape[1] + 10, voxels().shape[2])
    np.testing.assert_allclose(straight.scale, (2.5, 0.7, 0.9))
    assert "gantry tilt" in notices[0].message and "straight and even" not in notices[0].message
    assert "gantry tilt" not in notices[-1].message
    assert "resampled to a straight and even grid" in notices[-1].message
