"""How well the reference agrees with itself: Dice between two masks that people drew of one picture.

Usage: ``python benchmarks/reference_agreement.py DATA/xray DATA/xray-paediatric``

Some pictures come twice in a data set, under two names, and were outlined twice. No model can be expected to agree with
the masks of other pictures much better than these masks agree with each other.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from skimage.transform import resize

from napari_lungseg.progress import drain
from napari_lungseg.training.checking import check_dataset
from napari_lungseg.training.datasets import find_dataset


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Of all labels together; a mask of another size is brought to the first one's."""
    if one.shape != other.shape:
        other = resize(other, one.shape, order=0, preserve_range=True, anti_aliasing=False)
    return float(2 * ((one > 0) & (other > 0)).sum() / ((one > 0).sum() + (other > 0).sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    for path in parser.parse_args().data:
        dataset = find_dataset(path)
        found = []
        for one, other in drain(check_dataset(dataset)).copies:
            masks = [dataset.read(case)[1] for case in (one, other)]
            if masks[0] is not None and masks[1] is not None:
                found.append(dice(masks[0], masks[1]))
                print(f"{one.name} ({one.split}) and {other.name} ({other.split}): {found[-1]:.4f}")
        print(f"{path.name}: {len(found)} pairs, mean Dice {np.mean(found):.4f}" if found else f"{path.name}: no pair")


if __name__ == "__main__":
    main()
