"""Which DICOM frames belong together: every stack is of one series, orientation and kind, with one frame at each place."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..findings import Finding
from ..volume import EVEN_TOLERANCE_MM, Modality
from .dicom_geometry import along_normal
from .dicom_header import Frame
from .dicom_kind import is_colour, is_localizer, modality_of

# Direction cosines closer than this are the same orientation: 0.06°, far above rounding, far below a turned series.
_SAME_ORIENTATION = 1e-3
# What may tell frames at the same place apart, the most telling first.
_REPEATS = (
    *("StackID", "AcquisitionNumber", "TemporalPositionIdentifier", "TemporalPositionIndex", "ImageType", "FrameType"),
    *("ConvolutionKernel", "SliceThickness", "NominalPercentageOfCardiacPhase", "NominalCardiacTriggerDelayTime"),
    *("TemporalPositionTimeOffset", "TriggerTime", "FrameReferenceTime", "DiffusionBValue", "EchoTime"),
    *("EffectiveEchoTime", "AcquisitionTime", "ContentTime", "SOPInstanceUID"),
)
# What tells reconstructions of one scan apart, which overlap although no two of their slices need to coincide.
_RECONSTRUCTIONS = ("SliceThickness", "ConvolutionKernel")


@dataclass(frozen=True, eq=False)
class Stack:
    """Frames that make one volume, in ascending order along their normal.

    Parameters
    ----------
    frames : at least one
    findings : why the series was taken apart
    """

    frames: tuple[Frame, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def series(self) -> str:
        """The series they come from."""
        return str(self.frames[0].get("SeriesInstanceUID") or "")


def group(frames: Iterable[Frame], wanted: Modality | None) -> list[Stack]:
    """Sort frames into stacks: by series number, localizers last.

    Parameters
    ----------
    frames : of any number of series
    wanted : modality that the caller insists on, or None
    """
    series = _split(frames, lambda frame: str(frame.get("SeriesInstanceUID") or ""))
    stacks = [stack for members in series for stack in _stacks_of_series(members, wanted)]
    firsts = [stack.frames[0] for stack in stacks]
    ranks = [(is_localizer(first), first.number("SeriesNumber") or 0) for first in firsts]
    return [stacks[i] for i in sorted(range(len(stacks)), key=ranks.__getitem__)]


def _split(frames: Iterable[Frame], key: Callable[[Frame], Hashable]) -> list[list[Frame]]:
    groups: defaultdict[Hashable, list[Frame]] = defaultdict(list)
    for frame in frames:
        groups[key(frame)].append(frame)
    return list(groups.values())


def _stacks_of_series(frames: Sequence[Frame], wanted: Modality | None) -> list[Stack]:
    frames, findings = _without_copies(frames)
    kinds = _split(frames, lambda frame: _kind(frame, wanted))
    if len(kinds) > 1 and not all(_stands_alone(kind[0], wanted) for kind in kinds):
        told = "The series holds images of different size, pixel spacing or kind; each opens as a volume of its own."
        findings.append(Finding("mixed-images", told))
    planes = [plane for kind in kinds for plane in _by_orientation(kind, findings)]
    return [stack for plane in planes for stack in _by_place(plane, tuple(findings), wanted)]


def _without_copies(frames: Sequence[Frame]) -> tuple[list[Frame], list[Finding]]:
    """Leave out the same image stored twice."""
    kept: dict[Hashable, Frame] = {}
    for frame in frames:
        place = None if frame.position is None else tuple(frame.position.tolist())
        identity = frame.get("SOPInstanceUID") or frame.instance.path
        kept.setdefault((identity, frame.index, frame.number("InstanceNumber"), place), frame)
    copies = len(frames) - len(kept)
    told = f"{copies} image(s) are stored twice; each is taken once."
    return list(kept.values()), [Finding("duplicated-files", told)] if copies else []


def _kind(frame: Frame, wanted: Modality | None) -> Hashable:
    """What frames of one stack must share."""
    alone = _stands_alone(frame, wanted)
    spacing = frame.spacing and tuple(round(value, 4) for value in frame.spacing)
    return (
        frame.shape,
        is_colour(frame),
        is_localizer(frame),
        frame.instance.path if alone else spacing,
        None if alone else frame.get("FrameOfReferenceUID"),
        None if alone else frame.text("RescaleType"),
        frame.position is None,
    )


def _by_orientation(frames: Sequence[Frame], findings: list[Finding]) -> list[list[Frame]]:
    planes: list[list[Frame]] = []
    for frame in frames:
        for plane in planes:
            if _same_orientation(plane[0], frame):
                plane.append(frame)
                break
        else:
            planes.append([frame])
    if len(planes) > 1:
        told = f"The series holds images in {len(planes)} orientations; each opens as a volume of its own."
        findings.append(Finding("mixed-orientations", told))
    return planes


def _stands_alone(frame: Frame, wanted: Modality | None) -> bool:
    """Whether the file is an image of its own: radiographs and pictures are never stacked with other files."""
    return modality_of(frame, wanted) != "ct" or is_colour(frame)


def _same_orientation(one: Frame, other: Frame) -> bool:
    if one.orientation is None or other.orientation is None:
        return one.orientation is other.orientation
    return bool(np.abs(one.orientation - other.orientation).max() < _SAME_ORIENTATION)


def _by_place(frames: Sequence[Frame], findings: tuple[Finding, ...], wanted: Modality | None) -> list[Stack]:
    """One stack, or several where frames lie at the same place."""
    if _stands_alone(frames[0], wanted):
        return [Stack(tuple(sorted(frames, key=lambda frame: frame.index)), findings)]
    ordered = _ordered(frames)
    if frames[0].position is None or frames[0].orientation is None:
        return [Stack(tuple(ordered), findings)]
    if _most_at_one_place(ordered) == 1:
        return _by_reconstruction(ordered, findings)
    parts = _apart(ordered)
    told = (
        f"Up to {_most_at_one_place(ordered)} images of this series lie at the same place (repeated or time-resolved scans); "
        f"they open as {len(parts)} volumes, never mixed."
    )
    return [Stack(tuple(_ordered(part)), (*findings, Finding("duplicated-positions", told))) for part in parts]


def _by_reconstruction(ordered: Sequence[Frame], findings: tuple[Finding, ...]) -> list[Stack]:
    """One stack, or several where reconstructions of the same scan (thick and thin, soft and sharp) interleave."""
    for keyword in _RECONSTRUCTIONS:
        parts = _split(ordered, lambda frame, keyword=keyword: frame.words(keyword))  # type: ignore[misc]
        if len(parts) > 1 and all(len(part) > 1 for part in parts) and _interleave(ordered, parts):
            told = (
                f"{len(parts)} reconstructions of this series overlap ({keyword}); each opens as a volume of its own."
            )
            overlapping = Finding("overlapping-reconstructions", told)
            return [Stack(tuple(part), (*findings, overlapping)) for part in parts]
    return [Stack(tuple(ordered), findings)]


def _interleave(ordered: Sequence[Frame], parts: Sequence[Sequence[Frame]]) -> bool:
    """Whether slices of different parts take turns, rather than one part beginning where another ends."""
    which = {id(frame): number for number, part in enumerate(parts) for frame in part}
    turns = sum(which[id(one)] != which[id(next_)] for one, next_ in pairwise(ordered))
    return turns > len(parts)


def _ordered(frames: Sequence[Frame]) -> list[Frame]:
    """In ascending order along the normal; where the place is not told, by location, then by number."""
    if frames[0].position is None or frames[0].orientation is None:
        locations = [frame.number("SliceLocation") or 0.0 for frame in frames]
        places = locations if len(set(locations)) == len(frames) else [0.0] * len(frames)
    else:
        places = np.round(along_normal(frames), 4).tolist()
    ranks = [(place, *_number(frame)) for place, frame in zip(places, frames, strict=True)]
    return [frames[i] for i in sorted(range(len(frames)), key=ranks.__getitem__)]


def _number(frame: Frame) -> tuple[float, str, int]:
    return frame.number("InstanceNumber") or 0.0, frame.instance.path.name, frame.index


def _ranks(ordered: Sequence[Frame]) -> list[int]:
    """How many frames lie at the same place before each frame."""
    places = along_normal(ordered)
    ranks = [0]
    for gap in np.diff(places):
        ranks.append(ranks[-1] + 1 if gap < EVEN_TOLERANCE_MM else 0)
    return ranks


def _most_at_one_place(ordered: Sequence[Frame]) -> int:
    return max(_ranks(ordered)) + 1


def _apart(ordered: Sequence[Frame]) -> list[list[Frame]]:
    """Take frames at the same place apart by what tells them apart, one thing after the other, else by their order."""
    most = _most_at_one_place(ordered)
    if most == 1:
        return [list(ordered)]
    for keyword in _REPEATS:
        parts = _split(ordered, lambda frame, keyword=keyword: frame.words(keyword))  # type: ignore[misc]
        if len(parts) > 1 and sum(_most_at_one_place(part) for part in parts) == most:
            parts.sort(key=lambda part, keyword=keyword: _rank(part[0], keyword))  # type: ignore[misc]
            return [phase for part in parts for phase in _apart(part)]
    return [[frame for frame, rank in zip(ordered, _ranks(ordered), strict=True) if rank == i] for i in range(most)]


def _rank(frame: Frame, keyword: str) -> tuple[float, tuple[str, ...]]:
    """Phases in the order of their times, percentages or numbers; anything else by name."""
    value = frame.number(keyword)
    return (math.inf if value is None else value), frame.words(keyword)
