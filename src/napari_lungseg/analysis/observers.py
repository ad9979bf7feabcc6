"""How far trained people agree with each other about lungs: published figures, to stand beside ours.

They were measured on other images and by other rules than whatever is compared here, so they say which differences are
within what people do, not who is better.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..volume import Geometry, Modality
from .table import Table


@dataclass(frozen=True)
class ObserverStudy:
    """One published figure.

    Parameters
    ----------
    modality : ``"ct"`` or ``"xray"``
    metric : a name in `metrics.METRICS`
    mean, sd : over the cases
    measured : who compared what with what
    source : authors, journal, year
    url : where it stands
    """

    modality: Modality
    metric: str
    mean: float
    sd: float
    measured: str
    source: str
    url: str


OBSERVER_STUDIES = (
    ObserverStudy(
        "ct",
        "dice",
        0.96,
        0.01,
        "both lungs, 13 dosimetrists against 2 radiation oncologists, 3 planning CTs",
        "McCall et al. 2016, in Table 3 of a review of delineation errors",
        "https://pmc.ncbi.nlm.nih.gov/articles/PMC5709138/table/t3",
    ),
    ObserverStudy(
        "xray",
        "accuracy",
        0.984,
        0.0048,
        "lung fields, interobserver variability beside 115 radiographs segmented by a program",
        "van Ginneken & ter Haar Romeny, Med Phys 27:2445–55, 2000, abstract",
        "https://pubmed.ncbi.nlm.nih.gov/11099215",
    ),
)
_LUNG = "lung"


def studies_for(table: Table, geometry: Geometry) -> list[ObserverStudy]:
    """The studies that a table of `evaluate` may be read beside: of its modality, and only if it is about lungs.

    Parameters
    ----------
    table : with a column ``name``
    geometry : of what was compared; flat images seen from the front or back are radiographs
    """
    names = [str(name) for name in table.column("name")]
    named = [name for name in names if not name.startswith("label ") and name not in ("both", "all")]
    if named and not any(_LUNG in name.casefold() for name in named):
        return []
    frontal = geometry.reorientation().worlds[0] == 1
    modality = "xray" if frontal and (geometry.frames or geometry.shape[0] == 1) else "ct"
    return [study for study in OBSERVER_STUDIES if study.modality == modality]


def told(study: ObserverStudy) -> str:
    """A study in one line."""
    metric = {"dice": "Dice", "accuracy": "pixel accuracy"}[study.metric]
    return f"Between people: {metric} {study.mean:g} ± {study.sd:g} ({study.measured}; {study.source})."
