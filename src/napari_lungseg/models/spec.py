"""What a model says of itself: a `ModelSpec`, stored as JSON in the header of its weights file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ModelFileError

SPEC_FORMAT = 1


@dataclass(frozen=True)
class Preprocessing:
    """From physical units to the network's input.

    Parameters
    ----------
    size : (rows, columns) of the network's input, pixels
    window : (low, high) clip range in the model's unit, mapped to 0…1; None: the ``percentiles`` of each image
    percentiles : (low, high) that become 0 and 1 where there is no window
    crop_body : whether each slice is cropped to the body first
    crop_border : whether the blank borders of each picture are cropped away first
    fit : ``"squash"`` the crop to the network's shape, whatever its own, ``"pad"`` it so that its aspect is kept,
        or ``"lungmask"``: crop to the body and resize there and back just as lungmask does
    """

    size: tuple[int, int] = (256, 256)
    window: tuple[float, float] | None = None
    percentiles: tuple[float, float] = (0.5, 99.5)
    crop_body: bool = False
    crop_border: bool = False
    fit: str = "squash"


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to build a network, feed it and understand its output.

    Parameters
    ----------
    name : catalogue name, e.g. ``"ct-lungs"``
    architecture : name in `napari_lungseg.models.ARCHITECTURES`
    options : keyword arguments of that architecture
    modality : ``"ct"``, ``"xray"`` or ``"photo"``
    unit : ``"HU"``, ``"a.u."`` or ``"rgb"``
    preprocessing : from physical units to the network's input
    names, colours : label → name and ``"#rrggbb"``; the network has ``max(names) + 1`` output channels
    mirror : whether its scores are always averaged with those of the mirrored image, whatever the settings say
    smooth_mm : standard deviation, across the slices of a stack, of the Gaussian by which their chances are averaged; 0: each
        slice by itself
    follow_edges : whether its chances are spread over pixels that look alike, up to the edges that the image shows
    version : of the weights
    licence : SPDX identifier or words
    training : record of how it was made (data, split, recipe, seed, metrics), JSON-ready
    """

    name: str
    architecture: str
    options: Mapping[str, Any] = field(default_factory=dict)
    modality: str = "ct"
    unit: str = "HU"
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    names: Mapping[int, str] = field(default_factory=dict)
    colours: Mapping[int, str] = field(default_factory=dict)
    mirror: bool = False
    smooth_mm: float = 0.0
    follow_edges: bool = False
    version: str = "1"
    licence: str = "unknown"
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        """Number of output channels, background included."""
        return max(self.names, default=0) + 1

    def to_json(self) -> str:
        """The spec as a JSON object."""
        return json.dumps({"format": SPEC_FORMAT, **dataclasses.asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, where: str = "the model file") -> ModelSpec:
        """Parse `to_json`'s output.

        Raises
        ------
        ModelFileError
            When the text is not a spec that this version understands.
        """
        try:
            values = json.loads(text)
            written = values.pop("format")
            if written > SPEC_FORMAT:
                raise ModelFileError(
                    f"{where} was made by a newer napari-lungseg (format {written}). Upgrade to open it."
                )
            steps = values.pop("preprocessing")
            known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in steps.items()}
            values["preprocessing"] = Preprocessing(**known)
            for table in ("names", "colours"):
                values[table] = {int(label): text for label, text in values[table].items()}
            return cls(**values)
        except (json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelFileError(f"{where} holds a model description that cannot be understood ({error}).") from error
