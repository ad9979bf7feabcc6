"""The measures of one phantom patient: drawn first, built second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Anatomy:
    """What makes one phantom patient differ from the next. Lengths in mm, angles and positions in patient coordinates.

    Parameters
    ----------
    half_width, half_depth : of the chest at its widest, skin to skin halved
    fat_mm : under the skin
    apex, base : height of the lungs' tips and of the deepest recess, over the middle of the field of view
    dome_right, dome_left : height of the diaphragm's domes
    left_share : width of the left half of the chest beside the right one
    heart : size, 1 is usual
    heart_left : how far the heart's middle lies to the left
    mediastinum : half-width at the level of the hila
    shift : (head, back, left) of the patient in the field of view
    lung_hu, gravity_hu_per_mm : lung density in the middle, and its growth towards what lies below
    blood_hu : 40 without contrast medium, 150 and more with it
    stomach_gas : radius of the bubble
    vessels : pulmonary vessels that leave each hilum; they branch seven times
    prone : face down; the table and gravity change sides
    table : whether the patient lies on one
    tumours : number of solid tumours in the lungs
    consolidation : share of one lung, 0 to 1, that is dense
    effusion : share of the depth of one lung, 0 to 1, that fluid has taken
    """

    half_width: float = 152.0
    half_depth: float = 106.0
    fat_mm: float = 12.0
    apex: float = 116.0
    base: float = -112.0
    dome_right: float = -50.0
    dome_left: float = -61.0
    left_share: float = 0.97
    heart: float = 1.0
    heart_left: float = 24.0
    mediastinum: float = 30.0
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    lung_hu: float = -850.0
    gravity_hu_per_mm: float = 0.7
    blood_hu: float = 45.0
    stomach_gas: float = 27.0
    vessels: int = 9
    prone: bool = False
    table: bool = True
    tumours: int = 0
    consolidation: float = 0.0
    effusion: float = 0.0

    @property
    def cavity_width(self) -> float:
        """Half-width of the rib cage, inside, mm."""
        return self.half_width - self.fat_mm - 12.5

    @property
    def cavity_depth(self) -> float:
        """Half-depth of the rib cage, inside, mm."""
        return self.half_depth - 0.7 * self.fat_mm - 14.0


def draw_anatomy(generator: np.random.Generator, *, pathology: bool = False) -> Anatomy:
    """Draw a patient.

    Parameters
    ----------
    generator : source of randomness
    pathology : whether the patient may have tumours, a consolidation or an effusion
    """
    draw = generator.uniform
    size = draw(0.93, 1.05)
    dome = draw(-60, -40)
    patient: dict[str, Any] = {
        "half_width": size * draw(145, 158),
        "half_depth": size * draw(98, 113),
        "fat_mm": draw(7, 18),
        "apex": size * draw(109, 121),
        "base": size * draw(-118, -104),
        "dome_right": dome,
        "dome_left": dome - draw(4, 18),
        "left_share": draw(0.93, 1.0),
        "heart": draw(0.88, 1.15),
        "heart_left": draw(18, 30),
        "mediastinum": draw(25, 34),
        "shift": (draw(-6, 6), draw(-4, 4), draw(-6, 6)),
        "lung_hu": draw(-885, -800),
        "gravity_hu_per_mm": draw(0.3, 1.1),
        "blood_hu": draw(35, 50) if generator.random() < 0.5 else draw(120, 260),
        "stomach_gas": draw(15, 36),
        "vessels": int(generator.integers(7, 11)),
    }
    illness: dict[str, Any] = {
        "tumours": int(generator.integers(0, 3)),
        "consolidation": draw(0.05, 0.5) if generator.random() < 0.5 else 0.0,
        "effusion": draw(0.1, 0.5) if generator.random() < 0.4 else 0.0,
    }
    return Anatomy(**patient, **(illness if pathology else {}))


def heart_of(patient: Anatomy) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre, radii and axes of the heart; its tip points left, forward and to the feet."""
    size = patient.heart
    centre = np.array((patient.dome_left + 30 * size, -0.3 * patient.cavity_depth, patient.heart_left))
    tip = np.array((-0.45, -0.5, 0.74))
    side = np.cross(tip, (1.0, 0.0, 0.0))
    rows = [axis / np.linalg.norm(axis) for axis in (tip, side, np.cross(tip, side))]
    return centre, np.array((60.0, 39.0, 43.0)) * size, np.array(rows)


def hilum_of(side: int) -> np.ndarray:
    """Where bronchi and vessels enter a lung; ``side`` is −1 for the right lung, 1 for the left."""
    return np.array((16.0, 22.0, -36.0)) if side < 0 else np.array((20.0, 24.0, 42.0))
