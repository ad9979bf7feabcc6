"""How a cohort is worked through, and which of its scans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ..settings import setting, validate


@dataclass(frozen=True)
class CohortSettings:
    """How a cohort is worked through, and which of its scans.

    Raises
    ------
    LungSegError
        When a value is outside its bounds.
    """

    workers: int = setting(
        0, "Worker processes on this machine; 0 is one for each GPU, or one where there is none.", min=0, max=512
    )
    scheduler: str = setting("", "Address of a running Dask scheduler, such as tcp://10.0.0.5:8786, to work there.")
    overlap: int = setting(
        2, "Scans that a worker holds at once: one is read or written while the other has the device.", min=1, max=8
    )
    report: bool = setting(False, "Write the report of each case as well; a few seconds more for each.")
    retry_failed: bool = setting(False, "Try scans again that failed before and have not changed since.")
    only: str = setting("any", "Leave out scans of another kind.", choices=("any", "ct", "xray"))
    thinnest: float | None = setting(None, "Leave out CT with thinner slices.", unit="mm", min=0)
    thickest: float | None = setting(None, "Leave out CT with thicker slices.", unit="mm", min=0)
    kernel: str = setting("", "Leave out CT of other reconstruction kernels; patterns such as 'B70*,LUNG'.")

    keep_identifiers: bool = setting(
        False, "Let the tables say whose scan it is: what DICOM headers tell, and every column of a table of paths."
    )

    def __post_init__(self) -> None:
        validate(self)

    def against(self, row: Mapping[str, Any]) -> str:
        """Why a scan is left out, or "".

        Parameters
        ----------
        row : its ``modality``, ``slice_thickness_mm`` and ``kernel``
        """
        if self.only != "any" and row["modality"] != self.only:
            return f"not wanted: {row['modality']}, not {self.only}"
        if row["modality"] != "ct":
            return ""
        thickness = row["slice_thickness_mm"]
        if thickness is not None and not (self.thinnest or 0) <= thickness <= (self.thickest or float("inf")):
            return f"not wanted: slices of {thickness:g} mm"
        patterns = [pattern.strip().upper() for pattern in self.kernel.split(",") if pattern.strip()]
        kernel = str(row["kernel"] or "")
        if patterns and not any(fnmatchcase(kernel.upper(), pattern) for pattern in patterns):
            return f"not wanted: kernel {kernel or 'not stated'}"
        return ""
