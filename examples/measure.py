"""Measure the lungs of a thorax made in code, and compare them with the truth.

Usage: ``python examples/measure.py``
"""

from __future__ import annotations

import napari_lungseg as lungseg
from napari_lungseg.phantom import thorax_ct


def main() -> None:
    volume, truth = thorax_ct()
    labels = lungseg.segment(volume)
    for title, table in (("measured", lungseg.measure(volume, labels)), ("agreement", lungseg.evaluate(labels, truth))):
        print(title)
        print(table.to_csv())


if __name__ == "__main__":
    main()
