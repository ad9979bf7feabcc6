"""Make the pictures of phantoms on a PACS: searched, opened, segmented and sent back, with an Orthanc of its own.

Usage: ``python tools/with_display.py python docs/images/make_pacs.py [FOLDER]``; it needs Debian's orthanc and
orthanc-dicomweb, and writes ``pacs.png`` and ``segmentation.png`` beside this file or into FOLDER.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QEventLoop, QTimer

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "unit"))

from dicom_phantom import ct_series, places
from orthanc import PASSWORD, USER, running_orthanc

from napari_lungseg.io import read
from napari_lungseg.io.dicomweb import store
from napari_lungseg.io.pacs_session import Credentials
from napari_lungseg.phantom import thorax_ct
from napari_lungseg.plugin.layers import layer_to_volume
from napari_lungseg.plugin.opening import add_item
from napari_lungseg.plugin.warm import load_torch
from napari_lungseg.progress import drain
from napari_lungseg.segmentation.predict import iter_segment

HERE = Path(__file__).parent
SHAPE = (64, 224, 256)
STUDIES = (("Phantom^Anna", "20240229", "Thorax 5 mm"), ("Phantom^Bert", "20240311", "Thorax follow-up"))


def wait(milliseconds: int) -> None:
    """Let the window live for a while."""
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


def until(over: Callable[[], bool]) -> None:
    """Let the window live until something has happened."""
    while not over():
        wait(50)


def keep(viewer: Any, path: Path) -> None:
    """A picture of the whole window, with as many colours as it needs."""
    from PIL import Image

    whole = viewer.screenshot(canvas_only=False, flash=False)
    Image.fromarray(whole[..., :3]).quantize(192).save(path, optimize=True)


def write_phantom(folder: Path, seed: int, name: str, date: str, description: str) -> Path:
    """A CT of the phantom as DICOM."""
    from pydicom.uid import generate_uid

    volume, _ = thorax_ct(SHAPE, seed=seed)
    gap, *within = volume.geometry.spacing
    stored = (np.asarray(volume.array) + 1024).astype(np.uint16)
    told = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid(), "StudyDate": date}
    told |= {"FrameOfReferenceUID": generate_uid(), "PatientName": name, "PatientID": f"P-{seed}"}
    told |= {"SeriesDescription": description, "SeriesNumber": 2 + seed, "PixelSpacing": list(within)}
    ct_series(folder, stored, places(SHAPE[0], (1, 0, 0, 0, 1, 0), gap), **told)
    return folder


def picture_pacs(url: str, out: Path) -> None:
    """``pacs.png``"""
    viewer = napari.Viewer()
    viewer.window.resize(1400, 900)
    _, widget = viewer.window.add_plugin_dock_widget("napari-lungseg", "PACS")
    widget.url.setText(url)
    widget.user.setText(USER)
    widget.password.setText(PASSWORD)
    widget.search()
    until(lambda: not widget.box.is_running)
    widget.table.choose(0)
    widget.open_chosen()
    until(lambda: len(viewer.layers) == 1 and not widget.box.is_running)
    add_item(viewer, drain(iter_segment(layer_to_volume(viewer.layers[0]), device="cpu")))
    until(lambda: widget.send_button.isEnabled())
    widget.send()
    until(lambda: not widget.box.is_running)
    viewer.reset_view()
    wait(6000)  # until the notifications are gone
    keep(viewer, out / "pacs.png")
    viewer.close()


def picture_segmentation(scan: Path, out: Path) -> None:
    """``segmentation.png``: a DICOM segmentation opened with its series."""
    from napari_lungseg.io import write

    (volume,) = read(scan)
    write(drain(iter_segment(volume, device="cpu")), scan / "lungs.seg.dcm")  # type: ignore[arg-type]
    viewer: Any = napari.Viewer()
    viewer.window.resize(1400, 860)
    viewer.open(str(scan), plugin="napari-lungseg")
    until(lambda: len(viewer.layers) == 2)
    viewer.layers.selection.active = viewer.layers[-1]
    viewer.reset_view()
    wait(6000)
    keep(viewer, out / "segmentation.png")
    viewer.close()


def main() -> None:
    """Write both."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    load_torch()
    with tempfile.TemporaryDirectory() as place:
        scans = [write_phantom(Path(place, str(seed)), seed, *told) for seed, told in enumerate(STUDIES)]
        with running_orthanc(Path(place, "orthanc")) as url:
            drain(store(url, scans, credentials=Credentials(user=USER, password=PASSWORD)))
            picture_pacs(url, out)
        picture_segmentation(scans[0], out)


if __name__ == "__main__":
    main()
