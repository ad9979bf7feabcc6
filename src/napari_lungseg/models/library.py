"""The user's folder of models: what was imported into it, and what was fetched."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Collection
from pathlib import Path

from ..errors import ModelFileError
from .published import Offer
from .weights import read_spec, save_model

FOLDER_VARIABLE = "LUNGSEG_MODELS"
_SUFFIX = ".safetensors"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def model_folder() -> Path:
    """Where the user's models lie: the folder named by ``LUNGSEG_MODELS``, or one in the user's data folder."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named).expanduser()
    from platformdirs import user_data_path

    return user_data_path("napari-lungseg", appauthor=False) / "models"


def own_files() -> dict[str, Path]:
    """Name → file of every model in the user's folder."""
    return {path.stem: path for path in sorted(model_folder().glob(f"*{_SUFFIX}"))}


def fetched_file(offer: Offer) -> Path:
    """Where the model file of fetched weights lies or will lie."""
    return model_folder() / "fetched" / f"{offer.same_as or offer.spec.name}{_SUFFIX}"


def import_model(
    path: str | Path, name: str = "", *, licence: str = "", taken: Collection[str] = (), overwrite: bool = False
) -> Path:
    """Copy a model file into the user's folder, so that it is found by name.

    Parameters
    ----------
    path : a ``.safetensors`` file of this package, or a package for the BioImage Model Zoo that it exported
    name : under which it is found; empty for the name in its description
    licence : of the weights; empty for that in its description
    taken : names that other models bear already
    overwrite : replace a model of the user's that bears the name

    Raises
    ------
    ModelFileError
        When the file is no model, or the name is taken or cannot be a file's.
    """
    from safetensors.torch import load_file

    source = Path(path)
    if zipfile.is_zipfile(source):
        with tempfile.TemporaryDirectory() as folder:
            return import_model(
                _unpacked(source, Path(folder)), name, licence=licence, taken=taken, overwrite=overwrite
            )
    spec = read_spec(source)
    name = name or spec.name
    if not _NAME.fullmatch(name):
        raise ModelFileError(
            f"{name!r} cannot be the name of a model: use letters, digits, '-', '_' and '.'. Give another with --name."
        )
    target = model_folder() / f"{name}{_SUFFIX}"
    if name in taken:
        raise ModelFileError(f"There is a model named {name!r} already that is not yours; give another with --name.")
    if target.exists() and not overwrite:
        raise ModelFileError(
            f"You have a model named {name!r} already; give another name with --name, or replace it with --overwrite."
        )
    spec = dataclasses.replace(spec, name=name, licence=licence or spec.licence)
    return save_model(target, spec, load_file(source), half=False)


def save_copy(source: str | Path, target: str | Path) -> Path:
    """Copy a model file to anywhere; the copy goes by the name of its file.

    Raises
    ------
    ModelFileError
        When the source is no model.
    WriteError
        When the disk refuses.
    """
    from safetensors.torch import load_file

    path = Path(target)
    spec = dataclasses.replace(read_spec(source), name=path.stem)
    return save_model(path, spec, load_file(str(source)), half=False)


def _unpacked(packed: Path, folder: Path) -> Path:
    """The model file out of a package that this program exported."""
    with zipfile.ZipFile(packed) as file:
        found = [name for name in file.namelist() if name.endswith(_SUFFIX)]
        if len(found) != 1:
            raise ModelFileError(
                f"{packed.name} holds {len(found)} {_SUFFIX} files, but one is expected: only packages that "
                "`lungseg models export` made can be imported."
            )
        target = folder / f"packed{_SUFFIX}"
        with file.open(found[0]) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy)
    return target
