"""Make the picture of a cohort's page: phantoms, one of them cut short, segmented and shown in Chromium.

Usage: ``python docs/images/make_cohort.py [CHROMIUM]``
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from napari_lungseg import write
from napari_lungseg.cohort.case import Task
from napari_lungseg.cohort.run import run_cohort
from napari_lungseg.phantom import thorax_ct, thorax_xray

HERE = Path(__file__).parent
SIZE = "1400,900"


def make_scans(folder: Path) -> None:
    """Healthy and ill patients, two radiographs, and a file that was cut short."""
    for seed in range(4):
        ill = {"effusion": 0.45, "consolidation": 0.4} if seed == 1 else {}
        write(thorax_ct((48, 128, 144), seed=seed, **ill)[0], folder / f"ct{seed}.nii.gz")
    for seed in (30, 31):
        write(thorax_xray(seed=seed)[0], folder / f"xray{seed}.png")
    whole = (folder / "ct0.nii.gz").read_bytes()
    (folder / "cut.nii.gz").write_bytes(whole[: len(whole) // 3])


def main() -> None:
    """Write ``cohort-page.png`` beside this file."""
    chromium = sys.argv[1] if len(sys.argv) > 1 else "chromium"
    with tempfile.TemporaryDirectory() as place:
        scans, out = Path(place, "scans"), Path(place, "out")
        make_scans(scans)
        page = run_cohort([scans], Task(out)).page
        target = f"--screenshot={HERE / 'cohort-page.png'}"
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--window-size={SIZE}", target]
        subprocess.run([chromium, *options, page.as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    main()
