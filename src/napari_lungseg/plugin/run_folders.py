"""Folders of trainings on paint: one for each, the oldest removed in time."""

from __future__ import annotations

import os
import re
import shutil
from datetime import datetime
from pathlib import Path

from .appearance import called

FOLDER_VARIABLE = "LUNGSEG_PAINTED"
KEPT = 20
_STAMP = len("yyyymmdd-hhmmss")
_NAME = re.compile(r"\d{8}-\d{6}(-\d+)?")


def painted_folder() -> Path:
    """Where trainings on paint lie: the folder named by ``LUNGSEG_PAINTED``, or one in the user's data folder."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named).expanduser()
    from platformdirs import user_data_path

    return user_data_path("napari-lungseg", appauthor=False) / "painted"


def new_run_folder(now: datetime | None = None) -> Path:
    """Make the folder of a training that begins, and remove all but the latest `KEPT`."""
    stamp = f"{now or datetime.now():%Y%m%d-%H%M%S}"
    while True:
        last = max((_age(path) for path in _folders() if path.name.startswith(stamp)), default=None)
        folder = painted_folder() / (stamp if last is None else f"{stamp}-{last[1] + 1}")
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:  # another napari was quicker
            continue
    for old in sorted(_folders(), key=_age)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def title_of(model: Path) -> str:
    """What a model file is called in lists: of a training on paint its classes and when it began, else the file's name."""
    if not _NAME.fullmatch(model.parent.name):
        return model.name
    from ..models.weights import read_spec

    began = datetime.strptime(model.parent.name[:_STAMP], "%Y%m%d-%H%M%S")
    when = f"{began:%H:%M}" if began.date() == datetime.now().date() else f"{began:%d %b %H:%M}"
    return f"{called(read_spec(model).names.values())} (painted {when})"


def _folders() -> list[Path]:
    place = painted_folder()
    paths = place.iterdir() if place.is_dir() else ()
    return [path for path in paths if path.is_dir() and _NAME.fullmatch(path.name)]


def _age(path: Path) -> tuple[str, int]:
    return path.name[:_STAMP], int(path.name[_STAMP + 1 :] or 0)
