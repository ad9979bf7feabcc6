"""Small data sets of phantoms, laid out as each layout has it, with what goes wrong in real ones."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from napari_lungseg.io import write
from napari_lungseg.phantom import thorax_ct, thorax_xray
from napari_lungseg.volume import LabelMap, Reorientation, Volume

SIZE = (44, 60)  # not square: a transposition shows
CT_SIZE = (5, 40, 52)


@dataclass(frozen=True)
class Made:
    """What a maker put into a folder.

    Parameters
    ----------
    truth : name of a usable case → its labels (z, y, x), as the data set must give them
    patients : name → patient
    orphans : names of the files without a partner
    wrong : name of the case whose mask has another size, or ""
    """

    truth: dict[str, np.ndarray]
    patients: dict[str, str]
    orphans: tuple[str, ...] = ()
    wrong: str = ""


@cache
def film(seed: int, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """(rows, columns) uint8 radiograph and its labels."""
    volume, labels = thorax_xray(size, seed=seed)
    return (np.asarray(volume.array[0]) // 16).astype(np.uint8), np.asarray(labels.array[0])


@cache
def scan(shape: tuple[int, int, int], seed: int) -> tuple[Volume, LabelMap]:
    return thorax_ct(shape, seed=seed)


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def binary(labels: np.ndarray) -> np.ndarray:
    return np.where(labels > 0, 255, 0).astype(np.uint8)


def truth_of(labels: np.ndarray, merged: bool) -> np.ndarray:
    return (labels > 0).astype(np.uint8)[None] if merged else labels.astype(np.uint8)[None]


def make_split_csv(folder: Path) -> Made:
    rows, truth = [], {}
    for number, part in enumerate(("train", "train", "val", "test", "train")):
        image, labels = film(number)
        save(folder / f"images/{number}.png", image)
        save(folder / f"masks/{number}.png", labels if number < 4 else labels[:30])
        rows.append((f"images/{number}.png", f"masks/{number}.png", part, f"p{number}", "1.5"))
        truth[str(number)] = truth_of(labels, merged=False)
    rows.append(("images/lost.png", "masks/0.png", "train", "p9", "1"))
    with (folder / "split.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "mask", "split", "patient", "aspect"), *rows])
    truth.pop("4")
    return Made(truth, {str(number): f"p{number}" for number in range(5)}, ("lost",), "4")


def make_montgomery(folder: Path) -> Made:
    base, truth = folder / "MontgomerySet", {}
    names = ["MCUCXR_0001_0", "MCUCXR_0113_1", "MCUCXR_0117_1", "MCUCXR_0009_0"]
    for number, name in enumerate(names):
        image, labels = film(number)
        save(base / f"CXR_png/{name}.png", image)
        cut = slice(None) if number < 3 else slice(30)
        save(base / f"ManualMask/rightMask/{name}.png", np.where(labels == 1, 255, 0).astype(np.uint8)[cut])
        save(base / f"ManualMask/leftMask/{name}.png", np.where(labels == 2, 255, 0).astype(np.uint8)[cut])
        truth[name] = truth_of(labels, merged=False)
    save(base / "CXR_png/MCUCXR_0300_0.png", film(8)[0])
    save(base / "ManualMask/leftMask/MCUCXR_0300_0.png", binary(film(8)[1]))
    save(base / "ManualMask/leftMask/MCUCXR_0301_0.png", binary(film(9)[1]))
    truth.pop(names[3])
    patients = {name: name[:11] for name in names} | {"MCUCXR_0117_1": "MCUCXR_0113"}
    return Made(truth, patients, ("MCUCXR_0300_0", "MCUCXR_0301_0"), names[3])


def make_both_lungs(folder: Path, images: str, masks: str, names: dict[str, str], lost: str) -> Made:
    """One mask of both lungs each; the last case's is too small."""
    truth = {}
    for number, (name, mask) in enumerate(names.items()):
        image, labels = film(number)
        save(folder / images / f"{name}.png", image)
        save(folder / masks / f"{mask}.png", binary(labels)[: 44 if number < len(names) - 1 else 30])
        truth[name] = truth_of(labels, merged=True)
    wrong = list(names)[-1]
    truth.pop(wrong)
    save(folder / images / f"{lost}.png", film(8)[0])
    save(folder / masks / f"{lost[:-1]}9_mask.png", binary(film(9)[1]))
    return Made(truth, {name: name[:11] for name in names}, (lost, f"{lost[:-1]}9_mask"), wrong)


def make_shenzhen(folder: Path) -> Made:
    names = {f"CHNCXR_000{number}_0": f"CHNCXR_000{number}_0_mask" for number in range(1, 5)}
    return make_both_lungs(folder, "ChinaSet_AllFiles/CXR_png", "mask/mask", names, "CHNCXR_0300_1")


def make_merged(folder: Path) -> Made:
    names = {"MCUCXR_0001_0": "MCUCXR_0001_0", "CHNCXR_0002_1": "CHNCXR_0002_1_mask", "MCUCXR_0003_1": "MCUCXR_0003_1"}
    names["CHNCXR_0004_0"] = "CHNCXR_0004_0_mask"
    base = "data/Lung Segmentation"
    return make_both_lungs(folder, f"{base}/CXR_png", f"{base}/masks", names, "CHNCXR_0300_1")


def make_jsrt(folder: Path) -> Made:
    """Exported films, with masks half their size in two folds, as SCR has them."""
    truth = {}
    for number in range(1, 5):
        name = f"JPCLN00{number}"
        image, labels = film(number)
        image, full = image.repeat(2, 0).repeat(2, 1), labels.repeat(2, 0).repeat(2, 1)
        save(folder / f"All247images/{name}.png", image)
        masks = folder / f"scratch/fold{1 + number % 2}/masks"
        small = labels if number < 4 else labels[:30]
        for side, label in (("right lung", 1), ("left lung", 2)):
            save(masks / side / f"{name}.gif", np.where(small == label, 255, 0).astype(np.uint8))
        save(masks / "heart" / f"{name}.gif", binary(small == 0))
        truth[name] = truth_of(full, merged=False)
    save(folder / "All247images/JPCNN001.png", film(8)[0])
    save(folder / "scratch/fold1/masks/left lung/JPCNN002.gif", binary(film(8)[1]))
    truth.pop("JPCLN004")
    return Made(truth, {name: name for name in truth}, ("JPCNN001", "JPCNN002"), "JPCLN004")


def make_isic(folder: Path) -> Made:
    rng, truth = np.random.default_rng(3), {}
    for number in range(4):
        lesion = np.zeros(SIZE, np.uint8)
        lesion[10 + number : 25, 20:50] = 255
        skin = np.stack([np.where(lesion, 90, 210), np.where(lesion, 50, 150), np.where(lesion, 40, 120)], -1)
        noisy = (skin + rng.integers(-9, 9, skin.shape)).astype(np.uint8)
        name = f"ISIC_000000{number}"
        save(folder / f"Training_Data/{name}.jpg", noisy)
        save(folder / f"Training_GroundTruth/{name}_segmentation.png", lesion if number < 3 else lesion[:30])
        save(folder / f"Training_Data/{name}_superpixels.png", noisy)
        truth[name] = (lesion > 0).astype(np.uint8)[None]
    save(folder / "Training_Data/ISIC_0000100.jpg", noisy)
    save(folder / "Training_GroundTruth/ISIC_0000101_segmentation.png", lesion)
    truth.pop("ISIC_0000003")
    return Made(truth, {name: name for name in truth}, ("ISIC_0000100", "ISIC_0000101"), "ISIC_0000003")


def make_finding_lungs(folder: Path) -> Made:
    volume, labels = scan((12, 64, 76), 2)
    truth, patients = {}, {}
    for number, level in enumerate((4, 5, 6, 7)):
        name = f"ID_000{number // 2}_Z_00{level:02d}"
        mask = binary(labels.array[level])
        for kind, array in (("images", volume.array[level] + 1024), ("masks", mask if number < 3 else mask[:30])):
            path = folder / f"2d_{kind}/{name}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, array.astype(np.uint16 if kind == "images" else np.uint8))
        truth[name], patients[name] = truth_of(labels.array[level], merged=True), name[:7]
    (folder / "2d_images/ID_0007_Z_0001.tif").write_bytes((folder / "2d_images/ID_0000_Z_0004.tif").read_bytes())
    (folder / "2d_masks/ID_0008_Z_0001.tif").write_bytes((folder / "2d_masks/ID_0000_Z_0004.tif").read_bytes())
    wrong = list(truth)[-1]
    truth.pop(wrong)
    return Made(truth, patients, ("ID_0007_Z_0001", "ID_0008_Z_0001"), wrong)


def make_volumes(folder: Path, image: str, mask: str) -> Made:
    """Volumes, and masks that are stored turned over; the last one's is cut short."""
    truth = {}
    for number in range(3):
        volume, labels = scan(CT_SIZE, number)
        name = f"case_{number}"
        write(volume, folder / image.format(name))
        turned = turned_over(labels)
        write(turned if number < 2 else cut_short(labels), folder / mask.format(name))
        truth[name] = np.asarray(labels.array)
    write(volume, folder / image.format("case_8"))
    write(labels, folder / mask.format("case_9"))
    truth.pop("case_2")
    for sidecar in folder.rglob("*.json"):
        sidecar.unlink()
    lost = [Path(pattern.format(name)).name for pattern, name in ((image, "case_8"), (mask, "case_9"))]
    return Made(truth, {name: name for name in truth}, tuple(lost), "case_2")


def turned_over(labels: LabelMap) -> LabelMap:
    """The same labels at the same places, stored feet last and from left to right."""
    turn = Reorientation((0, 1, 2), (True, False, True), (0, 1, 2), (1, 1, 1))
    array = np.ascontiguousarray(turn.apply(labels.array))
    return dataclasses.replace(labels, array=array, geometry=labels.geometry.reoriented(turn), names={}, colours={})


def cut_short(labels: LabelMap) -> LabelMap:
    """The same labels without their last slice."""
    geometry = dataclasses.replace(labels.geometry, shape=(4, *labels.geometry.shape[1:]))
    return dataclasses.replace(labels, array=labels.array[:4], geometry=geometry, names={}, colours={})


def make_images_tr(folder: Path) -> Made:
    made = make_volumes(folder, "imagesTr/{}_0000.nii.gz", "labelsTr/{}.nii.gz")
    facts = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "right lung": 1, "left lung": 2}}
    (folder / "dataset.json").write_text(json.dumps(facts))
    return made


def make_ct_seg(folder: Path) -> Made:
    return make_volumes(folder, "{0}/{0}_ct.nii.gz", "{0}/{0}_seg.nrrd")


def make_folders(folder: Path) -> Made:
    names = {f"MCUCXR_010{number}": f"MCUCXR_010{number}_mask" for number in range(4)}
    return make_both_lungs(folder, "images", "masks", names, "MCUCXR_0200")


def make_unlabelled(folder: Path) -> Made:
    for number in range(3):
        save(folder / f"some/{number}.png", film(number)[0])
    return Made({}, {})


MAKERS: dict[str, Callable[[Path], Made]] = {
    "split-csv": make_split_csv,
    "montgomery": make_montgomery,
    "shenzhen": make_shenzhen,
    "merged": make_merged,
    "jsrt": make_jsrt,
    "isic": make_isic,
    "finding-lungs": make_finding_lungs,
    "images-tr": make_images_tr,
    "ct-seg": make_ct_seg,
    "folders": make_folders,
    "unlabelled": make_unlabelled,
}
