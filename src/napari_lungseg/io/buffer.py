"""SimpleITK's voxels as a NumPy array without a copy."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ReadError


class _Kept:
    """Gives NumPy an image's buffer without a copy, and keeps the image alive as long as the array lives."""

    def __init__(self, image: Any) -> None:
        import SimpleITK

        self.image = image
        view = SimpleITK.GetArrayViewFromImage(image)
        address, _ = view.__array_interface__["data"]
        # The view is marked read-only, but nobody else holds this image: labels may be painted on.
        self.__array_interface__ = {**view.__array_interface__, "data": (address, False)}


def array_of(image: Any) -> np.ndarray:
    """The voxels of a SimpleITK image, ``(z, y, x[, channel])``, writable and without a copy.

    Raises
    ------
    ReadError
        For complex numbers.
    """
    array = np.asarray(_Kept(image))
    if array.dtype.kind == "c":
        raise ReadError("The voxels are complex numbers; expected integers or floating-point numbers.")
    return array
