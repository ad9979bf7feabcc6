"""Layouts of data sets without a fixed publisher: a split file, or folders of images and of masks."""

from __future__ import annotations

from pathlib import Path

from ..findings import Finding
from .cases import Case, Found, LayoutError, image_files, pair_up, without
from .splits import read_splits

_IMAGE_FOLDERS = ("images", "image", "imgs", "img")
_MASK_FOLDERS = ("masks", "mask", "labels", "label", "segmentations", "segs", "seg")
_MASK_WORDS = r"[_-](mask|masks|segmentation|seg|label|labels|lm)$|^(mask|seg|label)[_-]"
_IMAGE_WORDS = r"[_-](image|img|ct|xray|cxr)$|^(image|img)[_-]"


def find_split_csv(path: Path) -> Found:
    """Cases that a split file lists; it says the patients and the parts too."""
    table = path / "split.csv" if path.is_dir() else path
    if not table.is_file() or table.suffix.lower() != ".csv":
        raise LayoutError("a file split.csv with columns image, mask, split, patient")
    cases, problems = [], []
    for case in read_splits(table):
        missing = [path.name for path in (case.image, *case.masks) if not path.exists()]
        if missing:
            problems.append(Finding("missing-file", f"{case.name}: there is no {', '.join(missing)}; left out."))
        else:
            cases.append(case)
    return Found(tuple(cases), tuple(problems))


def find_folders(path: Path) -> Found:
    """Images in one folder and masks in another, of the same stem or with a word for what they are."""
    images, masks = _either(path, _IMAGE_FOLDERS), _either(path, _MASK_FOLDERS)
    if images is None or masks is None:
        raise LayoutError("folders images and masks with files of the same stem, or masks ending in _mask or _seg")
    cases, problems = pair_up(
        image_files(images), [image_files(masks)], image_key=without(_IMAGE_WORDS), mask_key=without(_MASK_WORDS)
    )
    return Found(cases, (*problems, *_about_patients(cases)))


def _either(path: Path, names: tuple[str, ...]) -> Path | None:
    """The first subfolder of one of these names, in any case of letters."""
    inside = {entry.name.lower(): entry for entry in path.iterdir() if entry.is_dir()} if path.is_dir() else {}
    return next((inside[name] for name in names if name in inside), None)


def _about_patients(cases: tuple[Case, ...]) -> tuple[Finding, ...]:
    if not cases:
        return ()
    told = (
        "The files do not say who is shown: each image counts as a patient of its own. Name the patients by a pattern."
    )
    return (Finding("patients-unknown", told),)
