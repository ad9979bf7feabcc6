"""The process that reads mutated files: a path a line in, two lines of JSON out (ours, and whether others agree)."""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk
import tifffile
from PIL import Image

from napari_lungseg.errors import ReadError
from napari_lungseg.io import read, suffix_of
from napari_lungseg.volume import LabelMap, Volume

# A patient's name in the sources; no message may tell it.
_SECRET = ("Mustermann", "4711")
# SimpleITK leaves lookup tables to whoever shows the image, and takes of a damaged rescale what can be read.
_NOT_COMPARED = ("voi-lut-applied", "not-hounsfield")
_OUT_OF_MEMORY = ("memory", "bad_alloc", "allocat")


def limit_memory(spare: int) -> None:
    """No more address space than what is used already and ``spare`` bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + spare
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _memory_mb(key: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def judge(path: Path) -> tuple[dict[str, Any], list[Volume | LabelMap]]:
    """Read a file and say what became of it."""
    Path("/proc/self/clear_refs").write_text("5")  # begin the high-water mark of memory anew
    before, start = _memory_mb("VmRSS"), time.process_time()
    items: list[Volume | LabelMap] = []
    there = set(_around(path))
    try:
        items = [item.load() if isinstance(item, Volume) else item for item in read(path)]
        verdict, told = "volume", _unclear_volumes(items)
    except ReadError as error:
        verdict, told = "refused", str(error)
        told_of_memory = any(word in told.lower() for word in _OUT_OF_MEMORY)
        verdict = "memory" if told_of_memory else "refused" if _is_clear(told) else "unclear"
    except MemoryError:
        verdict, told = "memory", traceback.format_exc()
    except Exception:  # noqa: BLE001 (whatever it is, it is a defect)
        verdict, told = "exception", " <- ".join(traceback.format_exc().splitlines()[:-9:-1])
    if verdict == "volume" and told:
        verdict = "unclear"
    if left := set(_around(path)) - there:
        verdict, told = "outside", f"{sorted(left)} was written beside the file, or left"
    taken = _memory_mb("VmHWM") - before
    seconds = time.process_time() - start
    return {"verdict": verdict, "told": told, "seconds": seconds, "megabytes": max(0.0, taken)}, items


def _around(path: Path) -> list[Path]:
    """Where a member of an archive might be put."""
    return [*path.parent.rglob("*"), *path.parent.parent.glob("*.dcm"), *Path(tempfile.gettempdir()).rglob("*")]


def _is_clear(message: str) -> bool:
    return "\n" not in message and message.endswith(".") and not any(word in message for word in _SECRET)


def _unclear_volumes(items: list[Volume | LabelMap]) -> str:
    """What is wrong with volumes that were read, or ""."""
    for item in items:
        if item.array.dtype.kind == "f" and not np.isfinite(item.array).all():
            return "voxels are not finite"
        text = " ".join(finding.message for finding in item.findings) + item.name
        if any(word in text for word in _SECRET):
            return "a finding tells of the patient"
    return "" if items else "nothing was read"


def agrees(path: Path, items: list[Volume | LabelMap]) -> bool | None:
    """Whether an independent reader gets the same voxels; None where it gets none, or another kind of image."""
    mine = np.asarray(items[0].array)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            other = _other_reader(path, mine)
    except Exception:  # noqa: BLE001 (nothing to compare with)
        return None
    if other is None or len(items) > 1 or other.squeeze().shape != mine.squeeze().shape:
        return None
    if any(finding.code in _NOT_COMPARED for finding in items[0].findings):
        return None
    if isinstance(items[0], LabelMap) and other.max() == 255:
        other = other.clip(max=mine.max())
    got, wanted = mine.squeeze().astype(float), other.squeeze().astype(float)
    if np.ptp(got + wanted) == 0:
        return None  # one of them took the greys for inverted
    same = np.isclose(got, wanted, rtol=1e-5, atol=1e-3)
    # What lies outside the scan became air, what no Hounsfield unit can be the largest, what is no number the lowest.
    meant = (got == -1000) | ((got == 32767) & (wanted > 32767)) | ~np.isfinite(wanted)
    return bool((same | meant).all())


def _other_reader(path: Path, mine: np.ndarray) -> np.ndarray | None:
    suffix = suffix_of(path)
    if suffix in (".nii", ".nii.gz"):
        return np.asarray(nibabel.load(path).dataobj).T
    if suffix in (".tif", ".tiff"):
        with Image.open(path) as picture:
            alone = getattr(picture, "n_frames", 1) == 1 and picture.mode != "P"  # Pillow halves a palette's depth
            return np.array(picture) if alone else None
    if suffix in (".dcm", ".png"):
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        if array.dtype == np.uint16 and mine.dtype == np.uint8:
            return None  # colours of 16 bits become 8
        return array if suffix == ".png" or len(array) == 1 else None  # of several frames it rescales all as the first
    return None if path.suffix in (".mhd", ".nhdr") else _behind_header(path.read_bytes(), mine)


def _behind_header(content: bytes, mine: np.ndarray) -> np.ndarray:
    """Voxels of a MetaImage or NRRD in one file, of which only the type, the order and the packing are believed."""
    end = re.search(rb"\r?\n\r?\n" if content[:4] == b"NRRD" else rb"ElementDataFile[^\n]*\n", content)
    assert end is not None
    head, body = content[: end.start()].lower(), content[end.end() :]
    if re.search(rb"encoding: gz|compresseddata = t", head):
        body = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(body)
    swapped = re.search(rb"endian: big|msb = t|order = t", head)
    kind = mine.dtype.newbyteorder(">" if swapped else "<")
    return np.frombuffer(body, kind, mine.size).reshape(mine.shape)


def main() -> None:
    """Read until there is no more input."""
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries print
    _warm()
    limit_memory(int(sys.argv[1]))
    answers.write("{}\n")
    for line in sys.stdin:
        path = Path(line.rstrip("\n"))
        answer, items = judge(path)
        answers.write(json.dumps(answer) + "\n")
        answers.write(json.dumps({"agrees": agrees(path, items) if answer["verdict"] == "volume" else None}) + "\n")


def _warm() -> None:
    """Import what reading imports, so that it counts for no file."""
    import pydicom.pixels
    import skimage.segmentation  # noqa: F401

    import napari_lungseg.io.archive
    import napari_lungseg.io.dicom
    import napari_lungseg.io.dicom_seg
    import napari_lungseg.io.itk
    import napari_lungseg.io.raster
    import napari_lungseg.io.rtstruct
    import napari_lungseg.io.unpacking  # noqa: F401

    _ = (pydicom, tifffile)


if __name__ == "__main__":
    main()
