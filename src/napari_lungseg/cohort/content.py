"""What tells inputs, models and settings apart: hashes of their content, never of their names."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..models.catalog import DEFAULT_MODELS, Model, load_model
from ..segmentation.predict import SegmentSettings

_BYTES = 8
# A case is redone when what is kept of it changes its meaning.
RESULTS_FORMAT = 1
# What changes how fast the labels come, and not the labels.
_ONLY_SPEED = ("batch_size",)


def _digest(data: bytes = b"", size: int = _BYTES) -> Any:
    return hashlib.blake2b(data, digest_size=size)


def content_hash(files: Sequence[Path]) -> str:
    """Hash of the bytes of some files, whatever their names, places and order: 16 letters and digits.

    Raises
    ------
    OSError
        When one cannot be read.
    """
    digests = []
    for path in files:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, _digest).digest())
    return str(_digest(b"".join(sorted(digests))).hexdigest())


def fingerprint(files: Sequence[Path]) -> str:
    """Hash of places, sizes and times of change: while it stays, files need not be read to know that they are the same.

    Raises
    ------
    OSError
        When one is not there.
    """
    said = []
    for path in files:
        stat = path.stat()
        said.append(f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}")
    return str(_digest("\n".join(sorted(said)).encode(), 16).hexdigest())


def model_hash(model: str | None) -> str:
    """Hash of a model's file; of the bundled ones together, where each scan takes that of its kind.

    Raises
    ------
    LungSegError
        When there is no such model, or its weights are not here.
    """
    names = [model] if model else sorted(set(DEFAULT_MODELS.values()))
    return str(_digest("".join(_of_model(load_model(name)) for name in names).encode()).hexdigest())


def _of_model(model: Model) -> str:
    if model.path is None:
        return str(_digest(f"{model.build}{model.spec.to_json()}".encode()).hexdigest())
    return _of_file(model.path, model.path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _of_file(path: Path, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, _digest).hexdigest()


def settings_hash(
    settings: SegmentSettings, modality: str | None, hu_offset: float | str | None, *, straighten: bool = False
) -> str:
    """Hash of all that changes the labels of a scan beside the model."""
    said = {name: value for name, value in dataclasses.asdict(settings).items() if name not in _ONLY_SPEED}
    told = json.dumps([RESULTS_FORMAT, said, modality, hu_offset, straighten], sort_keys=True)
    return str(_digest(told.encode()).hexdigest())
