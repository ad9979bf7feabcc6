"""What is learned from: images and labels in turn, or a folder of saved work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import LungSegError, ReadError, TrainingDataError
from ..findings import Finding
from ..training.rounds import PaintSettings
from .series import only, read_picked

if TYPE_CHECKING:
    from ..training.painted import Painted
    from ..training.painted_pairs import Complete
    from ..training.work import WorkItem
    from ..volume import LabelMap, Modality, Volume

_EACH = "Give {flag} once for each image, in the order of the images, or not at all."


@dataclass(frozen=True)
class Options:
    """What was typed, see `napari_lungseg.cli.painting.train_painted`."""

    start_from: str | None = None
    background: int | None = None
    complete: Sequence[str] | None = None
    edited_from: Sequence[Path] | None = None
    names: Sequence[str] | None = None
    modality: Modality | None = None
    series: str | None = None


@dataclass(frozen=True)
class Inputs:
    """What is learned from, and how.

    Parameters
    ----------
    painted : images and what was painted on them
    start : name or path of a model, or of a recipe
    settings : of the work folder, or the usual ones
    findings : of the readers, and of what is not as it may be meant
    """

    painted: list[Painted]
    start: str
    settings: PaintSettings
    findings: list[Finding]


def gather(paths: Sequence[Path], options: Options) -> Inputs:
    """Read all that was named.

    Raises
    ------
    LungSegError
        When paths or options do not go together, or a file cannot be read.
    """
    from ..training.painted_pairs import bundled_start, renamed, unnamed
    from ..training.work_record import RECORD

    if (paths[0] / RECORD).is_file():
        painted, start, settings, findings = _of_work(paths[0], paths[1:], options)
    else:
        painted, findings = _of_pairs(paths, options)
        start, settings = "", PaintSettings()
    painted = [renamed(item, names_in(options.names or ())) for item in painted]
    start = options.start_from or start or bundled_start(painted)
    findings += unnamed(painted, _known_to(start))
    return Inputs(painted, start, settings, list(dict.fromkeys(findings)))  # what holds for several images is told once


def names_in(texts: Sequence[str]) -> dict[int, str]:
    """Label → name, of ``LABEL=NAME``.

    Raises
    ------
    LungSegError
        For anything else.
    """
    names: dict[int, str] = {}
    for text in texts:
        label, _, name = (part.strip() for part in text.partition("="))
        if not label.isdecimal() or not name:
            raise LungSegError(f"--name is {text!r}, but must be LABEL=NAME, such as --name '3=heart'.")
        names[int(label)] = name
    return names


def complete_in(text: str) -> Complete:
    """Numbers of slices, of ``3,7,12``, ``all`` or ``none``.

    Raises
    ------
    LungSegError
        For anything else.
    """
    parts = [part.strip() for part in text.split(",")]
    if text.strip() == "all":
        return "all"
    if text.strip() == "none":
        return ()
    if not all(part.isdecimal() for part in parts):
        raise LungSegError(f"--complete is {text!r}, but must be numbers of slices such as 3,7,12; or all, or none.")
    return tuple(int(part) for part in parts)


def _of_pairs(paths: Sequence[Path], options: Options) -> tuple[list[Painted], list[Finding]]:
    from ..training.painted import BACKGROUND
    from ..training.painted_pairs import painted_pair
    from ..training.reading import read_mask

    if len(paths) % 2:
        raise TrainingDataError(
            f"{len(paths)} path{'s' * (len(paths) > 1)} cannot be paired: name each image and then its labels, or a folder "
            "that Save work made."
        )
    images, labels = paths[::2], paths[1::2]
    complete, untouched = _complete_of_each(options, len(images)), _untouched_of_each(options, len(images))
    painted, findings = [], []
    for number, (image, drawn) in enumerate(zip(images, labels, strict=True)):
        volume, strokes = _image(image, options), read_mask(drawn)
        original = untouched[number]
        pair = painted_pair(
            volume,
            strokes,
            background=BACKGROUND if options.background is None else options.background,
            edited_from=None if original is None else read_mask(original),
            complete=complete[number],
        )
        painted.append(pair)
        findings += [*volume.findings, *_worth_telling(strokes)]
    return painted, findings


def _complete_of_each(options: Options, count: int) -> Sequence[Complete]:
    given = [complete_in(text) for text in options.complete or ()]
    if not given or given == ["all"]:
        return (given or [()]) * count
    if len(given) != count:
        raise LungSegError(f"--complete is given {len(given)} times for {count} images. {_EACH.format(flag='it')}")
    return given


def _untouched_of_each(options: Options, count: int) -> Sequence[Path | None]:
    given = options.edited_from or ()
    if given and len(given) != count:
        raise LungSegError(f"--edited-from is given {len(given)} times for {count} images. {_EACH.format(flag='it')}")
    return given or [None] * count


def _images_in(path: Path, options: Options) -> list[Volume]:
    from ..volume import Volume

    volumes = [
        item for item in read_picked(path, options.series, modality=options.modality) if isinstance(item, Volume)
    ]
    if not volumes:
        raise ReadError(f"{path.name} is a label map, not an image; name each image first and then its labels.")
    return volumes


def _image(path: Path, options: Options) -> Volume:
    return only(_images_in(path, options), path.name)


def _worth_telling(labels: LabelMap) -> list[Finding]:
    return [finding for finding in labels.findings if finding.code != "labels-inferred"]  # they were asked for


def _known_to(start: str) -> Mapping[int, str]:
    """Names of what a model labels; none of a recipe.

    Raises
    ------
    LungSegError
        When there is no such model, or its weights are not here.
    """
    from ..models.catalog import load_model
    from ..training.recipe import recipe_files
    from .models import make_ready

    if start in recipe_files() or start.endswith(".toml"):
        return {}
    make_ready(start, yes=False)
    return load_model(start).spec.names


# A folder of saved work


def _of_work(
    folder: Path, images: Sequence[Path], options: Options
) -> tuple[list[Painted], str, PaintSettings, list[Finding]]:
    from ..training.work import open_work

    for flag in ("background", "complete", "edited_from"):
        if getattr(options, flag) is not None:
            raise LungSegError(
                f"{folder} says itself what is background and complete; leave out --{flag.replace('_', '-')}."
            )
    work = open_work(folder)
    if images and len(images) != len(work.items):
        raise TrainingDataError(
            f"{len(images)} images are named after {folder.name}, but it holds what was painted on {len(work.items)}: "
            f"{', '.join(item.image_name for item in work.items)}. Name one for each, in this order, or none."
        )
    painted, findings = [], list(work.findings)
    for number, item in enumerate(work.items):
        volume, told = _image_of(item, images[number] if images else None, options)
        painted.append(item.painted(volume))
        findings += told
    return painted, work.start, work.settings, findings


def _image_of(item: WorkItem, moved_to: Path | None, options: Options) -> tuple[Volume, list[Finding]]:
    """The image that was painted on, by its content where its file holds several."""
    from ..training.work import check_image, image_hash

    path = moved_to or item.image_path
    if path is None or not path.exists():
        raise ReadError(
            f"The image of {item.image_name} is not where it was when the work was saved. Name the images after the folder, "
            "in the order in which they were painted on."
        )
    volumes = _images_in(path, options)
    same = [volume for volume in volumes if image_hash(volume) == item.image_hash]
    if same:
        return same[0], list(same[0].findings)
    volume = only(volumes, path.name)
    return volume, [*volume.findings, *check_image(item, volume)]
