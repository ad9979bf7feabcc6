"""Volumes and label maps to napari layers and back.

A layer shows the standard view (`Volume.reoriented`): flips and transposes only, so that slicing stays exact. What
napari cannot hold (direction, the file's voxel order, uneven slices, modality, findings) travels in
``layer.metadata["napari_lungseg"]`` and is put back when the layer is read or saved. Squeezing ``(1, y, x)`` to a
two-dimensional layer happens here and nowhere else.

In world coordinates a layer lies where its patient coordinates say, measured along its own axes: two scans of the
same direction overlay; scans of different directions do not.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import InvalidVolumeError
from ..volume import AXIAL, FRONTAL, Geometry, LabelMap, Modality, Volume
from .appearance import contrast_limits, features, label_colormap

KEY = "napari_lungseg"
AXES = ("z", "y", "x")
_NOT_SPACE = {
    "t": "time",
    "time": "time",
    "c": "channel",
    "ch": "channel",
    "channel": "channel",
    "channels": "channel",
    "s": "sample",
}

KINDS: Mapping[str, Modality | None] = {"automatic": None, "CT": "ct", "X-ray": "xray"}
"""What a person may say that an image is."""

LayerTuple = tuple[Any, dict[str, Any], str]


@dataclass(frozen=True)
class LayerFacts:
    """What a layer says of itself; the same from a `napari.layers.Layer` and from what a writer is handed.

    Parameters
    ----------
    data : array, (y, x), (z, y, x) or with a trailing colour axis where ``rgb``
    scale, translate : per spatial axis
    units : per spatial axis, as text
    axis_labels : per spatial axis
    name : of the layer
    rgb : whether the last axis of ``data`` is colour
    stored : what this package left in ``layer.metadata``
    """

    data: Any
    scale: tuple[float, ...]
    translate: tuple[float, ...]
    units: tuple[str, ...]
    axis_labels: tuple[str, ...]
    name: str = "layer"
    rgb: bool = False
    stored: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of voxels per spatial axis."""
        return tuple(self.data.shape[:-1] if self.rgb else self.data.shape)


def facts_of(data: Any, meta: Mapping[str, Any]) -> LayerFacts:
    """Facts from the array and attributes that napari hands a writer."""
    rgb = bool(meta.get("rgb", False))
    array = data[0] if meta.get("multiscale") else data
    ndim = array.ndim - rgb
    return LayerFacts(
        data=array,
        scale=tuple(float(value) for value in meta.get("scale", (1.0,) * ndim)),
        translate=tuple(float(value) for value in meta.get("translate", (0.0,) * ndim)),
        units=tuple(str(unit) for unit in meta.get("units") or ("pixel",) * ndim),
        axis_labels=tuple(str(label) for label in meta.get("axis_labels") or ()),
        name=str(meta.get("name", "layer")),
        rgb=rgb,
        stored=(meta.get("metadata") or {}).get(KEY, {}),
    )


def layer_facts(layer: Any) -> LayerFacts:
    """Facts of a `napari.layers.Image` or `napari.layers.Labels`."""
    return facts_of(
        layer.data,
        {
            "rgb": getattr(layer, "rgb", False),
            "multiscale": layer.multiscale,
            "scale": layer.scale,
            "translate": layer.translate,
            "units": layer.units,
            "axis_labels": layer.axis_labels,
            "name": layer.name,
            "metadata": layer.metadata,
        },
    )


def volume_to_layer(volume: Volume) -> LayerTuple:
    """The layer data tuple that shows a volume in the standard view; its voxels may stay lazy."""
    standard, _ = volume.reoriented()
    data = standard.array[0] if standard.geometry.shape[0] == 1 else standard.array
    stored = {
        "geometry": volume.geometry,
        "modality": volume.modality,
        "unit": volume.unit,
        "window": volume.window,
        "findings": volume.findings,
        "source": volume.source,
        "name": volume.name,
    }
    attributes = {**_placement(volume.geometry), "name": volume.name, "metadata": {KEY: stored}, "multiscale": False}
    if volume.unit == "rgb":
        attributes["rgb"] = True
    else:
        attributes |= {"rgb": False, "colormap": "gray", "contrast_limits": contrast_limits(volume)}
    return data, attributes, "image"


def labels_to_layer(labels: LabelMap) -> LayerTuple:
    """The layer data tuple that shows a label map in the standard view, with its names and colours."""
    standard, _ = labels.reoriented()
    array = np.ascontiguousarray(standard.array)
    stored = {
        "geometry": labels.geometry,
        "names": dict(labels.names),
        "colours": dict(labels.colours),
        "findings": labels.findings,
        "source": labels.source,
        "record": dict(labels.record),
    }
    attributes = {
        **_placement(labels.geometry),
        "name": labels.name,
        "metadata": {KEY: stored},
        "multiscale": False,
        "colormap": label_colormap(labels.colours, array.dtype),
        "features": features(labels.names),
        "opacity": 0.5,
        # In 3-D a scan's brightest voxels would hide the lungs behind the ribs.
        "blending": "translucent_no_depth",
    }
    return array[0] if labels.geometry.shape[0] == 1 else array, attributes, "labels"


def layer_to_volume(layer: Any, modality: Modality | None = None) -> Volume:
    """The volume that an Image layer shows, in its file's voxel order; any Image layer, whoever opened it.

    Parameters
    ----------
    layer : `napari.layers.Image`, or its `LayerFacts`
    modality : overrides what the layer's metadata or its voxels say

    Raises
    ------
    InvalidVolumeError
        For time, channel or other axes beyond space.
    """
    facts = layer if isinstance(layer, LayerFacts) else layer_facts(layer)
    check_axes(facts)
    stored = facts.stored
    if "modality" not in stored or modality not in (None, stored["modality"]):
        return _settled(facts, modality)
    geometry = layer_geometry(facts, stored["modality"])
    return Volume(
        geometry.reorientation().undo(_with_z(facts)),
        geometry,
        stored["modality"],
        stored["unit"],
        stored.get("window"),
        tuple(stored.get("findings", ())),
        str(stored.get("source", "")),
        facts.name,
    )


def layer_to_labels(layer: Any, geometry: Geometry | None = None) -> LabelMap:
    """The label map that a Labels layer shows, in its image's voxel order.

    Parameters
    ----------
    layer : `napari.layers.Labels`, or its `LayerFacts`
    geometry : of the image that was painted on, where the layer itself does not know it

    Raises
    ------
    InvalidVolumeError
        For axes beyond space, or negative labels.
    """
    facts = layer if isinstance(layer, LayerFacts) else layer_facts(layer)
    check_axes(facts)
    geometry = geometry or layer_geometry(facts, "ct")
    array = unsigned(np.asarray(facts.data))
    array = geometry.reorientation().undo(array if array.ndim == 3 else array[None])
    stored = facts.stored
    return LabelMap(
        np.ascontiguousarray(array),
        geometry,
        names=stored.get("names", {}),
        colours=stored.get("colours", {}),
        findings=tuple(stored.get("findings", ())),
        source=str(stored.get("source", "")),
        name=facts.name,
        record=stored.get("record", {}),
    )


def layer_geometry(facts: LayerFacts, modality: Modality = "ct") -> Geometry:
    """Geometry of a layer: what it carries in its metadata, moved or scaled as the layer was since, else what it shows."""
    stored = facts.stored.get("geometry")
    if isinstance(stored, Geometry) and _squeezed(stored.reoriented(stored.reorientation())) == facts.shape:
        return _follow_layer(stored, facts)
    shape = (1,) * (3 - len(facts.shape)) + facts.shape
    spacing = (1.0,) * (3 - len(facts.scale)) + _in_mm(facts.scale, facts.units)
    offset = (0.0,) * (3 - len(facts.translate)) + _in_mm(facts.translate, facts.units)
    direction = FRONTAL if modality == "xray" else AXIAL
    origin = np.asarray(direction) @ offset
    z, y, x = shape
    return Geometry(
        (z, y, x),
        _triple(np.abs(spacing)),
        _triple(origin),
        direction,
        units=length_units(facts.units),
        frames=modality != "ct" and z > 1,
    )


def same_grid(first: LayerFacts, second: LayerFacts) -> bool:
    """Whether two layers have voxels of the same number, size and place in the viewer."""
    return (
        first.shape == second.shape
        and bool(np.allclose(_in_mm(first.scale, first.units), _in_mm(second.scale, second.units), rtol=1e-5))
        and bool(np.allclose(_in_mm(first.translate, first.units), _in_mm(second.translate, second.units), atol=1e-3))
    )


def axis_letters(facts: LayerFacts) -> tuple[str, ...] | None:
    """Letter (R, L, A, P, H or F) to which each axis of the layer runs, or None where the layer does not know."""
    stored = facts.stored.get("geometry")
    if not isinstance(stored, Geometry):
        return None
    letters = stored.reoriented(stored.reorientation()).axis_letters()
    return letters[-len(facts.shape) :]


def check_axes(facts: LayerFacts) -> None:
    """Refuse a layer with axes that are not space, by name.

    Raises
    ------
    InvalidVolumeError
        Naming each axis, and saying what to do.
    """
    shape, labels = facts.shape, facts.axis_labels
    if len(labels) != len(shape):
        labels = tuple(f"axis {index}" for index in range(len(shape)))
    foreign = [label for label in labels if label.lower() in _NOT_SPACE]
    if len(shape) in (2, 3) and not foreign:
        return
    listed = ", ".join(f"{label} ({size})" for label, size in zip(labels, shape, strict=True))
    which = " and ".join(f"{label!r} ({_NOT_SPACE[label.lower()]})" for label in foreign)
    why = f"{which} is not an axis of space" if foreign else f"that is {len(shape)} axes"
    raise InvalidVolumeError(
        f"Layer {facts.name!r} has the axes {listed}: {why}. Segmentation needs one image (y, x) or one stack (z, y, x). "
        "Split it first: right-click the layer and choose Split Stack."
    )


def unsigned(array: np.ndarray) -> np.ndarray:
    """Labels as the smallest unsigned integers that hold them; no copy where they already are.

    Raises
    ------
    InvalidVolumeError
        For negative labels or numbers that are not integers.
    """
    if array.dtype.kind == "u":
        return array
    if array.dtype.kind not in "bi":
        raise InvalidVolumeError(f"Labels must be integers; found {array.dtype}.")
    low, high = int(array.min()), int(array.max())
    if low < 0:
        raise InvalidVolumeError(f"Labels must not be negative; the smallest is {low}. Repaint it as a positive label.")
    return array.astype(np.min_scalar_type(high))


def _placement(geometry: Geometry) -> dict[str, Any]:
    standard = geometry.reoriented(geometry.reorientation())
    # Along the layer's own axes, so that scans of one oblique direction overlay.
    offset = np.linalg.solve(np.asarray(standard.direction), np.asarray(standard.origin))
    skip = int(standard.shape[0] == 1)
    axes = ("frame", "y", "x") if standard.frames else AXES
    return {
        "scale": standard.spacing[skip:],
        "translate": tuple(float(value) for value in offset[skip:]),
        "units": (standard.units,) * (3 - skip),
        "axis_labels": axes[skip:],
    }


def _squeezed(geometry: Geometry) -> tuple[int, ...]:
    return geometry.shape[1:] if geometry.shape[0] == 1 else geometry.shape


def _follow_layer(stored: Geometry, facts: LayerFacts) -> Geometry:
    """The stored geometry, or where the layer was moved or scaled since, one that follows it (in the standard view)."""
    placed = _placement(stored)
    scale, translate = _in_mm(facts.scale, facts.units), _in_mm(facts.translate, facts.units)
    same_units = length_units(facts.units) == stored.units
    if (
        same_units
        and np.allclose(scale, placed["scale"], rtol=1e-6)
        and np.allclose(translate, placed["translate"], atol=1e-4)
    ):
        return stored
    standard = stored.reoriented(stored.reorientation())
    offset = np.linalg.solve(np.asarray(standard.direction), np.asarray(standard.origin))
    offset[3 - len(translate) :] = translate
    spacing = np.asarray(standard.spacing)
    spacing[3 - len(scale) :] = scale
    return dataclasses.replace(
        standard,
        spacing=_triple(spacing),
        origin=_triple(np.asarray(standard.direction) @ offset),
        slice_positions=standard.slice_positions if spacing[0] == standard.spacing[0] else None,
        units=length_units(facts.units),
    )


def _with_z(facts: LayerFacts) -> Any:
    return facts.data if len(facts.shape) == 3 else facts.data[None]


def _settled(facts: LayerFacts, modality: Modality | None) -> Volume:
    """A volume from a layer that does not say what it is: inferred as for a file that does not."""
    from ..io.decoded import Decoded
    from ..io.infer import as_volume, settle

    array = np.asarray(_with_z(facts))
    array = array.astype(np.uint8) if array.dtype == bool else array
    placed = isinstance(facts.stored.get("geometry"), Geometry)
    geometry = layer_geometry(facts)
    # No file: no sidecar can lie beside the null device.
    decoded = Decoded(geometry.reorientation().undo(array), geometry, Path(os.devnull), placed=placed)
    settled = as_volume(settle(decoded, modality, labels=False))
    return dataclasses.replace(settled, geometry=layer_geometry(facts, settled.modality), source="", name=facts.name)


def length_units(units: tuple[str, ...]) -> Literal["mm", "pixel"]:
    """Whether a layer's units are lengths (to be turned into mm) or pixels."""
    return "pixel" if not units or units[-1] in ("pixel", "dimensionless") else "mm"


def _in_mm(values: tuple[float, ...], units: tuple[str, ...]) -> tuple[float, ...]:
    return tuple(value * _mm(unit) for value, unit in zip(values, units, strict=True))


def _mm(unit: str) -> float:
    if unit in ("pixel", "dimensionless", "mm", "millimeter"):
        return 1.0
    import pint

    registry: Any = pint.get_application_registry()  # type: ignore[no-untyped-call]
    try:
        return float(registry.Quantity(1.0, unit).to("millimeter").magnitude)
    except (pint.DimensionalityError, pint.UndefinedUnitError):
        return 1.0


def _triple(values: Any) -> tuple[float, float, float]:
    z, y, x = (float(value) for value in values)
    return z, y, x
