"""Label the unlabelled CT slices with an earlier model, keep those it can be trusted on, and draw them to be looked at.

    python scripts/pseudo_labels.py DATA MODEL.safetensors -o pseudo.npz --sheet pseudo.png

A slice is kept where the network expects a Dice of at least 0.95 of itself and agrees with the threshold method (Dice of
both lungs together ≥ 0.90). Where the threshold method
finds no lung, surely or in agreement with the network, the slice is a negative, as an abdomen is. ``--reject``
names slices that a look at the sheet showed to be wrong.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from skimage.color import label2rgb
from skimage.io import imsave
from skimage.transform import resize
from train_bundled import CT, Samples, on_canvas

from napari_lungseg import LungSegError, Volume, read, segment
from napari_lungseg.segmentation.threshold import threshold_confidence, threshold_lungs

EXPECTED, AGREEMENT = 0.95, 0.90
TILE = 160


def axial_slices(folder: Path) -> Iterator[tuple[str, Volume]]:
    """Every axial CT slice of the unlabelled collections, in the standard view, with a name."""
    for path in sorted(folder.rglob("*.dcm")):
        try:
            volumes = [item for item in read(path) if isinstance(item, Volume)]
        except LungSegError as error:
            print(f"{path.name}: {error}")
            continue
        for volume in volumes:
            view, _ = volume.reoriented()
            if view.modality == "ct" and view.geometry.axis_letters()[1:] == ("P", "L"):
                yield path.relative_to(folder).as_posix(), view.load()


def dice(one: np.ndarray, other: np.ndarray) -> float:
    total = np.count_nonzero(one) + np.count_nonzero(other)
    return 2 * np.count_nonzero(one & other) / total if total else 1.0


def trusted(view: Volume, model: Path) -> tuple[np.ndarray, bool, str]:
    """Labels of one slice, whether they are kept, and why."""
    found = segment(view, model)
    classic = threshold_lungs(view.array, view.geometry.spacing)
    expected = found.record["quality"][0]["expected_dice"]
    agreement = dice(found.array > 0, classic > 0)
    sure = threshold_confidence(view.array, view.geometry.spacing)[0] == 1.0
    if not classic.any() and (sure or not found.array.any()):
        return classic, True, "no lung"
    return found.array, expected >= EXPECTED and agreement >= AGREEMENT, f"{expected:.2f} {agreement:.2f}"


def tile(view: Volume, labels: np.ndarray, kept: bool) -> np.ndarray:
    """(TILE, TILE, 3) picture of a slice with its labels, framed green where kept and red where not."""
    image = np.clip((resize(view.array[0].astype(float), (TILE, TILE)) + 1024) / 1624, 0, 1)
    small = resize(labels[0], (TILE, TILE), order=0, preserve_range=True, anti_aliasing=False).astype(int)
    picture = label2rgb(small, image, colors=["orange", "deepskyblue"], alpha=0.35, bg_label=0)
    picture[:3] = (0, 1, 0) if kept else (1, 0, 0)
    return np.asarray((picture * 255).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--sheet", type=Path, required=True)
    parser.add_argument(
        "--weight", type=float, default=1.0, help="how often they are drawn, beside 1 for each labelled series"
    )
    parser.add_argument("--reject", nargs="*", default=[], help="numbers of slices that a look showed to be wrong")
    arguments = parser.parse_args()
    parts, tiles = [], []
    steps = replace(CT.preprocessing)
    for number, (name, view) in enumerate(axial_slices(arguments.data / "ct" / "unlabelled")):
        labels, kept, why = trusted(view, arguments.model)
        kept = kept and str(number) not in arguments.reject
        print(f"{number} {name} {'kept' if kept else 'left out'}: {why}", flush=True)
        tiles.append(tile(view, labels, kept))
        if kept:
            parts.append(on_canvas(view, labels, steps, name, 1.0))
    columns = 12
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    imsave(arguments.sheet, np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)]))
    kept_samples = Samples.joined(parts)
    np.savez_compressed(
        arguments.output,
        images=kept_samples.images.numpy(),
        labels=kept_samples.labels.numpy(),
        weight=arguments.weight,
    )


if __name__ == "__main__":
    main()
