"""Put a calibration of the predicted Dice into a model's header; its weights stay what they are.

    python scripts/seal_confidence.py MODEL.safetensors CALIBRATION.json

The calibration comes from ``benchmarks/confidence.py fit``.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from napari_lungseg.models.weights import read_spec, read_weights, save_model
from napari_lungseg.segmentation.calibration import Calibration


def main() -> None:
    """Read, add, write, look again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("calibration", type=Path)
    arguments = parser.parse_args()
    record = Calibration.from_record(json.loads(arguments.calibration.read_text())).as_record()
    spec, weights = read_spec(arguments.model), read_weights(arguments.model)
    quality = {**spec.training.get("quality", {}), "calibration": record}
    save_model(arguments.model, replace(spec, training={**spec.training, "quality": quality}), weights)
    written = read_weights(arguments.model)
    if any(not torch.equal(written[name], tensor) for name, tensor in weights.items()):
        raise SystemExit(f"The weights of {arguments.model} have changed: they were not in half precision.")
    print(f"{arguments.model}: doubted under a predicted Dice of {record['flag_below']}")


if __name__ == "__main__":
    main()
