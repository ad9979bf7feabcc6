"""What can be computed, and in which unit it comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ..volume import Geometry

Dimension: TypeAlias = Literal["share", "count", "length", "area", "volume", "intensity"]


@dataclass(frozen=True)
class Quantity:
    """One metric or measurement.

    Parameters
    ----------
    compute : called with what is compared or measured; returns a number, or None where there is none
    dimension : decides the unit, and whether it applies: areas to flat images, volumes to the others, intensities to
        images of one channel
    """

    compute: Callable[[Any], float | None]
    dimension: Dimension

    def __call__(self, subject: Any) -> float | None:
        """Compute it."""
        return self.compute(subject)

    def applies(self, *, flat: bool | None, intensity: str = "") -> bool:
        """Whether it has a meaning for a flat image or a volume (None: for both), with voxels of unit ``intensity``."""
        if self.dimension in ("area", "volume"):
            return flat is None or flat == (self.dimension == "area")
        return self.dimension != "intensity" or intensity not in ("", "rgb")

    def unit(self, geometry: Geometry, intensity: str = "") -> str:
        """Its unit on a grid; an image without spacing is measured in pixels, never in mm."""
        if self.dimension in ("share", "count"):
            return ""
        if self.dimension == "intensity":
            return "HU" if intensity == "HU" else "au"
        physical = {"length": "mm", "area": "mm2", "volume": "ml"}
        return physical[self.dimension] if geometry.is_mm else "pixel"


def quantity(dimension: Dimension) -> Callable[[Callable[[Any], float | None]], Quantity]:
    """Make a `Quantity` of the function below."""
    return lambda compute: Quantity(compute, dimension)
