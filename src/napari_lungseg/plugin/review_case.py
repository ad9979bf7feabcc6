"""The case of a cohort that is on screen: its scan, its labels, and what was changed in them."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Image, Labels

from ..cohort.folder import CohortFolder
from ..cohort.review import OpenedCase, iter_keep_corrected, iter_open_case
from ..progress import Progress
from ..volume import LabelMap
from .layers import labels_to_layer, layer_to_labels
from .opening import make_layer
from .places import go_to_slice
from .window import letters_of


@dataclass(eq=False)
class ShownCase:
    """A case in the viewer.

    Parameters
    ----------
    opened : what was read
    image, labels : its layers
    original : labels as they were made, as the layer shows them
    kept : labels as they lie in the folder
    """

    opened: OpenedCase
    image: Image
    labels: Labels
    original: np.ndarray
    kept: np.ndarray

    @property
    def is_edited(self) -> bool:
        """Whether the labels differ from those in the folder."""
        return not np.array_equal(self.labels.data, self.kept)

    @property
    def is_original(self) -> bool:
        """Whether the labels are as they were made."""
        return np.array_equal(self.labels.data, self.original)

    def restore(self) -> None:
        """Show the labels as they were made."""
        self.labels.data = self.original.copy()

    def discard(self) -> None:
        """Show the labels as they lie in the folder."""
        self.labels.data = self.kept.copy()

    def snapshot(self) -> LabelMap:
        """The labels as they are now, which then count as kept; voxels are copied, for painting may go on."""
        labels = layer_to_labels(self.labels, self.opened.original.geometry)
        return dataclasses.replace(labels, array=labels.array.copy())

    def add_to(self, viewer: Any) -> None:
        """Show the layers, ready to be painted on, at the slice that holds most of the labels."""
        viewer.add_layer(self.image)
        viewer.add_layer(self.labels)
        viewer.reset_view()
        viewer.layers.selection.active = self.labels
        if self.labels.ndim == 3:
            areas = np.count_nonzero(self.labels.data, axis=(1, 2))
            go_to_slice(viewer, self.labels, int(areas.argmax()) if areas.any() else len(areas) // 2)
        letters_of(viewer).update()

    def remove_from(self, viewer: Any) -> None:
        """Take away the layers that are still there."""
        for layer in (self.labels, self.image):
            if layer in viewer.layers:
                viewer.layers.remove(layer)


def case_steps(folder: CohortFolder, row: dict[str, Any]) -> Generator[Progress, None, ShownCase]:
    """Read a case and make its layers, which takes napari longer than showing them."""
    opened = yield from iter_open_case(folder, row)
    saved = opened.corrected or opened.original
    image = make_layer(dataclasses.replace(opened.volume, name=opened.case))
    shown = dataclasses.replace(opened.draft or saved, name=f"{opened.case} labels")
    layer = make_layer(shown)
    # Copies: painting changes the layer's own voxels.
    return ShownCase(opened, image, layer, _as_shown(opened.original), _as_shown(saved))


def _as_shown(labels: LabelMap) -> np.ndarray:
    data, _, _ = labels_to_layer(labels)
    return np.array(data)


def kept_steps(
    folder: CohortFolder, shown: ShownCase, labels: LabelMap, notes: str
) -> Generator[Progress, None, np.ndarray]:
    """Keep corrected labels; returns them as the layer shows them."""
    yield from iter_keep_corrected(folder, shown.opened, labels, notes)
    data, _, _ = labels_to_layer(labels)
    return np.asarray(data)
