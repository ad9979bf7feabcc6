"""Measure the lungs of a thorax made in code, along it and as a histogram too, and compare them with the truth.

Usage: ``python examples/measure.py``
"""

from __future__ import annotations

import napari_lungseg as lungseg
from napari_lungseg.phantom import thorax_ct


def main() -> None:
    volume, truth = thorax_ct()
    labels = lungseg.segment(volume)
    tables = {
        "measured": lungseg.measure(volume, labels),
        "without a rim of 2 mm": lungseg.measure(volume, labels, settings=lungseg.MeasureSettings(erode_mm=2.0)),
        "slice by slice": lungseg.profile(volume, labels),
        "histogram": lungseg.histogram(volume, labels, width=50.0),
        "agreement": lungseg.evaluate(labels, truth),
    }
    for title, table in tables.items():
        print(title)
        print(table.to_csv())


if __name__ == "__main__":
    main()
