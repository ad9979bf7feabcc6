"""Labels that may overlap, as few label maps without overlap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..findings import Finding
from ..volume import LabelMap
from .decoded import Decoded


@dataclass(frozen=True)
class Label:
    """What a file says of one segment or structure.

    Parameters
    ----------
    value : of its voxels, from 1
    name : or ""
    colour : ``"#rrggbb"``, or ""
    """

    value: int
    name: str = ""
    colour: str = ""


@dataclass
class Layers:
    """Label maps on one grid; a label goes into the first in which its voxels are free.

    Parameters
    ----------
    shape : (z, y, x) of the grid
    most : the greatest label
    """

    shape: tuple[int, int, int]
    most: int
    arrays: list[np.ndarray] = field(default_factory=list)
    labels: list[list[Label]] = field(default_factory=list)

    def add(self, label: Label, masks: Mapping[int, np.ndarray]) -> None:
        """Put a label in.

        Parameters
        ----------
        label : not yet in
        masks : slice number → (rows, columns) of bool
        """
        taken = [any(bool(array[z][mask].any()) for z, mask in masks.items()) for array in self.arrays]
        layer = taken.index(False) if False in taken else len(taken)
        if layer == len(taken):
            self.arrays.append(np.zeros(self.shape, np.min_scalar_type(max(self.most, 1))))
            self.labels.append([])
        for z, mask in masks.items():
            self.arrays[layer][z][mask] = label.value
        self.labels[layer].append(label)

    def label_maps(self, decoded: Decoded) -> Iterator[LabelMap]:
        """Each layer with the names and colours of its labels.

        Parameters
        ----------
        decoded : geometry, path, findings (told with the first layer), record and name; names go before those of the
            labels, and the array is not looked at
        """
        count = len(self.arrays)
        for number, (array, labels) in enumerate(zip(self.arrays, self.labels, strict=True)):
            told = f"Segments overlap in this file; this is label map {number + 1} of {count}."
            names = {label.value: name for label in labels if (name := decoded.names.get(label.value, label.name))}
            yield LabelMap(
                array,
                decoded.geometry,
                names,
                {label.value: label.colour for label in labels if label.colour},
                (
                    *(decoded.findings if number == 0 else ()),
                    *([Finding("overlapping-segments", told)] if count > 1 else ()),
                ),
                str(decoded.path),
                decoded.name if count == 1 else f"{decoded.name}, {_listed(list(names.values()))}".rstrip(", "),
                decoded.record,
            )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}" if names else ""
