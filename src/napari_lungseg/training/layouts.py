"""Layouts of data sets without a fixed publisher: a split file, volume pairs, folders of images and of masks."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import TrainingDataError
from ..findings import Finding
from ..io import suffix_of
from ..io.dicom_header import is_dicom
from ..volume import Modality
from .cases import Case, Found, LayoutError, image_files, pair_up, stem_of, without
from .splits import read_splits

_IMAGE_FOLDERS = ("images", "image", "imgs", "img")
_MASK_FOLDERS = ("masks", "mask", "labels", "label", "segmentations", "segs", "seg")
_MASK_WORDS = r"[_-](mask|masks|segmentation|seg|label|labels|lm)$|^(mask|seg|label)[_-]"
_IMAGE_WORDS = r"[_-](image|img|ct|xray|cxr)$|^(image|img)[_-]"
_CHANNEL = r"_\d{4}$"  # nnU-Net numbers the channels of a case so; a CT has one, 0000


def find_split_csv(path: Path) -> Found:
    """Cases that a split file lists; it says the patients and the parts too."""
    table = path / "split.csv" if path.is_dir() else path
    if not table.is_file() or table.suffix.lower() != ".csv":
        raise LayoutError("a file split.csv with the columns image, mask, split, patient")
    cases, problems = [], []
    for case in read_splits(table):
        missing = [path.name for path in (case.image, *case.masks) if not path.exists()]
        if missing:
            problems.append(Finding("missing-file", f"{case.name}: there is no {', '.join(missing)}; left out."))
        else:
            cases.append(case)
    return Found(tuple(cases), tuple(problems))


def find_image_tree(path: Path) -> Found:
    """nnU-Net's and the Decathlon's folders of volumes, with what their dataset.json says."""
    if not (path / "imagesTr").is_dir() or not (path / "labelsTr").is_dir():
        raise LayoutError("folders imagesTr and labelsTr with volumes of the same name (images may end in _0000)")
    images = image_files(path / "imagesTr")
    more = [image for image in images if re.search(_CHANNEL, stem_of(image)) and not stem_of(image).endswith("_0000")]
    problems = [Finding("other-channel", f"{image.name} is a further channel and is left out.") for image in more]
    cases, unpaired = pair_up(
        [image for image in images if image not in more],
        [image_files(path / "labelsTr")],
        image_key=without(_CHANNEL),
    )
    names, modality = _said_by_json(path / "dataset.json")
    return Found(cases, (*problems, *unpaired), modality, names)


def _said_by_json(path: Path) -> tuple[dict[int, str] | None, Modality | None]:
    """Label names and modality in a dataset.json of nnU-Net 1 (number: name), 2 (name: number) or the Decathlon."""
    if not path.is_file():
        return None, None
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        pairs = [(key, value) if str(key).isdigit() else (value, key) for key, value in facts["labels"].items()]
        names = {int(label): str(name) for label, name in pairs if int(label) > 0}
        channels = {str(kind).upper() for kind in (facts.get("channel_names") or facts.get("modality") or {}).values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingDataError(f"{path.name} cannot be understood ({error}); mend it or move it away.") from error
    return names, "ct" if channels == {"CT"} else None


def find_volume_pairs(path: Path) -> Found:
    """Volumes ending in _ct with their labels ending in _seg, side by side or in a folder per patient."""
    files = list(files_below(path)) if path.is_dir() else []
    images = [file for file in files if re.search(r"[_-]ct$", stem_of(file), re.IGNORECASE)]
    masks = [file for file in files if re.search(r"[_-]seg$", stem_of(file), re.IGNORECASE)]
    if not images or not masks:
        raise LayoutError("pairs of files NAME_ct and NAME_seg")
    cases, problems = pair_up(images, [masks], image_key=without(r"[_-]ct$"), mask_key=without(r"[_-]seg$"))
    return Found(cases, problems, "ct")


def find_folders(path: Path) -> Found:
    """Images in one folder and masks in another, of the same stem or with a word for what they are."""
    images, masks = _either(path, _IMAGE_FOLDERS), _either(path, _MASK_FOLDERS)
    if images is None or masks is None:
        raise LayoutError("folders images and masks with files of the same stem (masks may end in _mask or _seg)")
    # Exact stems first: where they are the same, a word such as "ct" belongs to the name.
    same = {stem_of(file) for file in image_files(images)} & {stem_of(file) for file in image_files(masks)}
    image_key, mask_key = (str, str) if same else (without(_IMAGE_WORDS), without(_MASK_WORDS))
    cases, problems = pair_up(image_files(images), [image_files(masks)], image_key=image_key, mask_key=mask_key)
    return Found(cases, (*problems, *_about_patients(cases)))


def find_unlabelled(path: Path) -> Found:
    """Every image below a folder, without masks: pictures and volumes by file, DICOM by series.

    Asked for by name only: a folder whose masks are not recognised must not pass for one without any.
    """
    if not path.is_dir():
        raise LayoutError("a folder of images")
    images: list[Path] = []
    scans: dict[Path, list[Path]] = {}
    for file in files_below(path, also=is_dicom):
        if suffix_of(file) in ("", ".dcm", ".dicom", ".ima"):
            scans.setdefault(file.parent, []).append(file)
        else:
            images.append(file)
    problems = []
    for folder, files in scans.items():
        if len(files) > 1 and len(set(map(_series_of, files))) == 1:
            images.append(folder)
            continue
        images += files
        if len(files) > 1:
            told = f"{folder.name} holds several series; its {len(files)} files count as an image each."
            problems.append(Finding("several-series", told))
    names = {image: _name_below(path, image) for image in sorted(images)}
    cases = [Case(name, name, image, ()) for image, name in names.items()]
    return Found(tuple(cases), (*problems, *_about_patients(cases)), names={})


def _name_below(path: Path, image: Path) -> str:
    """``deep/case`` for ``deep/case.nii.gz``; a series in the folder itself has the folder's name."""
    if image == path:
        return path.name
    return (image.parent / stem_of(image)).relative_to(path).as_posix()


def _series_of(path: Path) -> str:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
    except (InvalidDicomError, OSError):
        return str(path)
    return str(header.get("SeriesInstanceUID", path))


def files_below(path: Path, also: Callable[[Path], bool] = lambda _: False) -> Iterator[Path]:
    """Files below a folder whose suffix can be read, and those without one that ``also`` wants, in order; none hidden."""
    for root, folders, names in os.walk(path):
        folders[:] = sorted(folder for folder in folders if folder[0] != ".")
        for name in sorted(names):
            file = Path(root, name)
            if name[0] != "." and (suffix_of(file) or (not file.suffix and also(file))):
                yield file


def _either(path: Path, names: tuple[str, ...]) -> Path | None:
    """The first subfolder of one of these names, in any case of letters."""
    inside = {entry.name.lower(): entry for entry in path.iterdir() if entry.is_dir()} if path.is_dir() else {}
    return next((inside[name] for name in names if name in inside), None)


def _about_patients(cases: Sequence[Case]) -> tuple[Finding, ...]:
    if not cases:
        return ()
    told = "The files do not say who is shown: each image counts as a patient of its own, unless a pattern names them."
    return (Finding("patients-unknown", told),)
