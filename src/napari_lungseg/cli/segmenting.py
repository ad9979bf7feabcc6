"""``lungseg segment``: many inputs, one after the other; one that fails does not stop the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import LungSegError
from ..io import suffix_of
from ..volume import LabelMap, Volume
from . import show
from .outputs import Outputs
from .series import read_picked

if TYPE_CHECKING:
    from ..segmentation.predict import SegmentSettings
    from ..volume import Modality

_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_AS_PNG = (
    "Labels of a picture in such a file lie on a frontal grid of the patient, where other programs show no picture. "
    "To overlay them, write PNG: --format png, or a name that ends in .png."
)


def segment_all(
    paths: Sequence[Path],
    *,
    out: Path,
    suffix: str,
    reference: Path | None,
    overwrite: bool,
    modality: Modality | None,
    series: str | None,
    hu_offset: float | Literal["auto"] | None,
    straighten: bool,
    as_json: bool,
    model: str | None,
    device: str,
    settings: SegmentSettings,
    report: bool = False,
    uncertainty: bool = False,
    yes: bool = False,
) -> int:
    """Segment every volume in ``paths`` and return the exit code: 2 when any of them failed."""
    _check(model, device, settings.precision, yes=yes)
    outputs = Outputs(paths, out, suffix, overwrite)
    options = {"model": model, "device": device, "settings": settings}
    job = _Job(outputs, modality, series, reference, hu_offset, straighten, as_json, options, report, uncertainty)
    for path in paths:
        job.take(path)
    if as_json:
        show.for_machines(job.records)
    elif job.flat_files:
        show.line(_AS_PNG)
    return 2 if job.failed else 0


@dataclass
class _Job:
    outputs: Outputs
    modality: Modality | None
    series: str | None
    reference: Path | None
    hu_offset: float | Literal["auto"] | None
    straighten: bool
    as_json: bool
    options: dict[str, Any]
    report: bool = False
    uncertainty: bool = False
    records: list[dict[str, Any]] = field(default_factory=list)
    failed: int = 0
    flat_files: int = 0

    def take(self, path: Path) -> None:
        """Segment every volume of one input; tell what failed and go on."""
        try:
            volumes = _volumes(path, self.series, self.modality)
            targets = self.outputs.names_for(path, [v.name for v in volumes], [v.source for v in volumes])
        except LungSegError as error:
            self._fail(path, error)
            return
        for volume, target in zip(volumes, targets, strict=True):
            try:
                self._one(path, volume, target)
            except LungSegError as error:
                self._fail(path, error)

    def _one(self, path: Path, volume: Volume, target: Path) -> None:
        from ..io import write

        _check_source(volume, target, self.reference)
        volume = _in_hounsfield(volume, self.hu_offset).load()
        beside = self.outputs.beside(target, "uncertainty") if self.uncertainty else None
        labels, entropy = self._labels(volume, path.name)
        write(labels, target, reference=self.reference)
        self.flat_files += _overlays_nowhere(volume, target)
        record = _record(path, target, volume, labels)
        if beside and entropy is not None:
            write(entropy, beside)
            record["uncertainty"] = str(beside)
        self.records.append(record)
        if not self.as_json:
            _tell(record, volume, labels)
        if self.report:
            record["report"] = str(self._write_report(volume, labels, target))

    def _write_report(self, volume: Volume, labels: LabelMap, target: Path) -> Path:
        from ..analysis.case_report import iter_case_report

        page = target.with_name(target.name.removesuffix(suffix_of(target)) + ".html")
        show.drained(iter_case_report(volume, labels, page), target.name)
        if not self.as_json:
            show.line(f"  {page}")
        return page

    def _labels(self, volume: Volume, name: str) -> tuple[LabelMap, Volume | None]:
        """Labels on the volume's own grid, though they may have been found on a straightened one.

        The uncertainty, where it is wanted, stays on the grid that was segmented.
        """
        import numpy as np

        from ..analysis.resample import resample_labels
        from ..analysis.straighten import straightened
        from ..segmentation.predict import iter_segment

        straight = straightened(volume) if self.straighten else volume
        entropy, options = None, dict(self.options)
        if self.uncertainty:
            options["uncertainty"] = np.zeros(straight.geometry.shape, np.uint8)
            entropy = Volume(options["uncertainty"], straight.geometry, volume.modality, "a.u.", name="uncertainty")
        labels = show.drained(iter_segment(straight, **options), name)
        if straight is volume:
            return labels, entropy
        told = (*labels.findings, straight.findings[-1])
        return dataclasses.replace(resample_labels(labels, volume.geometry), findings=told), entropy

    def _fail(self, path: Path, error: LungSegError) -> None:
        self.failed += 1
        show.error_about(path, error)
        self.records.append({"path": str(path), "error": str(error)})


def _check(model: str | None, device: str, precision: str, *, yes: bool) -> None:
    """A wrong model, device or precision is told once, before anything is read."""
    from .models import make_ready

    if model is not None:
        make_ready(model, yes=yes)
    if device != "auto" or precision != "auto":
        from ..segmentation.devices import resolve_device, resolve_precision

        resolve_precision(precision, resolve_device(device))


def _check_source(volume: Volume, target: Path, reference: Path | None) -> None:
    """That there is no DICOM series to refer to is told before the work, not after it."""
    if target.suffix.lower() != ".dcm":
        return
    import numpy as np

    from ..io.dicom_source import source_of

    nothing = np.broadcast_to(np.uint8(0), volume.geometry.shape)
    source_of(LabelMap(nothing, volume.geometry, source=str(reference or volume.source)))


def _overlays_nowhere(volume: Volume, target: Path) -> bool:
    """Whether labels of a plain picture go into a format whose readers place them in a patient."""
    is_picture = suffix_of(Path(volume.source)) in _PICTURES and not volume.geometry.is_mm
    return is_picture and target.suffix.lower() not in _PICTURES


def _volumes(path: Path, series: str | None, modality: Modality | None) -> list[Volume]:
    items = read_picked(path, series, modality=modality, labels="skip")
    return [item for item in items if isinstance(item, Volume)]


def _in_hounsfield(volume: Volume, offset: float | Literal["auto"] | None) -> Volume:
    if offset is None or volume.modality != "ct" or volume.unit != "a.u.":
        return volume
    from ..io.infer import apply_offset

    return apply_offset(volume, None if offset == "auto" else offset)


def _record(path: Path, target: Path, volume: Volume, labels: LabelMap) -> dict[str, Any]:
    from ..analysis.measure import measure

    return {
        "path": volume.source or str(path),
        "output": str(target),
        "record": dict(labels.record),
        "confidence": labels.record.get("confidence"),
        "labels": measure(volume, labels).records(),
        "findings": show.finding_records((*volume.findings, *labels.findings)),
    }


def _tell(record: dict[str, Any], volume: Volume, labels: LabelMap) -> None:
    from ..segmentation.confidence import confidence_of

    made = record["record"]
    by = f"{made.get('model', 'model')} on {made.get('device', 'cpu')} in {made.get('seconds', 0):.1f} s"
    sizes = [f"{row['name']} {_size(row, volume)}" for row in record["labels"] if row["label"]]
    show.line(f"{record['output']}: {volume.name}, {', '.join(sizes)} ({by})")
    confidence = confidence_of(labels)
    if confidence is not None:
        show.line(f"  {confidence}" + (f". {confidence.reason}" if confidence.light == "grey" else ""))
    show.findings((*volume.findings, *labels.findings))


def _size(row: dict[str, Any], volume: Volume) -> str:
    if "volume_ml" in row and "area_mm2" in row:
        thickness = float(volume.geometry.slice_thicknesses_mm[0])
        return f"{row['area_mm2'] / 100:.0f} cm² (one slice of {thickness:.3g} mm: {row['volume_ml']:.0f} ml)"
    if "volume_ml" in row:
        return f"{row['volume_ml']:.0f} ml"
    if "area_mm2" in row:
        return f"{row['area_mm2'] / 100:.0f} cm²"
    return f"{row['voxels']} pixels"
