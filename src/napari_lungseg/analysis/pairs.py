"""What is compared: pairs of label maps from files, or from a model and a data set, opened one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import IncompatibleModelError, ReadError, TrainingDataError
from ..progress import Progress
from ..volume import LabelMap, Volume
from .pairing import FilePair

if TYPE_CHECKING:
    from ..segmentation.predict import SegmentSettings


@dataclass(frozen=True, eq=False)
class Both:
    """The two label maps of a case, and its image where there is one."""

    predicted: LabelMap
    reference: LabelMap
    volume: Volume | None = None


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


def pairs_of_files(pairs: Sequence[FilePair]) -> list[Pair]:
    """Cases from pairs of label map files."""

    def open_pair(pair: FilePair) -> Generator[Progress, None, Both]:
        yield Progress(0, 1, "reading")
        return Both(read_labels(pair.predicted), read_labels(pair.reference))

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


def read_labels(path: Path) -> LabelMap:
    """The one label map of a file.

    Raises
    ------
    ReadError
        When it holds several.
    """
    from ..io import read

    items = read(path, labels=True)
    if len(items) != 1 or not isinstance(items[0], LabelMap):
        raise ReadError(
            f"{path.name} holds {len(items)} label maps, but one is compared at a time; name a single file."
        )
    return items[0]


def alike(predicted: LabelMap, reference: LabelMap) -> tuple[LabelMap, LabelMap]:
    """Both with the reference's labels: matched by name, or as one where one of them has a single label.

    Raises
    ------
    IncompatibleModelError
        When their labels have nothing to do with each other.
    """
    ours = {name.lower(): label for label, name in reference.names.items()}
    theirs = {label: name.lower() for label, name in predicted.names.items()}
    if ours and set(ours) <= set(theirs.values()):
        table = {label: ours[name] for label, name in theirs.items() if name in ours}
        return _relabelled(predicted, table, reference.names), reference
    if len(ours) == 1 or len(theirs) == 1:
        (name,) = (reference if len(ours) == 1 else predicted).names.values()
        one, other = (dict.fromkeys(item.names, 1) for item in (predicted, reference))
        return _relabelled(predicted, one, {1: name}), _relabelled(reference, other, {1: name})
    raise IncompatibleModelError(
        f"The model labels {', '.join(theirs.values())}, but the reference {', '.join(ours)}; there is nothing to "
        "compare. Choose a model or a data set with the same labels."
    )


def _relabelled(labels: LabelMap, table: Mapping[int, int], names: Mapping[int, str]) -> LabelMap:
    array = np.asarray(labels.array)
    lookup = np.zeros(max(int(array.max(initial=0)), *table, 0) + 1, np.uint8)
    for old, new in table.items():
        lookup[old] = new
    return dataclasses.replace(labels, array=lookup[array], names=names, colours={})
