"""From a `Volume` to a `LabelMap` with a trained network.

Between the voxels in physical units and the labels on the original grid everything runs in torch on the device:
pixels cross to it once, and come back once as small integers.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DeviceError, IncompatibleModelError
from ..findings import Finding
from ..models.catalog import Model, default_model, load_model
from ..models.spec import ModelSpec
from ..progress import Progress, drain
from ..settings import setting, validate
from ..volume import LabelMap, Volume, plain_name
from .across import AcrossSlices, slice_positions
from .devices import PRECISIONS, is_out_of_memory, keep_freed_memory, resolve_device, resolve_precision
from .evidence import Evidence, agreement_of, counts_of, doubt_of, looked_at, sums_of

if TYPE_CHECKING:
    import torch

    from .preprocess import Box

# Fewer pixels than this a side cannot show a chest; the bundled networks halve the image five times.
SMALLEST_SIDE = 32


@dataclass(frozen=True)
class SegmentSettings:
    """How to segment.

    Raises
    ------
    LungSegError
        When a value is outside its bounds.
    """

    batch_size: int = setting(
        8, "Slices sent to the network at once; halved by itself when memory runs out.", min=1, max=256
    )
    precision: str = setting(
        "auto", "Number format of the network: the fastest that the hardware has, or a given one.", choices=PRECISIONS
    )
    mirror: bool = setting(False, "Average with the mirrored image: twice the time, a little more accurate.")
    postprocess: bool = setting(True, "Keep one connected piece per lung, fill holes and tell the sides apart.")
    look_again: bool = setting(
        True,
        "Look at up to 6 slices of a stack four more times, a little changed, to say how sure the result is.",
        advanced=True,
    )

    def __post_init__(self) -> None:
        validate(self)


def segment(
    volume: Volume,
    model: str | Path | Model | None = None,
    *,
    device: str = "auto",
    settings: SegmentSettings | None = None,
    uncertainty: np.ndarray | None = None,
    progress: Callable[[Progress], object] | None = None,
) -> LabelMap:
    """Segment a scan.

    Parameters
    ----------
    volume : a CT (HU) or a chest X-ray; one slice works as well as a stack
    model : name of a bundled model, path of a model file, or None for the bundled model of the modality
    device : ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``
    settings : see `SegmentSettings`
    uncertainty : (z, y, x) uint8 array to fill, which may lie on disk (`numpy.memmap`): entropy of the soft-max per voxel,
        per cent of the largest there can be
    progress : called after every batch

    Returns
    -------
    Labels on the volume's own grid, with names, colours, findings, and in ``record`` what made them.

    Raises
    ------
    IncompatibleModelError
        When the model cannot work on this image.
    DeviceError
        When the device is not there, or has too little memory for a single slice.
    """
    return drain(iter_segment(volume, model, device=device, settings=settings, uncertainty=uncertainty), progress)


def iter_segment(
    volume: Volume,
    model: str | Path | Model | None = None,
    *,
    device: str = "auto",
    settings: SegmentSettings | None = None,
    uncertainty: np.ndarray | None = None,
) -> Generator[Progress, None, LabelMap]:
    """Segment step by step: yields `Progress` after every batch and returns the labels (see `segment`)."""
    started = time.perf_counter()
    chosen = model if isinstance(model, Model) else load_model(model or default_model(volume.modality))
    settings = settings or SegmentSettings()
    findings = check_compatible(volume, chosen.spec)
    yield Progress(0, volume.geometry.shape[0], "loading the model")
    run = _Run.prepare(chosen, device, settings)
    view, turn = volume.reoriented()
    labels, evidence = yield from run.over(view, None if uncertainty is None else turn.apply(uncertainty))
    findings += run.findings
    if settings.postprocess:
        from .postprocess import postprocess

        yield Progress(len(labels), len(labels), "tidying up")
        hounsfield = view.array if view.unit == "HU" else None
        labels, noticed = postprocess(
            labels, view.geometry, frames=view.is_frames, names=chosen.spec.names, image=hounsfield
        )
        findings += noticed
    judged, noticed = _judged(labels, view, evidence, chosen.spec, findings)
    findings += noticed
    record = run.record() | judged | {"seconds": round(time.perf_counter() - started, 3)}
    return LabelMap(
        array=np.ascontiguousarray(turn.undo(labels)),
        geometry=volume.geometry,
        names=chosen.spec.names,
        colours=chosen.spec.colours,
        findings=tuple(findings),
        source=volume.source,
        name=f"{volume.name} {chosen.spec.name}",
        record=record,
    )


def _judged(
    labels: np.ndarray, view: Volume, evidence: Evidence, spec: ModelSpec, findings: Sequence[Finding]
) -> tuple[dict[str, Any], list[Finding]]:
    """What the record says of a result's quality, and the findings that come of it."""
    from .calibration import predictions
    from .confidence import judge
    from .lung_statistics import statistics
    from .quality import check

    measured = statistics(labels, view, evidence, spec)
    noticed = check(measured, view, spec)
    quality = [values.as_record() for values in measured]
    predicted = predictions(quality, spec)
    for values, prediction in zip(quality, predicted, strict=True):
        if prediction is not None:
            values |= {
                "predicted_dice": prediction.dice,
                "predicted_low": prediction.low,
                "predicted_high": prediction.high,
            }
    confidence = judge(predicted, [*findings, *noticed])
    return {"quality": quality, "confidence": confidence.as_record()}, noticed


_WORDS = {"ct": "a chest CT", "xray": "a chest X-ray", "photo": "a colour photograph"}


def check_compatible(volume: Volume, spec: ModelSpec) -> list[Finding]:
    """Compare an image with what a model was made for.

    Raises
    ------
    IncompatibleModelError
        Saying what was found, what the model needs and what to do.
    """
    view = volume.geometry.reoriented(volume.geometry.reorientation())
    rows, columns = view.shape[1:]
    if min(rows, columns) < SMALLEST_SIDE:
        raise IncompatibleModelError(
            f"The image is {columns} × {rows} pixels, too small to show lungs: expected at least "
            f"{SMALLEST_SIDE} × {SMALLEST_SIDE}. Open the original image instead of a thumbnail."
        )
    if spec.modality != volume.modality:
        found, needed = _WORDS[volume.modality], _WORDS[spec.modality]
        raise IncompatibleModelError(
            f"The model {spec.name!r} is for {needed}, but this image is {found}. "
            f"Pick a model for {found}, or say what the image is (modality=, --modality, or the row Kind) if it was "
            "taken for the wrong one."
        )
    if spec.unit != volume.unit:
        raise IncompatibleModelError(
            f"The model {spec.name!r} needs values in {spec.unit}, but this image has {volume.unit}. "
            "Open the DICOM series instead of an exported picture, or add the offset of its values "
            "(io.infer.apply_offset, or --hu-offset)."
        )
    if volume.modality == "ct" and view.axis_letters()[1:] != ("P", "L"):
        message = (
            "The slices are not axial, and the model has learned from axial slices only: look closely at the result."
        )
        return [Finding("not-axial", message)]
    return []


@dataclass
class _Run:
    """One network on one device, and what happened to it on the way."""

    spec: ModelSpec
    network: torch.nn.Module
    device: torch.device
    precision: torch.dtype
    settings: SegmentSettings
    batch_size: int
    findings: list[Finding] = field(default_factory=list)
    across: AcrossSlices | None = None
    waiting: dict[int, tuple[torch.Tensor, Box]] = field(default_factory=dict)
    """What the network was shown of slices whose average is not known yet."""

    @classmethod
    def prepare(cls, model: Model, device: str, settings: SegmentSettings) -> _Run:
        target = resolve_device(device)
        if target.type == "cpu":
            keep_freed_memory()
        precision = resolve_precision(settings.precision, target)
        network = model.network(target)
        return cls(model.spec, network, target, precision, settings, settings.batch_size)

    def over(
        self, view: Volume, uncertainty: np.ndarray | None
    ) -> Generator[Progress, None, tuple[np.ndarray, Evidence]]:
        """Segment a volume in the standard view.

        Returns
        -------
        (z, y, x) uint8 labels, and what the network gave away about them; ``uncertainty`` is filled beside
        """
        total = view.geometry.shape[0]
        labels = np.empty(view.geometry.shape, np.uint8)
        evidence = Evidence.empty(total, self.spec.classes)
        again = looked_at(total, each=view.is_frames) & self.settings.look_again
        if self.spec.smooth_mm and not view.is_frames:
            self.across = AcrossSlices(slice_positions(view.geometry), self.spec.smooth_mm)
        done = 0
        while done < total:
            part = slice(done, min(done + self.batch_size, total))
            doubt = None if uncertainty is None else uncertainty[part]
            try:
                self._batch(view.array[part], part, labels, evidence[part], again[part], doubt)
            except RuntimeError as error:
                self._halve(error)
                continue
            done = part.stop
            yield Progress(done, total, f"segmenting {done} of {total}")
        for plane, pixels in zip(labels, evidence.pixels, strict=True):
            pixels[:] = counts_of(plane, len(pixels))
        return labels, evidence

    def _halve(self, error: RuntimeError) -> None:
        """Go on with half the batch when memory ran out; anything else is not ours to handle."""
        if not is_out_of_memory(error):
            raise error
        if self.batch_size == 1:
            raise DeviceError(
                f"The memory of {self.device} is too small for a single slice. Close other programs or choose device 'cpu'."
            ) from error
        self.batch_size //= 2
        self.findings = [finding for finding in self.findings if finding.code != "out-of-memory"]
        message = f"Memory of {self.device} ran out; went on with {self.batch_size} slices at once."
        self.findings.append(Finding("out-of-memory", message))
        if self.device.type == "cuda":
            import torch

            torch.cuda.empty_cache()

    def _batch(
        self,
        voxels: Any,
        part: slice,
        labels: np.ndarray,
        evidence: Evidence,
        again: np.ndarray,
        doubt: np.ndarray | None,
    ) -> None:
        """Fill evidence and ``doubt`` of some slices, those in ``again`` looked at again, and ``labels`` of the stack."""
        import torch

        from .preprocess import boxes_of, map_from_network, to_network

        with torch.inference_mode():
            slices = _tensor(voxels).to(self.device)
            boxes, shape = boxes_of(slices, self.spec.preprocessing), (slices.shape[1], slices.shape[2])
            images = to_network(slices, boxes, self.spec.preprocessing).to(memory_format=torch.channels_last)
            scores = self._scores(images)
            self._label(scores, images, boxes, part, labels)
            evidence.sums[:] = sums_of(scores).cpu().numpy()
            if doubt is not None:
                doubt[:] = map_from_network(doubt_of(scores), boxes, shape, self.spec.preprocessing).cpu().numpy()
            if again.any():
                order = mirror_order(self.spec.names)
                found = agreement_of(self._in_batches, images[again], scores[again], order)
                evidence.agreement[again] = found.cpu().numpy()

    def _label(
        self, scores: torch.Tensor, images: torch.Tensor, boxes: Sequence[Box], part: slice, labels: np.ndarray
    ) -> None:
        """Write the labels of these slices, or of those whose neighbours are all known by now."""
        from .preprocess import best_class, chances_from_network, from_network
        from .random_walk import follow_edges

        steps, shape = self.spec.preprocessing, (labels.shape[1], labels.shape[2])
        if self.across is None:
            if self.spec.follow_edges:
                scores = follow_edges(scores.softmax(1), images).log()
            labels[part] = from_network(scores, boxes, shape, steps).cpu().numpy()
            return
        for z, score, image, box in zip(range(part.start, part.stop), scores, images, boxes, strict=True):
            self.across.add(z, chances_from_network(score, box, shape, steps))
            self.waiting[z] = image, box
        for z, chances in self.across.finished():
            labels[z] = best_class(self._followed(chances, *self.waiting[z])).cpu().numpy()
            del self.waiting[z]  # not before: memory may have run out, and the slice comes again

    def _followed(self, chances: torch.Tensor, image: torch.Tensor, box: Box) -> torch.Tensor:
        """(classes, y, x) chances of a slice, spread up to the edges that the network is shown, if the model does that."""
        from .preprocess import chances_from_network, chances_to_network
        from .random_walk import follow_edges

        if not self.spec.follow_edges:
            return chances
        seen = chances_to_network(chances, box, self.spec.preprocessing)
        spread = follow_edges(seen[None], image[None])[0]
        return chances_from_network(spread.log(), box, (chances.shape[1], chances.shape[2]), self.spec.preprocessing)

    def _scores(self, images: torch.Tensor) -> torch.Tensor:
        """(n, classes, rows, columns) float32; with ``mirror`` the mean over the image and its mirror image."""
        scores = self._forward(images)
        if not (self.settings.mirror or self.spec.mirror):
            return scores
        return (scores + self._forward(images.flip(-1)).flip(-1)[:, mirror_order(self.spec.names)]) / 2

    def _forward(self, images: torch.Tensor) -> torch.Tensor:
        import torch

        reduced = self.precision != torch.float32
        with torch.autocast(self.device.type, dtype=self.precision, enabled=reduced):
            scores: torch.Tensor = self.network(images).float()
        return scores

    def _in_batches(self, images: torch.Tensor) -> torch.Tensor:
        """Scores of images, no more of them at once than memory has been found to hold."""
        import torch

        return torch.cat([self._forward(part) for part in torch.split(images, self.batch_size)])

    def record(self) -> dict[str, Any]:
        """What made the labels: enough to make them again."""
        return {
            "model": self.spec.name,
            "version": self.spec.version,
            "device": str(self.device),
            "precision": str(self.precision).removeprefix("torch."),
            "settings": dataclasses.asdict(self.settings),
        }


def mirror_order(names: Mapping[int, str]) -> list[int]:
    """Which class each class becomes in a mirrored image: "right …" and "left …" change places."""
    labels = {plain_name(name): label for label, name in names.items()}
    swapped = {"right": "left", "left": "right"}
    order = list(range(max(names, default=0) + 1))
    for label, name in names.items():
        side, _, rest = plain_name(name).partition(" ")
        order[label] = labels.get(f"{swapped.get(side, side)} {rest}", label)
    return order


def _tensor(voxels: Any) -> torch.Tensor:
    """A tensor of any image array; kinds that torch computes poorly with become float32, NaN becomes the lowest value."""
    import torch

    array = np.asarray(voxels)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        array = np.nan_to_num(array, nan=float(np.nanmin(array)) if np.isfinite(array).any() else 0.0)
    if array.dtype not in (np.uint8, np.int16, np.float32):
        array = array.astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(array))
