"""Write a trained model into the package: its licence, its measured figures and the threshold of its confidence.

    python scripts/seal_model.py TRAINED.safetensors src/napari_lungseg/models/pretrained/ct-lungs.safetensors \
        --licence "CC BY-NC 4.0" --expected-dice 0.95 --figure "test Dice"=0.97 --data "LUNG1-001, LUNG1-002 (train)"

The figures come from ``benchmarks/accuracy.py``, the threshold from ``benchmarks/tune_quality.py``; the weights are
not changed. `lungseg models` prints what stands here, and the model's card in the same folder says it in words.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_lungseg.models import ARCHITECTURES
from napari_lungseg.models.weights import read_spec, read_weights, save_model


def figure(text: str) -> tuple[str, float]:
    """Parse ``NAME=VALUE``."""
    name, _, value = text.rpartition("=")
    return name, float(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path)
    parser.add_argument("sealed", type=Path)
    parser.add_argument("--licence", required=True)
    parser.add_argument("--data", required=True, help="what was learned from, in words")
    parser.add_argument("--expected-dice", type=float, help="below this a result is called doubtful")
    parser.add_argument("--figure", type=figure, nargs="*", default=[])
    arguments = parser.parse_args()
    spec = read_spec(arguments.trained)
    training: dict[str, Any] = dict(spec.training) | {"data": arguments.data, "figures": dict(arguments.figure)}
    training |= {key: Path(training[key]).name for key in ("start_from", "pseudo") if training.get(key)}
    if arguments.expected_dice is not None:
        training["quality"] = {"expected_dice": arguments.expected_dice}
    sealed = replace(spec, licence=arguments.licence, training=training)
    build = ARCHITECTURES.resolve(spec.architecture)
    used = build(in_channels=3 if spec.unit == "rgb" else 1, classes=spec.classes, **spec.options).state_dict()
    weights = {name: tensor for name, tensor in read_weights(arguments.trained).items() if name in used}
    path = save_model(arguments.sealed, sealed, weights)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
