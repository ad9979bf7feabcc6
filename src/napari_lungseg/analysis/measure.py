"""What lies under the labels: how large, how dense, and where in the lung."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..registry import Table as NameTable
from ..settings import setting, validate
from .regions import tabulate
from .survey import Survey

if TYPE_CHECKING:
    from ..volume import LabelMap, Volume
    from .table import Table

_HERE = "napari_lungseg.analysis"
MEASURES = NameTable(
    "measurement",
    {
        "voxels": f"{_HERE}.size:voxels",
        "volume": f"{_HERE}.size:volume",
        "area": f"{_HERE}.size:area",
        "width": f"{_HERE}.radiograph:width",
        "height": f"{_HERE}.radiograph:height",
        "mass": f"{_HERE}.density:mass",
        "right_left_ratio": f"{_HERE}.size:right_left_ratio",
        "symmetry": f"{_HERE}.radiograph:symmetry",
        "cardiothoracic_ratio": f"{_HERE}.radiograph:cardiothoracic_ratio",
        "mean": f"{_HERE}.density:mean",
        "median": f"{_HERE}.density:median",
        "sd": f"{_HERE}.density:sd",
        "skewness": f"{_HERE}.density:skewness",
        "kurtosis": f"{_HERE}.density:kurtosis",
        "perc10": f"{_HERE}.density:perc10",
        "perc15": f"{_HERE}.density:perc15",
        "laa950": f"{_HERE}.density:laa950",
        "laa910": f"{_HERE}.density:laa910",
        "laa856": f"{_HERE}.density:laa856",
        "haa": f"{_HERE}.density:haa",
        "hyperaerated": f"{_HERE}.density:hyperaerated",
        "well_aerated": f"{_HERE}.density:well_aerated",
        "poorly_aerated": f"{_HERE}.density:poorly_aerated",
        "non_aerated": f"{_HERE}.density:non_aerated",
        "mean_upper": f"{_HERE}.thirds:mean_upper",
        "mean_middle": f"{_HERE}.thirds:mean_middle",
        "mean_lower": f"{_HERE}.thirds:mean_lower",
        "mean_ventral": f"{_HERE}.thirds:mean_ventral",
        "mean_central": f"{_HERE}.thirds:mean_central",
        "mean_dorsal": f"{_HERE}.thirds:mean_dorsal",
        "laa950_upper": f"{_HERE}.thirds:laa950_upper",
        "laa950_middle": f"{_HERE}.thirds:laa950_middle",
        "laa950_lower": f"{_HERE}.thirds:laa950_lower",
        "laa950_ventral": f"{_HERE}.thirds:laa950_ventral",
        "laa950_central": f"{_HERE}.thirds:laa950_central",
        "laa950_dorsal": f"{_HERE}.thirds:laa950_dorsal",
        "haa_upper": f"{_HERE}.thirds:haa_upper",
        "haa_middle": f"{_HERE}.thirds:haa_middle",
        "haa_lower": f"{_HERE}.thirds:haa_lower",
        "haa_ventral": f"{_HERE}.thirds:haa_ventral",
        "haa_central": f"{_HERE}.thirds:haa_central",
        "haa_dorsal": f"{_HERE}.thirds:haa_dorsal",
        "opacity_upper": f"{_HERE}.radiograph:opacity_upper",
        "opacity_middle": f"{_HERE}.radiograph:opacity_middle",
        "opacity_lower": f"{_HERE}.radiograph:opacity_lower",
    },
)


@dataclass(frozen=True)
class MeasureSettings:
    """How an image is measured.

    Raises
    ------
    LungSegError
        When a value is outside its bounds.
    """

    erode_mm: float = setting(
        0.0, "Leave out voxels so near to the border of the labelled area, which are partly chest wall.", unit="mm",
        min=0.0, max=10.0,
    )  # fmt: skip

    def __post_init__(self) -> None:
        validate(self)


def measure(volume: Volume, labels: LabelMap, *, settings: MeasureSettings | None = None) -> Table:
    """Measure an image under its labels, label by label and all labels together.

    Parameters
    ----------
    volume : the image
    labels : on its grid
    settings : None for the defaults

    Returns
    -------
    Table
        One row per label and one for several together: both lungs where labels are named so ("both"), otherwise all
        ("both" of two, "all" of more); its label is None. For a stack of radiographs, that for each frame. Columns:
        frame, label, name, and of `MEASURES` those that the image allows (volumes of scans, areas of radiographs, of a
        scan of one slice both; densities of CT in Hounsfield units). What is not defined is None.

    Raises
    ------
    InvalidVolumeError
        When the labels do not lie on the image's grid, or voxels under them are NaN or infinite.
    """
    return measured(Survey(volume, labels, (settings or MeasureSettings()).erode_mm))


def measured(survey: Survey) -> Table:
    """What `measure` returns, of an image that was taken stock of already."""
    volume = survey.volume
    chosen = {name: MEASURES.resolve(name) for name in MEASURES}
    # The volume of a single slice is that of what the slice stands for; its area says more.
    flat = volume.is_frames if volume.is_frames or volume.geometry.shape[0] > 1 else None
    chosen = {
        name: entry
        for name, entry in chosen.items()
        if entry.applies(flat=flat, intensity=volume.unit, modality=volume.modality)
    }
    return tabulate(
        volume.geometry, survey.names, survey.listed, chosen, survey.region, volume.unit, union=survey.union
    )
