"""Read DICOM: every series in the files, one volume for each stack of slices or radiograph, with what was noticed.

Segmentations and structure sets among the files become label maps (`dicom_labels`).
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InvalidVolumeError, ReadError
from ..findings import Finding
from ..volume import LabelMap, Modality, Volume
from .dicom_geometry import radiograph_geometry, stack_geometry
from .dicom_grey import greys
from .dicom_header import DamagedFileError, Frame, NotAScanError, frames_of, is_dicom, read_instance
from .dicom_kind import is_colour, is_localizer, kind_findings, modality_of, neutral_name, unit_of
from .dicom_labels import LABEL_OBJECTS, read_labels
from .dicom_pixels import LAZY_ABOVE, SliceStack, as_grey, colours, lazy, load
from .dicom_series import Stack, group
from .dicom_source import Grid, Reference, grid_of, grids_of

__all__ = ["is_dicom", "read_dicom"]


@dataclass
class _Scan:
    """What looking at the files brought to light."""

    frames: list[Frame] = field(default_factory=list)
    damaged: list[tuple[str, str]] = field(default_factory=list)  # file name and reason
    others: Counter[str] = field(default_factory=Counter)
    labels: list[tuple[Path, str]] = field(
        default_factory=list
    )  # segmentations and structure sets, with their SOP class


def read_dicom(
    paths: Sequence[Path],
    *,
    modality: Modality | None = None,
    labels: bool | None = None,
    reference: Reference | None = None,
) -> list[Volume | LabelMap]:
    """Read all scans, segmentations and structure sets among some files.

    Headers are read first and sorted into series; series are taken apart where orientation, size, kind or place do not
    fit, and never merged. Stacks of more than 64 slices stay on disk until their voxels are needed. Labels are put on
    the grid of the scan they belong to.

    Parameters
    ----------
    paths : files; those that are not DICOM are passed over
    modality : ``"ct"``, ``"xray"`` or ``"photo"`` instead of what the headers say
    labels : False leaves out segmentations and structure sets that lie beside scans
    reference : scan that segmentations and structure sets belong to, where it is not among the files

    Returns
    -------
    one volume for each stack of slices, radiograph or picture, by series number, localizers last; then label maps

    Raises
    ------
    ReadError
        Where no file is a DICOM scan, segmentation or structure set that can be read.
    """
    files = [Path(path) for path in paths]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of every harmless slip in a header
        scan = _scan(files)
        if not scan.frames and not scan.labels:
            raise ReadError(_nothing_read(files, scan))
        stacks = group(scan.frames, modality)
        volumes, failures = _volumes(stacks, modality)
        maps: list[LabelMap] = []
        if labels is not False or not volumes:
            grids = [grid for stack in stacks if (grid := grid_of(stack)) is not None]
            maps, unread = _label_maps(scan, [*grids, *(grids_of(reference) if reference is not None else ())])
            failures += unread
    items: list[Volume | LabelMap] = [*volumes, *maps]
    if not items:
        raise ReadError(failures[0])
    told = (*_told_of_all(stacks, scan), *(Finding("damaged-files", failure) for failure in failures))
    return _numbered([dataclasses.replace(item, findings=(*item.findings, *told)) for item in items])


def _label_maps(scan: _Scan, grids: Sequence[Grid]) -> tuple[list[LabelMap], list[str]]:
    """The label maps of all segmentations and structure sets, and why some could not be read."""
    maps, failures = [], []
    for path, sop_class in scan.labels:
        try:
            maps += read_labels(path, sop_class, grids)
        except (ReadError, InvalidVolumeError) as error:
            failures.append(str(error))
    return maps, failures


def _scan(files: Sequence[Path]) -> _Scan:
    scan = _Scan()
    for path in files:
        try:
            instance = read_instance(path)
            scan.frames += frames_of(instance) if instance else []
        except DamagedFileError as error:
            scan.damaged.append((path.name, str(error)))
        except NotAScanError as error:
            if error.sop_class in LABEL_OBJECTS:
                scan.labels.append((path, error.sop_class))
            else:
                scan.others[str(error)] += 1
        except OSError as error:
            scan.damaged.append((path.name, f"it cannot be opened ({error.strerror})"))
    return scan


def _nothing_read(files: Sequence[Path], scan: _Scan) -> str:
    where = files[0].name if len(files) == 1 else f"The folder's {len(files)} files"
    if scan.damaged:
        name, reason = scan.damaged[0]
        many = f" ({len(scan.damaged)} files are damaged)" if len(scan.damaged) > 1 else ""
        return f"{name} is a damaged DICOM file: {reason}{many}. Copy or export it again."
    if scan.others:
        kinds = ", ".join(scan.others)
        return f"{where}: DICOM, but no image ({kinds}). Open the CT series or the radiograph it belongs to."
    if not files:
        return "There are no files to read. Choose a folder or file with DICOM images."
    return f"{where}: no DICOM found. Choose a DICOM file, or a folder that holds a series of them."


def _told_of_all(stacks: Sequence[Stack], scan: _Scan) -> list[Finding]:
    """Findings that concern every volume of this reading."""
    findings = []
    series = len({stack.series for stack in stacks})
    if series > 1:
        told = f"There are {series} series here; each opens as volumes of its own."
        findings.append(Finding("several-series", told))
    if scan.damaged:
        name, reason = scan.damaged[0]
        others = f" and {len(scan.damaged) - 1} more" if len(scan.damaged) > 1 else ""
        told = f"{name}{others} could not be read ({reason}); slices may be missing."
        findings.append(Finding("damaged-files", told))
    if scan.others:
        kinds = ", ".join(f"{count} × {kind}" for kind, count in scan.others.items())
        findings.append(Finding("other-objects", f"There are also objects that are no scans: {kinds}. Not opened."))
    return findings


def _volumes(stacks: Sequence[Stack], wanted: Modality | None) -> tuple[list[Volume], list[str]]:
    """The volumes of all stacks, and why some stacks could not be read at all."""
    volumes, failures = [], []
    for stack in stacks:
        try:
            volume = (_colour_volume if is_colour(stack.frames[0]) else _grey_volume)(stack, wanted)
        except (ReadError, InvalidVolumeError) as error:
            failures.append(str(error))
        else:
            volumes.append(dataclasses.replace(volume, findings=(*stack.findings, *volume.findings)))
    return volumes, failures


def _grey_volume(stack: Stack, wanted: Modality | None) -> Volume:
    frames, lost = stack.frames, []
    modality = modality_of(frames[0], wanted)
    unit = unit_of(frames[0], modality, wanted)
    grey, about_grey = greys(frames, unit)
    if len(frames) > LAZY_ABOVE:
        array = lazy(SliceStack(frames, grey.dtype, grey.values))
    else:
        array, good, reason = load(frames, grey.values)
        if array is None:
            raise ReadError(reason)
        lost = _lost(len(frames) - len(good), reason)
        frames = tuple(frames[number] for number in good)
    geometry, about_place = (stack_geometry if modality == "ct" else radiograph_geometry)(frames)
    return Volume(
        array=array,
        geometry=geometry,
        modality=modality,
        unit=unit,
        window=grey.window(frames[len(frames) // 2]),
        findings=(*lost, *kind_findings(frames[0], modality, unit), *about_place, *about_grey),
        source=_source(frames),
        name=_name(frames[0]),
    )


def _lost(count: int, reason: str) -> list[Finding]:
    told = f"{count} image(s) of the series could not be decoded and are missing. {reason}"
    return [Finding("damaged-files", told)] if count else []


def _colour_volume(stack: Stack, wanted: Modality | None) -> Volume:
    """A colour image; one that is grey after all becomes an ordinary radiograph."""
    frames = stack.frames
    array, good, reason = load(frames, colours)
    if array is None:
        raise ReadError(reason)
    frames = tuple(frames[number] for number in good)
    geometry, about_place = radiograph_geometry(frames)
    grey = as_grey(array)
    if grey is not None:
        modality = modality_of(frames[0], wanted)
        told = Finding("grey-colours", "The image is stored in colour but is grey; one channel is taken.")
    else:
        modality = wanted or "photo"
        told = Finding("colour-image", "This is a colour image, not a scan with grey values.")
        about_place = [finding for finding in about_place if finding.code != "sides-assumed"]
    return Volume(
        array=array if grey is None else grey,
        geometry=geometry,
        modality=modality,
        unit="rgb" if grey is None else "a.u.",
        findings=(*_lost(len(stack.frames) - len(good), reason), told, *about_place),
        source=_source(frames),
        name=_name(frames[0]),
    )


def _source(frames: Sequence[Frame]) -> str:
    """The file, or the folder that holds all files."""
    files = {frame.instance.path for frame in frames}
    return str(files.pop()) if len(files) == 1 else os.path.commonpath({file.parent for file in files})


def _name(frame: Frame) -> str:
    return f"{neutral_name(frame)}, localizer" if is_localizer(frame) else neutral_name(frame)


def _numbered(items: Sequence[Volume | LabelMap]) -> list[Volume | LabelMap]:
    """Tell items of the same name apart."""
    names = Counter(item.name for item in items)
    seen: Counter[str] = Counter()
    numbered = []
    for item in items:
        seen[item.name] += 1
        more = f" ({seen[item.name]})" if names[item.name] > 1 else ""
        numbered.append(dataclasses.replace(item, name=item.name + more))
    return numbered
