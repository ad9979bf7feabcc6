"""What is compared: pairs of label maps from files, or from a model and a data set, opened one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import IncompatibleModelError, ReadError, TrainingDataError
from ..findings import has_finding
from ..progress import Progress
from ..volume import LabelMap, Volume, plain_name
from .pairing import FilePair
from .regions import labels_of

if TYPE_CHECKING:
    from ..segmentation.predict import SegmentSettings

_NAMED = 6


@dataclass(frozen=True, eq=False)
class Both:
    """The two label maps of a case, its image where there is one, and what is to be known of how they were matched."""

    predicted: LabelMap
    reference: LabelMap
    volume: Volume | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Pair:
    """A case to compare, opened when its turn comes.

    Parameters
    ----------
    name : in tables and pictures
    open : long work that reads (and segments) it
    """

    name: str
    open: Callable[[], Generator[Progress, None, Both]]


class Labelled(Protocol):
    """What is asked of a data set (`napari_lungseg.training.datasets.DataSet` is one)."""

    @property
    def names(self) -> Mapping[int, str]:
        """Label → name."""

    def read(self, case: Any) -> tuple[Volume, np.ndarray | None]:
        """The scan in the standard view, and its labels on the same grid."""


def pairs_of_files(pairs: Sequence[FilePair], images: Mapping[str, Path] | None = None) -> list[Pair]:
    """Cases from pairs of label map files; labels are matched by name where both files have the same names.

    Parameters
    ----------
    pairs : from `pair_files`
    images : case → its scan, to draw outlines over; a case may have none
    """

    def open_pair(pair: FilePair) -> Generator[Progress, None, Both]:
        yield Progress(0, 1, "reading")
        predicted, reference = read_labels(pair.predicted), read_labels(pair.reference)
        image = (images or {}).get(pair.name)
        return Both(by_name(predicted, reference), reference, _image(image), note_about(predicted, reference))

    return [Pair(pair.name, lambda pair=pair: open_pair(pair)) for pair in pairs]  # type: ignore[misc]


def pairs_of_model(
    data: Labelled,
    cases: Sequence[Any],
    model: str | Path,
    *,
    device: str = "auto",
    settings: SegmentSettings | None = None,
) -> list[Pair]:
    """Cases that a model segments, the whole way and on each image's own grid.

    Parameters
    ----------
    data : the data set
    cases : those of it to take, e.g. ``data.part("test")``
    model : name or path
    device, settings : see `napari_lungseg.segment`
    """
    from ..segmentation.predict import iter_segment

    def open_case(case: Any) -> Generator[Progress, None, Both]:
        volume, array = data.read(case)
        if array is None:
            raise TrainingDataError("This image has no labels to compare with; leave it out.")
        predicted = yield from iter_segment(volume, model, device=device, settings=settings)
        reference = LabelMap(array, volume.geometry, data.names, name="reference")
        return Both(*alike(predicted, reference), volume)

    return [Pair(case.name, lambda case=case: open_case(case)) for case in cases]  # type: ignore[misc]


def read_label_maps(path: Path, reference: Volume | None = None) -> list[LabelMap]:
    """The label map of a file, or several whose labels overlap; those of DICOM are put on the scan that they belong to.

    Raises
    ------
    ReadError
        When it holds none, or several that have nothing to do with each other.
    """
    from ..io import read

    found = [item for item in read(path, labels=True, reference=reference) if isinstance(item, LabelMap)]
    if not found:
        raise ReadError(f"{path.name} holds no labels; name a label map.")
    if len(found) > 1 and not all(has_finding(item.findings, "overlapping-segments") for item in found):
        raise ReadError(f"{path.name} holds {len(found)} label maps, but one is taken at a time; name a single file.")
    return found


def read_labels(path: Path, reference: Volume | None = None) -> LabelMap:
    """The one label map of a file; see `read_label_maps`.

    Raises
    ------
    ReadError
        When its labels overlap too.
    """
    found = read_label_maps(path, reference)
    if len(found) > 1:
        names = [text for item in found for text in item.names.values()]
        raise ReadError(
            f"{path.name} holds {len(found)} label maps, for its labels overlap "
            f"({', '.join(names[:_NAMED])}{' …' if len(names) > _NAMED else ''}), but one is taken at a time. Open it in "
            "napari, save the layer that you mean to a file, and name that."
        )
    return found[0]


def alike(predicted: LabelMap, reference: LabelMap) -> tuple[LabelMap, LabelMap]:
    """Both with the reference's labels: matched by name, or as one where one of them has a single label.

    Raises
    ------
    IncompatibleModelError
        When their labels have nothing to do with each other.
    """
    ours, theirs = _names(reference), _names(predicted)
    if _same_names(predicted, reference):
        return by_name(predicted, reference), reference
    if len(ours) == 1 or len(theirs) == 1:
        (name,) = (reference if len(ours) == 1 else predicted).names.values()
        one, other = (dict.fromkeys(item.names, 1) for item in (predicted, reference))
        return _relabelled(predicted, one, {1: name}), _relabelled(reference, other, {1: name})
    raise IncompatibleModelError(
        f"The model labels {', '.join(theirs.values())}, but the reference {', '.join(ours.values())}; there is nothing to "
        "compare. Choose a model or a data set with the same labels."
    )


def note_about(predicted: LabelMap, reference: LabelMap) -> str:
    """What makes a comparison by number doubtful, or ""."""
    ours, theirs = _names(reference), _names(predicted)
    odd = [label for label in ours if ours[label] != theirs.get(label, ours[label])]
    if odd and not _same_names(predicted, reference):
        return (
            f"Label {odd[0]} is {theirs[odd[0]]!r} in the prediction, but {ours[odd[0]]!r} in the reference; labels were "
            "compared by number."
        )
    if not ours and len(theirs) > 1 and len(labels_of({}, np.asarray(reference.array))) == 1:
        return (
            "The reference has a single label without a name, the prediction several: only the row of all labels together "
            "compares like with like."
        )
    return ""


def _names(labels: LabelMap) -> dict[int, str]:
    """Names as they compare: "Right_Lung" is "right lung"."""
    return {label: plain_name(name) for label, name in labels.names.items()}


def _same_names(predicted: LabelMap, reference: LabelMap) -> bool:
    ours = set(_names(reference).values())
    return bool(ours) and ours <= set(_names(predicted).values())


def by_name(predicted: LabelMap, reference: LabelMap) -> LabelMap:
    """The prediction with the reference's numbers, where its names hold all of the reference's; else as it is."""
    ours, theirs = _names(reference), _names(predicted)
    if ours == theirs or not _same_names(predicted, reference):
        return predicted
    numbers = {name: label for label, name in ours.items()}
    table = {label: numbers[name] for label, name in theirs.items() if name in numbers}
    return _relabelled(predicted, table, reference.names)


def _image(path: Path | None) -> Volume | None:
    """The scan at a path, where there is exactly one."""
    from ..io import read

    items = [] if path is None else read(path, labels=False)
    return items[0] if len(items) == 1 and isinstance(items[0], Volume) else None


def _relabelled(labels: LabelMap, table: Mapping[int, int], names: Mapping[int, str]) -> LabelMap:
    array = np.asarray(labels.array)
    lookup = np.zeros(max(int(array.max(initial=0)), *table, 0) + 1, np.uint8)
    for old, new in table.items():
        lookup[old] = new
    return dataclasses.replace(labels, array=lookup[array], names=names, colours={})
