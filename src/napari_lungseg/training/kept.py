"""What the model that a training has kept says of slices, once that training is over."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ..models.weights import read_spec
from .examples import Examples, Place
from .learner import Learner
from .painted import Painted
from .rounds import PaintSettings, Preview
from .start import make_fabric
from .transfer import start_from


class KeptModel:
    """A model file and the images that it was trained on.

    Parameters
    ----------
    painted : images, as the training was given them
    model : the file
    settings : of the training
    """

    def __init__(self, painted: Sequence[Painted], model: Path, settings: PaintSettings) -> None:
        images, spec = [item.standard() for item in painted], read_spec(model)
        start = start_from(str(model), images[0].volume, spec.names, spec.colours, settings.seed)
        examples = Examples(images, spec.preprocessing, 0.0, settings.seed)
        self._learner = Learner(make_fabric(settings.device, settings.precision), start, examples, settings)
        self._number = int(spec.training.get("rounds", 0))

    def preview(self, place: Place) -> Preview:
        """Labels and uncertainty of a slice."""
        return dataclasses.replace(self._learner.preview(place)[0], number=self._number)
