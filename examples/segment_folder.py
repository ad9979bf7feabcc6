"""Segment every scan in a folder and write one label map each.

Usage: ``python examples/segment_folder.py SCANS OUT``
"""

from __future__ import annotations

import sys
from pathlib import Path

import napari_lungseg as lungseg


def main(scans: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    volumes = [item for item in lungseg.read(scans) if isinstance(item, lungseg.Volume)]
    for number, volume in enumerate(volumes):
        labels = lungseg.segment(volume, progress=lambda step: print(f"\r{step.fraction:4.0%} {step.message}", end=""))
        written = lungseg.write(labels, out / f"{number:03d}.nii.gz")
        print(f"\n{written}: {volume.modality}, {labels.geometry.shape}")
        for finding in (*volume.findings, *labels.findings):
            print(f"    {finding.code}: {finding}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
