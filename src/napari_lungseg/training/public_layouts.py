"""Layouts of published data sets, as their archives unpack.

On frontal X-rays the sides of separate masks are checked when they are read (`reading.put_sides_right`): copies of these
sets do not agree on whose left is meant.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from ..findings import Finding
from ..volume import LEFT_LUNG, LUNG_NAMES, RIGHT_LUNG
from .cases import Found, LayoutError, image_files, pair_up, stem_of, without
from .layouts import files_below

# The clinical readings call these the same patient at another visit ("same pt …").
_SAME_PATIENT = {
    "MCUCXR_0117": "MCUCXR_0113",
    "MCUCXR_0166": "MCUCXR_0162",
    "MCUCXR_0170": "MCUCXR_0162",
}
_JSRT = re.compile(r"^JPC[LN]N\d{3}$", re.IGNORECASE)
_JSRT_LEFT, _JSRT_RIGHT = ("left lung", "left_lung"), ("right lung", "right_lung")
_JSRT_OTHER = ("heart", "left clavicle", "right clavicle", "left_clavicle", "right_clavicle")
_MASK = without(r"_mask$")


def find_montgomery(path: Path) -> Found:
    """Montgomery County: radiographs, and a mask for each lung (Jaeger et al. 2014, doi:10.3978/j.issn.2223-4292.2014.11.20)."""
    base = _base(path, lambda folder: (folder / "CXR_png").is_dir() and (folder / "ManualMask").is_dir())
    if base is None or not all((base / "ManualMask" / side).is_dir() for side in ("leftMask", "rightMask")):
        raise LayoutError("folders CXR_png, ManualMask/leftMask and ManualMask/rightMask")
    sides = [image_files(base / "ManualMask" / side) for side in ("rightMask", "leftMask")]
    cases, problems = pair_up(
        image_files(base / "CXR_png"),
        sides,
        mask_key=_MASK,
        mask_labels=(RIGHT_LUNG, LEFT_LUNG),
        patient=_nlm_patient,
    )
    return Found(cases, problems, "xray", dict(LUNG_NAMES))


def find_shenzhen(path: Path) -> Found:
    """Shenzhen: radiographs, and one mask of both lungs for most of them, all called NAME_mask."""
    images, masks = _cxr_png(path)
    if not images or not masks or not all(stem_of(mask).endswith("_mask") for mask in masks):
        raise LayoutError("a folder CXR_png and a folder mask with files NAME_mask.png")
    return _both_lungs(images, masks)


def find_merged(path: Path) -> Found:
    """Montgomery and Shenzhen merged: one mask of both lungs, called NAME or NAME_mask after where it comes from."""
    images, masks = _cxr_png(path)
    if not images or not masks:
        raise LayoutError("folders CXR_png and masks (in Lung Segmentation) with files NAME.png and NAME_mask.png")
    return _both_lungs(images, masks)


def _both_lungs(images: list[Path], masks: list[Path]) -> Found:
    cases, problems = pair_up(images, [masks], mask_key=_MASK, patient=_nlm_patient)
    return Found(cases, problems, "xray", {1: "lungs"})


def _nlm_patient(name: str) -> str:
    """``MCUCXR_0117_1`` → the patient; the last number says whether tuberculosis was found."""
    number = re.sub(r"_[01]$", "", name)
    return _SAME_PATIENT.get(number, number)


def _cxr_png(path: Path) -> tuple[list[Path], list[Path]]:
    """Images in CXR_png, and masks in a folder mask or masks near it or beside them."""
    base = _base(path, lambda folder: (folder / "CXR_png").is_dir())
    if base is None:
        return [], []
    files = image_files(base / "CXR_png")
    masks = [file for file in files if stem_of(file).endswith("_mask")]
    for folder in _folders(path, 3):
        if folder.name.lower() in ("mask", "masks"):
            masks += image_files(folder)
    beside = set(masks)
    return [file for file in files if file not in beside], masks


def find_jsrt(path: Path) -> Found:
    """JSRT radiographs, raw or exported, with the lungs of SCR (van Ginneken et al. 2006, doi:10.1016/j.media.2005.02.002)."""
    files = [file for file in _raw_and_readable(path) if _JSRT.match(file.stem)]
    left = [file for file in files if file.parent.name.lower() in _JSRT_LEFT]
    right = [file for file in files if file.parent.name.lower() in _JSRT_RIGHT]
    masks = {*left, *right, *(file for file in files if file.parent.name.lower() in _JSRT_OTHER)}
    images = [file for file in files if file not in masks]
    if not left or not right or not images:
        raise LayoutError(
            "JPCLN001.IMG or .png … and SCR's folders left lung and right lung (in fold1/masks, fold2/masks)"
        )
    cases, problems = pair_up(images, [right, left], image_key=without(r"\.img$"), mask_labels=(RIGHT_LUNG, LEFT_LUNG))
    return Found(cases, problems, "xray", dict(LUNG_NAMES))


def _raw_and_readable(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    raw = (Path(root, name) for root, _, names in os.walk(path) for name in names if name.lower().endswith(".img"))
    return [*sorted(raw), *files_below(path)]


def find_isic(path: Path) -> Found:
    """ISIC's skin lesions: pictures in colour and masks called after them."""
    files = [file for file in files_below(path) if file.name.startswith("ISIC_")] if path.is_dir() else []
    images = [file for file in files if re.fullmatch(r"ISIC_\d+", stem_of(file))]
    masks = [file for file in files if stem_of(file).endswith("_segmentation")]
    if not images or not masks:
        raise LayoutError("pictures ISIC_*.jpg with masks ISIC_*_segmentation.png")
    cases, problems = pair_up(images, [masks], mask_key=without(r"_segmentation$"))
    return Found(cases, problems, "photo", {1: "lesion"})


def find_finding_lungs(path: Path) -> Found:
    """Slices of CT with one mask of both lungs (Kaggle's "finding lungs in CT data")."""
    base = _base(path, lambda folder: (folder / "2d_images").is_dir() and (folder / "2d_masks").is_dir())
    if base is None:
        raise LayoutError("folders 2d_images and 2d_masks with files ID_0000_Z_0142.tif")
    cases, problems = pair_up(
        image_files(base / "2d_images"),
        [image_files(base / "2d_masks")],
        mask_key=_MASK,
        patient=without(r"_Z_\d+$"),
    )
    volumes = image_files(base / "3d_images")
    told = f"{len(volumes)} files in 3d_images are the volumes that the slices come from, and are left out."
    return Found(cases, (*problems, *([Finding("other-files", told)] if volumes else [])), "ct", {1: "lungs"})


def _base(path: Path, fits: Callable[[Path], bool]) -> Path | None:
    """The folder itself, or the first within two levels of it, that fits: archives unpack into folders of folders."""
    return next(filter(fits, _folders(path, 2)), None)


def _folders(path: Path, depth: int) -> list[Path]:
    """A folder and those below it, nearest first."""
    if not path.is_dir():
        return []
    found, level = [path], [path]
    for _ in range(depth):
        level = sorted(Path(entry.path) for folder in level for entry in os.scandir(folder) if entry.is_dir())
        found += level
    return found
