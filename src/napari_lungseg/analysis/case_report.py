"""One case as one page: what was segmented, how, what it measures and what is doubtful; nothing that names the patient."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from ..errors import WriteError
from ..progress import Progress, drain
from ..volume import LabelMap, Volume
from .measure import measured
from .page import facts_table, figure, html_table, listed, page, picture, turned_table
from .plots import draw_histogram, draw_profile
from .profile import counted, profiled
from .survey import Survey
from .views import draw_mosaic, draw_projections

_FEW = 4
# Of a record: where files lie says what the patient is called, often enough; the rest has a line of its own or is long.
_NOT_TOLD = ("source", "image", "quality", "path", "confidence")
_RESEARCH = "For research. Not a medical device: not made, tested or approved for diagnosis or treatment."


def write_case_report(
    volume: Volume,
    labels: LabelMap,
    path: str | Path,
    *,
    name: str = "",
    progress: Callable[[Progress], object] | None = None,
) -> Path:
    """Write the report of a case as one HTML file that needs nothing beside it; see `iter_case_report`."""
    return drain(iter_case_report(volume, labels, path, name=name), progress)


def iter_case_report(
    volume: Volume, labels: LabelMap, path: str | Path, *, name: str = ""
) -> Generator[Progress, None, Path]:
    """Measure, draw and write the report of a case; yields `Progress`, returns the file.

    Parameters
    ----------
    volume : the image
    labels : on its grid
    path : ends in ``.html``
    name : what the case is called; empty for the volume's neutral name

    Raises
    ------
    InvalidVolumeError
        When the labels do not lie on the image's grid.
    WriteError
        For another suffix or a disk that refuses.
    """
    from ..io.atomic import replacing

    target = Path(path)
    if target.suffix.lower() not in (".html", ".htm"):
        raise WriteError(f"{target.name!r} is no name for a report; end it with .html.")
    yield Progress(0, 3, "Measuring …")
    volume = volume.load()
    survey = Survey(volume.reoriented()[0], labels.reoriented()[0])
    table = measured(survey)
    yield Progress(1, 3, "Drawing slices …")
    several = survey.volume.geometry.shape[0] > 1
    shown = "Slices from the feet to the head" if several else "The image"
    pictures = [picture(draw_mosaic(volume, labels), f"{shown}, with the outlines of the labels.")]
    yield Progress(2, 3, "Drawing the chest from the front …")
    front = draw_projections(volume, labels)
    if front is not None:
        pictures.append(
            picture(front, "From the front, the patient's right at the left; outlines: shadows of the labels.")
        )
    neutral, found = _neutral(volume, labels), (*volume.findings, *labels.findings)
    parts = [
        f'<p class="aside">{_RESEARCH}</p>',
        _sure(labels, neutral),
        listed("What was noticed", list(dict.fromkeys(neutral(str(each)) for each in found)))
        or "<h2>What was noticed</h2><p>Nothing; that is no proof that all is well.</p>",
        "<h2>Labels on the image</h2>",
        *pictures,
        _figures(table),
        _plots(survey, labels.colours),
        facts_table("The image", _image_facts(volume)),
        facts_table("How the labels were made", _record_facts(labels.record)),
    ]
    with replacing(target) as temporary:
        temporary.write_text(page(name or volume.name, parts), encoding="utf-8")
    return target


def _sure(labels: LabelMap, neutral: Callable[[str], str]) -> str:
    """How far the labels can be trusted, where a model said so."""
    from ..segmentation.confidence import confidence_of

    confidence = confidence_of(labels)
    if confidence is None:
        return ""
    return f"<h2>How sure it is</h2><p>{escape(neutral(f'{confidence}. {confidence.reason}'))}</p>"


def _neutral(volume: Volume, labels: LabelMap) -> Callable[[str], str]:
    """Texts without the names of files, which may be patients'."""
    from ..io.anonymous import Anonymous, files_below

    return Anonymous([path for source in (volume.source, labels.source) if source for path in files_below(source)])


def _figures(table: Any) -> str:
    if not len(table):
        return "<h2>Measurements</h2><p>There is no label, so nothing is measured.</p>"
    turned = len(table) <= _FEW and "frame" not in table.columns
    return (turned_table if turned else html_table)("Measurements", table)


def _plots(survey: Survey, colours: Mapping[int, str]) -> str:
    several = survey.volume.geometry.shape[0] > 1
    if not survey.listed or survey.volume.unit == "rgb":
        return ""
    drawn = figure(9, 2.8)
    panels = drawn.subplots(1, 1 + several, squeeze=False)[0]
    draw_histogram(panels[0], counted(survey), colours)
    if several:
        draw_profile(panels[1], profiled(survey), colours)
    shown = " (from −1050 to 150 HU)" if survey.volume.unit == "HU" else ""
    slices = "; its area slice by slice" if several else ""
    return "<h2>Curves</h2>" + picture(drawn, f"How the values under each label are spread{shown}{slices}.")


def _image_facts(volume: Volume) -> list[tuple[str, str]]:
    grid = volume.geometry
    size, spacing = (" × ".join(f"{value:.4g}" for value in values) for values in (grid.shape, grid.spacing))
    unit = "HU" if volume.unit == "HU" else "arbitrary units, no HU" if volume.modality == "ct" else "arbitrary units"
    return [
        ("kind", {"ct": "CT", "xray": "X-ray"}.get(volume.modality, volume.modality)),
        ("size (z, y, x)", size),
        ("spacing (z, y, x)", f"{spacing} mm" if grid.is_mm else "not known; lengths are in pixels"),
        ("values", unit),
    ]


def _record_facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not record:
        return [("made by", "not recorded: painted by hand, or read from a file that does not say")]
    from .. import __version__

    told = {str(name): value for name, value in record.items() if name not in _NOT_TOLD}
    return [*((name.replace("_", " "), _told(value)) for name, value in told.items()), ("report by", str(__version__))]


def _told(value: Any) -> str:
    """A value of a record in a line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_told(held)}" for name, held in value.items())
    return value if isinstance(value, str) else json.dumps(value, default=str)
