"""The raw radiographs of the Japanese Society of Radiological Technology (JSRT), files of pixels without a header."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import ReadError
from ..findings import Finding
from ..volume import FRONTAL, Geometry, Volume

# Shiraishi et al. 2000 (doi:10.2214/ajr.174.1.1740071): 2048 × 2048 pixels of 0.175 mm, 12 bits, most significant byte
# first; films were digitised by their density, so bright bones have the lowest numbers.
_SIDE, _PIXEL_MM, _GREYS = 2048, 0.175, 4095
_BYTES = 2 * _SIDE * _SIDE


def read_jsrt(path: Path) -> Volume:
    """Read one ``.IMG`` file, bones bright as in every other radiograph.

    Raises
    ------
    ReadError
        When there is no such file, or it is not of the one size that these files have.
    """
    try:
        size = path.stat().st_size
        raw = np.fromfile(path, dtype=">u2")
    except OSError as error:
        raise ReadError(f"{path.name} cannot be read ({error.strerror}); check the path.") from error
    if size != _BYTES:
        raise ReadError(
            f"{path.name} has {size} bytes; a raw JSRT radiograph has {_BYTES}. Copy it again, or export it as PNG."
        )
    inverted = _GREYS - np.minimum(raw, _GREYS).astype(np.uint16)
    geometry = Geometry((1, _SIDE, _SIDE), (1.0, _PIXEL_MM, _PIXEL_MM), direction=FRONTAL)
    told = Finding(
        "inverted-grey", "The file holds film density; the grey scale was turned over so that bones are bright."
    )
    picture = inverted.reshape(1, _SIDE, _SIDE)
    return Volume(picture, geometry, "xray", "a.u.", (0, _GREYS), (told,), source=str(path), name="X-ray")
