"""``lungseg segment``: many inputs, one after the other; one that fails does not stop the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import LungSegError, ReadError
from ..volume import LabelMap, Volume
from . import show
from .outputs import Outputs

if TYPE_CHECKING:
    from ..segmentation.predict import SegmentSettings
    from ..volume import Modality


def segment_all(
    paths: Sequence[Path],
    *,
    out: Path,
    suffix: str,
    overwrite: bool,
    modality: Modality | None,
    hu_offset: float | Literal["auto"] | None,
    as_json: bool,
    model: str | None,
    device: str,
    settings: SegmentSettings,
    yes: bool = False,
) -> int:
    """Segment every volume in ``paths`` and return the exit code: 2 when any of them failed."""
    from .models import make_ready

    if model is not None:
        make_ready(model, yes=yes)  # a wrong name is told before anything is read
    outputs = Outputs(paths, out, suffix, overwrite)
    job = _Job(outputs, modality, hu_offset, as_json, {"model": model, "device": device, "settings": settings})
    for path in paths:
        job.take(path)
    if as_json:
        show.for_machines(job.records)
    return 2 if job.failed else 0


@dataclass
class _Job:
    outputs: Outputs
    modality: Modality | None
    hu_offset: float | Literal["auto"] | None
    as_json: bool
    options: dict[str, Any]
    records: list[dict[str, Any]] = field(default_factory=list)
    failed: int = 0

    def take(self, path: Path) -> None:
        """Segment every volume of one input; tell what failed and go on."""
        try:
            volumes = _volumes(path, self.modality)
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
        from ..segmentation.predict import iter_segment

        volume = _in_hounsfield(volume, self.hu_offset).load()
        labels = show.drained(iter_segment(volume, **self.options), path.name)
        write(labels, target)
        record = _record(path, target, volume, labels)
        self.records.append(record)
        if not self.as_json:
            _tell(record, volume, labels)

    def _fail(self, path: Path, error: LungSegError) -> None:
        self.failed += 1
        show.error_about(path, error)
        self.records.append({"path": str(path), "error": str(error)})


def _volumes(path: Path, modality: Modality | None) -> list[Volume]:
    from ..io import read

    items = read(path, modality=modality)
    volumes = [item for item in items if isinstance(item, Volume)]
    if not volumes:
        raise ReadError("This is a label map, not an image; name the scan that it belongs to.")
    return volumes


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
        "labels": measure(volume, labels).records(),
        "findings": show.finding_records((*volume.findings, *labels.findings)),
    }


def _tell(record: dict[str, Any], volume: Volume, labels: LabelMap) -> None:
    made = record["record"]
    by = f"{made.get('model', 'model')} on {made.get('device', 'cpu')} in {made.get('seconds', 0):.1f} s"
    sizes = [f"{row['name']} {_size(row)}" for row in record["labels"] if row["label"]]
    show.line(f"{record['output']}: {volume.name}, {', '.join(sizes)} ({by})")
    show.findings((*volume.findings, *labels.findings))


def _size(row: dict[str, Any]) -> str:
    if "volume_ml" in row:
        return f"{row['volume_ml']:.0f} ml"
    if "area_mm2" in row:
        return f"{row['area_mm2'] / 100:.0f} cm²"
    return f"{row['voxels']} pixels"
