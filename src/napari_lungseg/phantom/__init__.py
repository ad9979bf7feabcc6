"""A thorax made of formulas, with its true labels: sample data, tests and training cases that need no patient.

`thorax_ct` builds a CT; `thorax_xray` the radiograph that the Beer–Lambert law makes of one. Both follow a seed.
"""

from __future__ import annotations

from .anatomy import Anatomy, draw_anatomy
from .ct import thorax_ct
from .xray import thorax_xray

__all__ = ["Anatomy", "draw_anatomy", "thorax_ct", "thorax_xray"]
