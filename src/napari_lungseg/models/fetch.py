"""Fetch published weights once, and make a model file of them: complete and checked, or not at all.

Two environment variables serve those who cannot reach the internet: ``LUNGSEG_MODELS_OFFLINE`` is a folder where published
files are looked for first, ``LUNGSEG_MODELS_MIRROR`` an address under which they lie instead of their own.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from ..errors import FetchError, ModelFileError, WriteError
from ..progress import Progress
from .building import build_network, resolve
from .library import fetched_file, model_folder
from .weights import save_model

if TYPE_CHECKING:
    import torch

    from .published import Offer

OFFLINE_VARIABLE, MIRROR_VARIABLE = "LUNGSEG_MODELS_OFFLINE", "LUNGSEG_MODELS_MIRROR"
TIMEOUT_S = 30
_TRIES = 4  # each goes on where the one before broke off
_CHUNK = 256 * 1024
_MB = 1e6


def offline_file(offer: Offer) -> Path | None:
    """The published file in the folder ``LUNGSEG_MODELS_OFFLINE``, if it is there."""
    folder = os.environ.get(OFFLINE_VARIABLE)
    path = Path(folder).expanduser() / offer.filename if folder else None
    return path if path is not None and path.is_file() else None


def address(offer: Offer) -> str:
    """Where the published file will be fetched from."""
    mirror = os.environ.get(MIRROR_VARIABLE)
    return f"{mirror.rstrip('/')}/{offer.filename}" if mirror else offer.url


def iter_fetch(offer: Offer, file: Path | None = None) -> Generator[Progress, None, Path]:
    """Fetch published weights, check them, make a model file of them, and return it.

    What has arrived is kept when the connection breaks, and the next call goes on from there.

    Parameters
    ----------
    offer : of the catalogue
    file : the published file, where it is at hand

    Raises
    ------
    FetchError
        When the server refuses, the connection breaks again and again, or what arrived is not what was published.
    ModelFileError
        When the file holds anything but the weights of this architecture.
    """
    target = fetched_file(offer)
    given = file or offline_file(offer)
    if given is not None:
        yield Progress(0, 0, f"reading {given.name}")
        check_digest(given, offer)
        return _convert(given, offer, target)
    part = model_folder() / "fetched" / f"{offer.filename}.part"
    yield from _download(address(offer), part)
    yield Progress(1, 1, "checking and converting")
    try:
        check_digest(part, offer)
        return _convert(part, offer, target)
    finally:
        part.unlink(missing_ok=True)  # a wrong one would only be resumed


def check_digest(path: Path, offer: Offer) -> None:
    """Hold a file against the published SHA-256.

    Raises
    ------
    FetchError
        When it is another file.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(offer.sha256):
        raise FetchError(
            f"{path.name.removesuffix('.part')} is not the published file: its SHA-256 begins with "
            f"{found[: len(offer.sha256)]}, expected {offer.sha256}. It was not used. Fetch it again, or from another place."
        )


def _convert(path: Path, offer: Offer, target: Path) -> Path:
    """Published weights as a model file, in the precision in which they were published."""
    weights = resolve(offer.convert)(_tensors(path))
    build_network(offer.spec, weights, offer.build, offer.filename)  # told now rather than at the first use
    return save_model(target, offer.spec, weights, half=False)


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    import pickle

    import torch

    try:
        values: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ModelFileError(
            f"{path.name.removesuffix('.part')} is damaged or holds more than weights, so it was not opened "
            f"({str(error).strip().splitlines()[0][:80]})."
        ) from error
    if not isinstance(values, dict) or not all(isinstance(value, torch.Tensor) for value in values.values()):
        raise ModelFileError(f"{path.name.removesuffix('.part')} holds no table of weights.")
    return values


def _download(url: str, part: Path) -> Generator[Progress, None, None]:
    """Fill ``part``; goes on where it ends, as often as connections break."""
    host = urlsplit(url).netloc or url
    for left in reversed(range(_TRIES)):
        try:
            yield from _go_on(url, part)
        except HTTPError as error:
            if error.code == 416 and left:  # nothing after what is there, so that is not the beginning of this file
                part.unlink(missing_ok=True)
                continue
            raise FetchError(
                f"{host} refused {url.rpartition('/')[2]} ({error.code} {error.reason}). {_WAYS_OUT}"
            ) from error
        except (OSError, HTTPException) as error:
            if not left:
                reason = getattr(error, "reason", None) or error
                raise FetchError(f"{host} cannot be reached or breaks off ({reason}). {_KEPT} {_WAYS_OUT}") from error
        else:
            return


_KEPT = "What has arrived is kept, and the next try goes on from there."
_WAYS_OUT = (
    "Try again later, name another server in "
    f"{MIRROR_VARIABLE}, or put the file into a folder and name that in {OFFLINE_VARIABLE}."
)


def _go_on(url: str, part: Path) -> Generator[Progress, None, None]:
    """One connection: asks for what is missing; a server that sends everything all the same starts the file anew."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "napari-lungseg"} | ({"Range": f"bytes={have}-"} if have else {})
    with urlopen(Request(url, headers=headers), timeout=TIMEOUT_S) as answer:
        goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if answer.status == 206 and not goes_on:
            part.unlink(missing_ok=True)
            raise ConnectionError("the server sent another part than was asked for")
        done = have if goes_on else 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length else 0
        for chunk in _append(answer, part, "ab" if goes_on else "wb"):
            done += chunk
            size = f" of {total / _MB:.0f}" if total else ""
            yield Progress(done, total, f"{done / _MB:.0f}{size} MB")
    if done < total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes")


def _append(answer: Any, part: Path, mode: str) -> Generator[int, None, None]:
    """Write what arrives; yields the length of each chunk."""
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        file = part.open(mode)
    except OSError as error:
        raise WriteError(
            f"{part.parent} cannot be written to ({error.strerror}). Choose another with LUNGSEG_MODELS."
        ) from error
    with file:
        while chunk := answer.read(_CHUNK):
            try:
                file.write(chunk)
            except OSError as error:
                raise WriteError(f"{part.name} cannot be written ({error.strerror}). Free some space.") from error
            yield len(chunk)
