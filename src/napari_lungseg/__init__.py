"""Lung segmentation on CT and chest X-rays: a napari plugin, a Python API and a command line over one core.

The names below are imported when they are first used; importing this package imports neither numpy nor torch.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # checkers take it for true; importing `typing` would be most of this package's import time
if TYPE_CHECKING:
    from .analysis.evaluation import EvaluateSettings, evaluate_cases
    from .analysis.measure import MeasureSettings, measure
    from .analysis.metrics import evaluate
    from .analysis.profile import histogram, profile
    from .analysis.radiomics import radiomics
    from .analysis.table import Table
    from .errors import LungSegError
    from .findings import Finding
    from .io import read, write
    from .io.series_list import list_series
    from .models.catalog import list_models, load_model
    from .progress import Progress
    from .segmentation.predict import SegmentSettings, iter_segment, segment
    from .training.interactive import train_painted
    from .training.loop import train
    from .training.painted import Painted
    from .training.recipe import TrainSettings
    from .training.rounds import PaintSettings
    from .volume import Geometry, LabelMap, Volume

    __version__: str

_ORIGINS = {
    "EvaluateSettings": "analysis.evaluation",
    "Finding": "findings",
    "Geometry": "volume",
    "LabelMap": "volume",
    "LungSegError": "errors",
    "MeasureSettings": "analysis.measure",
    "PaintSettings": "training.rounds",
    "Painted": "training.painted",
    "Progress": "progress",
    "SegmentSettings": "segmentation.predict",
    "Table": "analysis.table",
    "TrainSettings": "training.recipe",
    "Volume": "volume",
    "evaluate": "analysis.metrics",
    "evaluate_cases": "analysis.evaluation",
    "histogram": "analysis.profile",
    "iter_segment": "segmentation.predict",
    "list_models": "models.catalog",
    "list_series": "io.series_list",
    "load_model": "models.catalog",
    "measure": "analysis.measure",
    "profile": "analysis.profile",
    "radiomics": "analysis.radiomics",
    "read": "io",
    "segment": "segmentation.predict",
    "train": "training.loop",
    "train_painted": "training.interactive",
    "write": "io",
}

__all__ = [
    "EvaluateSettings",
    "Finding",
    "Geometry",
    "LabelMap",
    "LungSegError",
    "MeasureSettings",
    "PaintSettings",
    "Painted",
    "Progress",
    "SegmentSettings",
    "Table",
    "TrainSettings",
    "Volume",
    "__version__",
    "evaluate",
    "evaluate_cases",
    "histogram",
    "iter_segment",
    "list_models",
    "list_series",
    "load_model",
    "measure",
    "profile",
    "radiomics",
    "read",
    "segment",
    "train",
    "train_painted",
    "write",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version  # 10 ms that `import napari_lungseg` need not cost

        try:
            return version("napari-lungseg")
        except PackageNotFoundError:  # run from a source tree that was never installed
            return "0.0.0"
    if name not in _ORIGINS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_ORIGINS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
