"""Layers that do not lie on each other are told of, once."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_lungseg.findings import Finding
from napari_lungseg.io import write
from napari_lungseg.plugin.layers import layer_to_volume
from napari_lungseg.plugin.opening import add_item, open_paths
from napari_lungseg.plugin.overlay import check_overlay, set_spacing
from napari_lungseg.volume import FRONTAL, Geometry, Volume

from .conftest import make_labels, make_volume


def picture(units: str = "pixel") -> Volume:
    geometry = Geometry((1, 40, 30), (1.0, 1.0, 1.0), direction=FRONTAL, units=units)
    return Volume(np.zeros((1, 40, 30), np.uint8), geometry, "xray", "a.u.", name="picture")


def test_scans_of_other_directions_do_not_overlay(model_viewer: Any, notices: list[Any]) -> None:
    add_item(model_viewer, make_volume())
    add_item(model_viewer, make_volume("RAS"))
    assert not notices  # the same axes, turned
    tilted = add_item(model_viewer, make_volume("oblique"))
    assert len(notices) == 1 and "do not overlay" in notices[0].message
    check_overlay(model_viewer, tilted)
    assert len(notices) == 1


def test_pixels_beside_mm_can_be_given_a_size(model_viewer: Any, notices: list[Any]) -> None:
    add_item(model_viewer, make_volume())
    layer = add_item(model_viewer, picture())
    offer = next(notice for notice in notices if notice.actions)
    assert "how large its pixels are" in offer.message
    set_spacing(layer, 0.2)
    geometry = layer_to_volume(layer).geometry
    assert geometry.is_mm and np.allclose(geometry.spacing[1:], 0.2)


def test_an_inferred_label_map_becomes_an_image_by_one_click(
    model_viewer: Any, qtbot: Any, notices: list[Any], tmp_path: Any
) -> None:
    path = write(make_labels(make_volume()), tmp_path / "lung_mask.nii.gz")
    path.with_name("lung_mask.labels.json").unlink(missing_ok=True)
    (tmp_path / "lung_mask.labels.json").unlink(missing_ok=True)
    open_paths(model_viewer, [path])
    qtbot.waitUntil(lambda: any(notice.actions for notice in notices), timeout=60_000)
    offer = next(notice for notice in notices if notice.actions)
    assert offer.actions[0][0] == "Show as image"
    assert type(model_viewer.layers[0]).__name__ == "Labels"
    offer.actions[0][1](None)
    assert [type(layer).__name__ for layer in model_viewer.layers] == ["Image"]


def test_the_widget_shows_what_the_reader_noticed(make_widget: Any, model_viewer: Any) -> None:
    widget = make_widget()
    add_item(model_viewer, make_volume(findings=(Finding("missing-slices", "Two slices are missing."),)))
    assert [widget._findings.item(row).text() for row in range(widget._findings.count())] == ["Two slices are missing."]
    add_item(model_viewer, make_volume())
    assert widget._findings.count() == 0
