"""The commands of ``lungseg``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from cyclopts import App, Group, Parameter

from ..analysis.evaluation import EvaluateSettings
from ..analysis.measure import MeasureSettings
from ..segmentation.predict import SegmentSettings
from . import models, pacs, painting, show, training
from .anonymising import anonymise
from .cohort import app as cohort
from .data import data
from .flags import flags_of, settings_from

if TYPE_CHECKING:
    SegmentFlags = SegmentSettings
    EvaluateFlags = EvaluateSettings
    MeasureFlags = MeasureSettings
else:
    SegmentFlags = flags_of(SegmentSettings)
    EvaluateFlags = flags_of(EvaluateSettings)
    MeasureFlags = flags_of(MeasureSettings)

Modality: TypeAlias = Literal["ct", "xray", "photo"]
Format: TypeAlias = Literal[
    "nii.gz", "nii", "mha", "nrrd", "seg.nrrd", "tif", "png", "seg.dcm", "labelmap.dcm", "rtstruct.dcm"
]
Json: TypeAlias = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON for machines.")]
AsModality: TypeAlias = Annotated[
    Modality | None, Parameter(help="What the images are, where the file does not say it or says it wrongly.")
]
Uncertainty: TypeAlias = Annotated[
    bool,
    Parameter(
        negative=(),
        help="Write a map of where the network was torn, too: entropy of its soft-max, per cent of the largest there can be.",
    ),
]
OneSeries: TypeAlias = Annotated[
    str | None,
    Parameter(
        help="Only this series of a path that holds several: its number, its name, row-N of `lungseg series`, or largest-ct."
    ),
]
Out: TypeAlias = Annotated[Path, Parameter(name=("--out", "-o"))]
_SETTINGS = Group("Settings", sort_key=2)


def _version() -> str:
    from .. import __version__

    return str(__version__)


app = App(
    name="lungseg",
    help="Right and left lung on CT and chest X-rays.",
    version=_version,
    help_format="plaintext",
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)


@app.command
def segment(
    path: Path,
    /,
    *paths: Path,
    out: Out,
    model: str | None = None,
    device: str = "auto",
    modality: AsModality = None,
    series: OneSeries = None,
    format: Format = "nii.gz",
    reference: Path | None = None,
    hu_offset: float | Literal["auto"] | None = None,
    straighten: Annotated[bool, Parameter(negative=())] = False,
    uncertainty: Uncertainty = False,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
    report: Annotated[bool, Parameter(negative=())] = False,
    yes: Annotated[bool, Parameter(name=("--yes", "-y"), negative=())] = False,
    as_json: Json = False,
    settings: Annotated[SegmentFlags, Parameter(name="*", group=_SETTINGS)] = SegmentFlags(),  # noqa: B008 - frozen
) -> int:
    """Write the labels of every volume, on that volume's own grid.

    Parameters
    ----------
    path : Path
        File, folder, ZIP file or DICOMDIR: DICOM, NIfTI, MetaImage, NRRD, PNG, JPEG, TIFF. Each series is a volume.
    paths : Path
        More of them.
    out : Path
        A file for one volume, whose suffix is its format; otherwise a folder, in which files are called after inputs.
    model : str
        Name of a bundled model (see `lungseg models`) or a .safetensors file; the bundled model of the modality if omitted.
    device : str
        auto, cpu, cuda, cuda:1 … or mps.
    format : str
        Of the files in a folder; seg.dcm is a DICOM segmentation, rtstruct.dcm a structure set.
    reference : Path
        For DICOM labels of a scan in another format: the DICOM series that it was made from.
    hu_offset : float
        For CT without Hounsfield units: what to add to its values, e.g. -1024; auto finds it.
    straighten : bool
        Segment CT slices of a tilted gantry or at uneven distances on a straight and even grid, and bring labels back.
    overwrite : bool
        Replace labels that are there already. Inputs are never replaced.
    report : bool
        Write a page about each case beside its labels, NAME.html; see `lungseg report`.
    yes : bool
        Fetch the model's weights without asking, where they are not on this computer yet.
    """
    from .segmenting import segment_all

    return segment_all(
        (path, *paths),
        out=out,
        suffix=f".{format}",
        reference=reference,
        overwrite=overwrite,
        modality=modality,
        series=series,
        hu_offset=hu_offset,
        straighten=straighten,
        as_json=as_json,
        model=model,
        device=device,
        settings=settings_from(settings, SegmentSettings),
        uncertainty=uncertainty,
        report=report,
        yes=yes,
    )


@app.command
def info(
    path: Path,
    /,
    *paths: Path,
    modality: AsModality = None,
    series: OneSeries = None,
    keep_identifiers: Annotated[bool, Parameter(negative=())] = False,
    as_json: Json = False,
) -> int:
    """Tell what is in files and folders: modality, shape, spacing, origin, direction, unit and findings.

    Parameters
    ----------
    path : Path
        File, folder, ZIP file or DICOMDIR.
    paths : Path
        More of them.
    keep_identifiers : bool
        Tell the patient's name, ID and birth date, the accession number and the UIDs of DICOM as well.
    """
    from .informing import inform

    return inform((path, *paths), modality=modality, series=series, identifiers=keep_identifiers, as_json=as_json)


@app.command
def series(
    path: Path,
    /,
    *paths: Path,
    keep_identifiers: Annotated[bool, Parameter(negative=())] = False,
    as_json: Json = False,
) -> int:
    """List the DICOM series of folders and discs by their headers: thousands of files in seconds.

    Parameters
    ----------
    path : Path
        Folder, ZIP file or DICOMDIR.
    paths : Path
        More of them.
    keep_identifiers : bool
        Show patients' names and IDs instead of numbers.
    """
    from .listing import list_all

    return list_all((path, *paths), identifiers=keep_identifiers, as_json=as_json)


app.command(models.app)


@app.command
def evaluate(
    path: Path,
    reference: Path | None = None,
    /,
    *,
    model: str | None = None,
    layout: str = "auto",
    split: Literal["test", "val", "train", "all"] = "test",
    split_file: Path | None = None,
    limit: int | None = None,
    images: Path | None = None,
    device: str = "auto",
    out: Out | None = None,
    slices: Path | None = None,
    disagreement: Path | None = None,
    as_json: Json = False,
    settings: Annotated[EvaluateFlags, Parameter(name="*", group=_SETTINGS)] = EvaluateFlags(),  # noqa: B008 - frozen
) -> int:
    """Compare predicted labels with a reference, or say how good a model is on a data set.

    Parameters
    ----------
    path : Path
        Predicted label map, or a folder of them; with --model a data set.
    reference : Path
        Label map on the same grid, or a folder of them with the same names (endings like -labels or _mask may differ).
    model : str
        Segment every case of the data set with this model first: a bundled name or a .safetensors file.
    layout : str
        Of the data set.
    split : str
        Which part of the data set.
    split_file : Path
        CSV that says which case is in which part.
    limit : int
        At most so many cases.
    images : Path
        Scan, or folder of scans with the names of the labels, over which the worst cases are drawn.
    device : str
        For --model: auto, cpu, cuda, cuda:1 … or mps.
    out : Path
        Folder for cases.csv, summary.json and report.html; or a .csv, .json or .parquet file for the rows of all cases.
    slices : Path
        Of one case: write Dice and areas slice by slice to this .csv, .json or .parquet file.
    disagreement : Path
        Of one case: write where the two differ as a label map: 1 only predicted, 2 only in the reference, 3 another label.
    """
    from .evaluating import Details, Sources, evaluate_all

    sources = Sources(path, reference, model, layout, split, split_file, limit, images, device)
    details = Details(slices, disagreement)
    return evaluate_all(sources, settings_from(settings, EvaluateSettings), out, as_json, details)


@app.command
def measure(
    image: Path,
    labels: Path,
    /,
    *,
    profile: Annotated[bool, Parameter(negative=())] = False,
    histogram: Annotated[bool, Parameter(negative=())] = False,
    radiomics: Annotated[bool, Parameter(negative=())] = False,
    modality: AsModality = None,
    series: OneSeries = None,
    out: Out | None = None,
    keep_identifiers: Annotated[bool, Parameter(negative=())] = False,
    as_json: Json = False,
    settings: Annotated[MeasureFlags, Parameter(name="*", group=_SETTINGS)] = MeasureFlags(),  # noqa: B008 - frozen
) -> int:
    """Measure an image under its labels: size, density, emphysema, aeration, thirds of the lung; shape on X-rays.

    Parameters
    ----------
    image : Path
        A scan.
    labels : Path
        Its labels, on the same grid.
    profile : bool
        Slice by slice instead: area, mean and, on CT, emphysema and high attenuation.
    histogram : bool
        The distribution of values instead.
    radiomics : bool
        First-order, shape and texture features instead (needs pyradiomics).
    out : Path
        Write the table to this .csv, .json or .parquet file too.
    keep_identifiers : bool
        Put columns in front that say whose scan it is, where that is DICOM; otherwise tables name nobody.
    """
    from .measuring import measure_one

    kinds = {"profile": profile, "histogram": histogram, "radiomics": radiomics}
    table = measure_one(
        image,
        labels,
        kinds,
        modality=modality,
        series=series,
        identifiers=keep_identifiers,
        settings=settings_from(settings, MeasureSettings),
    )
    if out is not None:
        table.write(out)
    if as_json:
        show.for_machines(table.records())
    elif any(kinds.values()) and not radiomics:
        show.table(table)
    else:
        show.upright(table, "measurement")
    return 0


@app.command
def report(
    image: Path,
    labels: Path,
    /,
    *,
    out: Out,
    name: str = "",
    modality: AsModality = None,
    series: OneSeries = None,
) -> int:
    """Write one HTML page about a case: slices with outlines, views from the front, measurements, findings, settings.

    Parameters
    ----------
    image : Path
        A scan.
    labels : Path
        Its labels, on the same grid.
    out : Path
        The page, e.g. report.html; it opens offline and prints.
    name : str
        What the case is called on the page; by default a neutral name, never that of a file.
    """
    from ..analysis.case_report import iter_case_report
    from ..analysis.pairs import read_labels
    from .series import read_image

    volume = read_image(image, series, modality)
    steps = iter_case_report(volume, read_labels(labels, volume), out, name=name)
    show.line(str(show.drained(steps, image.name)))
    return 0


app.command(pacs.fetch)
app.command(pacs.store)
app.command(anonymise)
app.command(data)
app.command(cohort)
data.command(training.prepare)
app.command(training.train)
app.command(painting.train_painted)
app.command(training.recipes)


@app.command
def demo(*, out: Out = Path("lungseg-demo"), device: str = "auto", napari: bool = True) -> int:
    """Make a CT and an X-ray of a phantom, segment them, and write labels, a picture and a table.

    Parameters
    ----------
    out : Path
        Folder for the files.
    device : str
        auto, cpu, cuda, cuda:1 … or mps.
    napari : bool
        Open the results in napari, where there is a display.
    """
    from .demo import run_demo

    return run_demo(out, device=device, napari=napari)
