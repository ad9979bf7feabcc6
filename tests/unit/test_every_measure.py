"""Every measurement has an answer known beforehand on a phantom, and another implementation's on real images.

A measurement that is added to the table fails here until both are said.
"""

from __future__ import annotations

import csv
import dataclasses
import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage, stats

from napari_lungseg.analysis.measure import MEASURES, measure
from napari_lungseg.io import read
from napari_lungseg.volume import FRONTAL, LUNG_NAMES, Geometry, LabelMap, Volume

# The right lung's HU, slice by slice from the feet; three slices are a third.
LAYERS = (-1000, -955, -920, -870, -850, -700, -550, -300, -50)
SPACING = (3.0, 0.7, 1.3)
VOXEL_ML = math.prod(SPACING) / 1000
MEAN = statistics.fmean(LAYERS)
SD = statistics.pstdev(LAYERS)


def moment(order: int) -> float:
    return statistics.fmean([((value - MEAN) / SD) ** order for value in LAYERS])


# Of 24 voxels a slice; what says left is in the row of both lungs.
KNOWN_CT: dict[str, float | None] = {
    "voxels": 9 * 24, "volume": 9 * 24 * VOXEL_ML, "mass": 24 * VOXEL_ML * 2.805, "right_left_ratio": 2.0,
    "mean": MEAN, "median": -850, "sd": SD, "skewness": moment(3), "kurtosis": moment(4) - 3,
    "perc10": -1000, "perc15": -955,
    "laa950": 200 / 9, "laa910": 300 / 9, "laa856": 400 / 9, "haa": 200 / 9,
    "hyperaerated": 300 / 9, "well_aerated": 400 / 9, "poorly_aerated": 100 / 9, "non_aerated": 100 / 9,
    "mean_lower": -2875 / 3, "mean_middle": -2420 / 3, "mean_upper": -300,
    "laa950_lower": 200 / 3, "laa950_middle": 0, "laa950_upper": 0,
    "haa_lower": 0, "haa_middle": 0, "haa_upper": 200 / 3,
    # Every row holds all slices, so thirds from front to back are like the whole.
    **dict.fromkeys(("mean_ventral", "mean_central", "mean_dorsal"), MEAN),
    **dict.fromkeys(("laa950_ventral", "laa950_central", "laa950_dorsal"), 200 / 9),
    **dict.fromkeys(("haa_ventral", "haa_central", "haa_dorsal"), 200 / 9),
}  # fmt: skip
# A right lung of 12 × 4 pixels of 0.5 × 2 mm, a left one of 9 × 6 and a heart of 5 × 7; 10 grey values more each row down.
KNOWN_XRAY: dict[str, float] = {
    "voxels": 48, "area": 48, "width": 8, "height": 6,
    "right_left_ratio": 48 / 54, "symmetry": 72 / 102, "cardiothoracic_ratio": 7 / 20,
    "mean": 85, "median": 85, "sd": 10 * math.sqrt((12**2 - 1) / 12),
    # A discrete uniform distribution: no skew, and this excess.
    "skewness": 0, "kurtosis": -6 / 5 * (12**2 + 1) / (12**2 - 1),
    # The box around all labels has rows 3 to 14 in equal parts: its 1st and 99th percentile are its first and last row.
    "opacity_upper": 1.5 / 11, "opacity_middle": 5.5 / 11, "opacity_lower": 9.5 / 11,
}  # fmt: skip
OF_BOTH = ("right_left_ratio", "symmetry", "cardiothoracic_ratio")


def ct_phantom() -> tuple[Volume, LabelMap]:
    labels = np.zeros((13, 9, 12), np.uint8)
    labels[2:11, 1:7, 2:6], labels[2:11, 1:7, 8:10] = 1, 2
    array = np.full(labels.shape, 40, np.int16)
    array[2:11] = np.asarray(LAYERS)[:, None, None]
    grid = Geometry(labels.shape, SPACING, (-40.0, 7.0, 90.0))
    return Volume(array, grid), LabelMap(labels, grid, LUNG_NAMES)


def xray_phantom() -> tuple[Volume, LabelMap]:
    labels = np.zeros((1, 20, 26), np.uint8)
    labels[0, 3:15, 2:6], labels[0, 3:12, 16:22], labels[0, 9:14, 8:15] = 1, 2, 3
    grid = Geometry(labels.shape, (1.0, 0.5, 2.0), direction=FRONTAL)
    rows = np.broadcast_to(np.arange(20)[:, None] * 10, labels.shape).astype(np.uint16)
    return Volume(rows.copy(), grid, "xray", "a.u."), LabelMap(labels, grid, {**LUNG_NAMES, 3: "heart"})


@pytest.mark.parametrize(
    ("phantom", "known"), [(ct_phantom, KNOWN_CT), (xray_phantom, KNOWN_XRAY)], ids=["CT", "X-ray"]
)
def test_phantoms_have_their_known_answers(phantom: Any, known: dict[str, float]) -> None:
    table = measure(*phantom())
    rows = {row["name"]: row for row in table}
    found = {name: rows["both" if name in OF_BOTH else "right lung"][name] for name in known}
    assert found == pytest.approx(known, rel=1e-9, abs=1e-9)
    assert set(table.columns) == {"label", "name", *known}


def test_every_measure_is_checked() -> None:
    assert set(KNOWN_CT) | set(KNOWN_XRAY) == set(MEASURES)


def share(hit: np.ndarray) -> float:
    return 100 * np.count_nonzero(hit) / hit.size


def third_means(quantity: np.ndarray, place: np.ndarray) -> list[float]:
    """Voxels sorted along an axis and cut at a third of their number; a slice at the cut is shared out evenly."""
    _, inverse, counts = np.unique(place, return_inverse=True, return_counts=True)
    means = np.bincount(inverse, weights=quantity) / counts
    return np.repeat(means, 3 * counts).reshape(3, -1).mean(axis=1).tolist()


def agree(row: dict[str, Any], said: dict[str, Any]) -> None:
    """To a millionth; what is not defined is None on both sides."""
    known = {name for name, value in said.items() if value is not None}
    assert {name for name in said if row[name] is not None} == known
    assert {name: row[name] for name in known} == pytest.approx({name: said[name] for name in known}, rel=1e-6)


def others_say_of_ct(volume: Volume, labels: LabelMap, row: dict[str, Any]) -> dict[str, Any]:
    """numpy, scipy and scipy.ndimage on the voxels themselves; head and back are axes 0 and 1 of this scan, by its signs."""
    mask = labels.array == row["label"] if row["label"] else labels.array > 0
    z, y, _ = np.nonzero(mask)
    hu = volume.array[mask].astype(float)
    ml = abs(np.linalg.det(volume.geometry.affine[:3, :3])) / 1000
    right, left = (np.count_nonzero(labels.array == label) for label in (1, 2))
    said = {
        "voxels": int(ndimage.sum_labels(mask, mask, 1)), "volume": hu.size * ml,
        "mass": np.clip(1 + hu / 1000, 0, None).sum() * ml,
        "right_left_ratio": None if row["label"] else right / left,
        "mean": ndimage.mean(volume.array, mask), "median": ndimage.median(volume.array, mask),
        "sd": ndimage.standard_deviation(volume.array, mask),
        "skewness": stats.skew(hu), "kurtosis": stats.kurtosis(hu),
        "perc10": np.percentile(hu, 10), "perc15": np.percentile(hu, 15),
        "laa950": share(hu < -950), "laa910": share(hu < -910), "laa856": share(hu < -856),
        "haa": share((hu >= -600) & (hu <= -250)), "hyperaerated": share(hu < -900),
        "well_aerated": share((hu >= -900) & (hu < -500)), "poorly_aerated": share((hu >= -500) & (hu < -100)),
        "non_aerated": share(hu >= -100),
    }  # fmt: skip
    head, back = (np.sign(volume.geometry.direction[axis][axis]) for axis in (0, 1))
    quantities = {"mean": hu, "laa950": 100.0 * (hu < -950), "haa": 100.0 * ((hu >= -600) & (hu <= -250))}
    for place, names in ((z * head, ("lower", "middle", "upper")), (y * back, ("ventral", "central", "dorsal"))):
        for stem, quantity in quantities.items():
            said |= {f"{stem}_{name}": value for name, value in zip(names, third_means(quantity, place), strict=True)}
    return said


def test_real_ct_is_measured_as_others_do(test_data: Path) -> None:
    (volume,) = (item.load() for item in read(test_data / "ct/dicom/LUNG1-001") if isinstance(item, Volume))
    (found,) = read(test_data / "ct/masks/LUNG1-001.nii.gz", labels=True)
    labels = dataclasses.replace(found, names=LUNG_NAMES)
    assert np.abs(np.diag(np.asarray(volume.geometry.direction))) == pytest.approx(1)
    table = measure(volume, labels)
    for row in table:
        said = others_say_of_ct(volume, labels, row)
        agree(row, said)
        assert set(said) == set(KNOWN_CT) == set(table.columns) - {"label", "name"}


def others_say_of_xray(volume: Volume, labels: LabelMap, row: dict[str, Any]) -> dict[str, Any]:
    """scikit-image's region properties and scipy, of a picture in the usual view."""
    from skimage.measure import regionprops

    image, marks = volume.array[0].astype(float), labels.array[0]
    mask = np.isin(marks, [row["label"]] if row["label"] else [1, 2])
    (of,) = regionprops(mask.astype(np.uint8), intensity_image=image)
    top, first, bottom, last = of.bbox
    height, width = volume.geometry.spacing[1:] if volume.geometry.is_mm else (1, 1)
    grey = of.image_intensity[of.image]
    (box,) = regionprops((marks > 0).astype(np.uint8), intensity_image=image)
    dark, bright = np.percentile(box.image_intensity, (1, 99)) if box.image.all() else _percentiles(image, box.bbox)
    said: dict[str, Any] = {
        "voxels": of.area, "area": of.area * height * width,
        "width": (last - first) * width, "height": (bottom - top) * height,
        "mean": grey.mean(), "median": np.median(grey), "sd": stats.tstd(grey, ddof=0),
        "skewness": stats.skew(grey), "kurtosis": stats.kurtosis(grey), **dict.fromkeys(OF_BOTH),
    }  # fmt: skip
    edges = np.rint(np.linspace(top, bottom, 4)).astype(int)
    for name, low, high in zip(("upper", "middle", "lower"), edges, edges[1:], strict=False):
        zone = image[low:high][mask[low:high]]
        said[f"opacity_{name}"] = (zone.mean() - dark) / (bright - dark)
    if not row["label"]:
        right, left, heart = ((marks == label) for label in (1, 2, 3))
        mirrored = np.zeros_like(left)
        rows, columns = np.nonzero(left)
        mirrored[rows, first + last - 1 - columns] = True
        said["symmetry"] = 1 - float(np.count_nonzero(right ^ mirrored)) / np.count_nonzero(
            np.concatenate([right, left])
        )
        said["right_left_ratio"] = right.sum() / left.sum()
        (middle,) = regionprops(heart.astype(np.uint8))
        said["cardiothoracic_ratio"] = (middle.bbox[3] - middle.bbox[1]) / (last - first)
    return said


def _percentiles(image: np.ndarray, box: tuple[int, ...]) -> np.ndarray:
    return np.percentile(image[box[0] : box[2], box[1] : box[3]], (1, 99))


def test_real_radiographs_are_measured_as_others_do(test_data: Path) -> None:
    folder = test_data / "xray"
    with (folder / "split.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"][:3]
    for case in rows:
        (volume,) = (item.load() for item in read(folder / case["image"], modality="xray"))
        (found,) = read(folder / case["mask"], labels=True)
        array = np.array(found.array)
        _, height, width = array.shape
        # The data have no hearts: an oval in the middle stands for one.
        y, x = np.ogrid[:height, :width]
        oval = ((y - 0.6 * height) / (0.15 * height)) ** 2 + ((x - 0.53 * width) / (0.2 * width)) ** 2 < 1
        array[0][oval & (array[0] == 0)] = 3
        labels = LabelMap(array, volume.geometry, {**LUNG_NAMES, 3: "heart"})
        table = measure(volume, labels)
        for row in table:
            said = others_say_of_xray(volume, labels, row)
            agree(row, said)
            assert set(said) == set(KNOWN_XRAY) == set(table.columns) - {"label", "name"}
