"""What can be computed, and in which unit it comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ..volume import Geometry

Dimension: TypeAlias = Literal["share", "percent", "count", "length", "area", "volume", "mass", "intensity"]
Needs: TypeAlias = Literal["", "HU", "grey", "ct", "xray", "chest"]
_UNITS = {"share": "", "count": "", "percent": "percent", "mass": "g"}
_PHYSICAL = {"length": "mm", "area": "mm2", "volume": "ml"}


@dataclass(frozen=True)
class Quantity:
    """One metric or measurement.

    Parameters
    ----------
    compute : called with what is compared or measured; returns a number, or None where there is none
    dimension : decides the unit, and whether it applies: areas to flat images, volumes to the others, intensities to
        images of one channel
    needs : images that it has a meaning for: those in Hounsfield units, of one channel, CT, X-rays, both, or ("") any
    """

    compute: Callable[[Any], float | None]
    dimension: Dimension
    needs: Needs = ""

    def __call__(self, subject: Any) -> float | None:
        """Compute it."""
        return self.compute(subject)

    def applies(self, *, flat: bool | None, intensity: str = "", modality: str = "") -> bool:
        """Whether it has a meaning for a flat image or a volume (None: for both), with voxels of unit ``intensity``."""
        grey = intensity not in ("", "rgb")
        met = {"", intensity, modality, "grey" if grey else "", "chest" if modality in ("ct", "xray") else ""}
        if self.needs not in met:
            return False
        if self.dimension in ("area", "volume"):
            return flat is None or flat == (self.dimension == "area")
        return self.dimension != "intensity" or grey

    def unit(self, geometry: Geometry, intensity: str = "") -> str:
        """Its unit on a grid; an image without spacing is measured in pixels, never in mm."""
        if self.dimension in _UNITS:
            return _UNITS[self.dimension]
        if self.dimension == "intensity":
            return "HU" if intensity == "HU" else "au"
        return _PHYSICAL[self.dimension] if geometry.is_mm else "pixel"


def quantity(dimension: Dimension, *, needs: Needs = "") -> Callable[[Callable[[Any], float | None]], Quantity]:
    """Make a `Quantity` of the function below."""
    return lambda compute: Quantity(compute, dimension, needs)
