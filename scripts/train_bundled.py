"""Train the bundled models.

    python scripts/train_bundled.py ct DATA -o ct-lungs.safetensors
    python scripts/train_bundled.py xray DATA -o xray-lungs.safetensors

DATA is a folder with ``ct/``, ``xray/`` and ``xray-paediatric/``, each with a ``split.csv``. Only rows marked *train*
are learned from; ``val`` rows choose the model; ``test`` rows are never read here. CT has no val rows: ``--hold-out``
leaves one training patient out to compare encoders and settings.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
from torch.nn import functional

from napari_lungseg import Volume, read
from napari_lungseg.errors import TrainingDataError
from napari_lungseg.models import ARCHITECTURES
from napari_lungseg.models.spec import ModelSpec, Preprocessing
from napari_lungseg.models.weights import read_weights, save_model
from napari_lungseg.phantom import thorax_ct
from napari_lungseg.segmentation.preprocess import boxes_of, from_network, to_network
from napari_lungseg.training import paste
from napari_lungseg.training.augment import Augmentation, apply_grid, change_grey, draw_grid
from napari_lungseg.volume import LUNG_NAMES, Modality

CANVAS = (288, 288)  # a little finer than the network's input, so that zooming in shows more
# Slices, counted from the feet, whose reference lacks a whole lung or takes bowel gas for one.
BAD_REFERENCE = {"LUNG1-001": (43,), "LUNG1-002": (9, 10, 11, 12, 29, 30, 37, 43, 44)}
PERMISSIVE = ("CC BY 3.0", "CC BY 4.0")


@dataclass
class Samples:
    """Images and labels on one canvas.

    ``images`` (n, y, x) float16 0…1; ``labels`` (n, y, x) uint8; ``weights`` (n,) how often each is drawn;
    ``cases`` (n,) name of the case each belongs to
    """

    images: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    cases: list[str]

    @staticmethod
    def joined(parts: list[Samples]) -> Samples:
        return Samples(
            torch.cat([p.images for p in parts]),
            torch.cat([p.labels for p in parts]),
            torch.cat([p.weights for p in parts]),
            [case for p in parts for case in p.cases],
        )


def on_canvas(volume: Volume, labels: np.ndarray, steps: Preprocessing, case: str, weight: float) -> Samples:
    """Turn a scan in the standard view and its labels into samples, cropped and scaled as for the network."""
    steps = replace(steps, size=CANVAS)
    images, masks = [], []
    for start in range(0, len(labels), 32):
        slices = torch.from_numpy(np.ascontiguousarray(volume.array[start : start + 32]))
        boxes = boxes_of(slices, steps)
        images.append(to_network(slices, boxes, steps)[:, 0].half())
        for truth, (top, bottom, left, right) in zip(labels[start : start + 32], boxes, strict=True):
            crop = torch.from_numpy(np.ascontiguousarray(truth[top:bottom, left:right])).long()
            layers = functional.one_hot(crop, 3).movedim(-1, 0)[None].float()
            layers = functional.interpolate(layers, size=CANVAS, mode="bilinear", antialias=True)
            masks.append(layers.argmax(1).to(torch.uint8))
    stack = torch.cat(images)
    return Samples(stack, torch.cat(masks), torch.full((len(stack),), weight / len(stack)), [case] * len(stack))


def scan(path: Path, modality: Modality | None = None) -> Volume:
    """The only scan under a path, in the standard view and in memory."""
    (item,) = read(path, modality=modality, labels=False)
    if not isinstance(item, Volume):
        raise TrainingDataError(f"{path} holds labels, but a scan was expected.")
    view, _ = item.reoriented()
    return view.load()


def mask(path: Path) -> np.ndarray:
    """The only label map under a path, in the standard view: (z, y, x) uint8."""
    (item,) = read(path, labels=True)
    view, _ = item.reoriented()
    return np.asarray(view.array)


def ct_case(data: Path, row: dict[str, str], steps: Preprocessing) -> Samples:
    samples = on_canvas(scan(data / "ct" / row["image"]), mask(data / "ct" / row["mask"]), steps, row["patient"], 1.0)
    samples.weights[list(BAD_REFERENCE.get(row["patient"], ()))] = 0
    return samples


def phantom_cases(count: int, steps: Preprocessing) -> Iterator[Samples]:
    for seed in range(count):
        volume, labels = thorax_ct(shape=(40, 192, 224), spacing=(7.0, 1.7, 1.7), seed=1000 + seed)
        view, turn = volume.reoriented()
        yield on_canvas(view, turn.apply(labels.array), steps, f"phantom-{seed}", 0.05)


def pseudo_cases(path: Path) -> Samples:
    """Slices that an earlier model labelled, as written by ``pseudo_labels.py``."""
    stored = np.load(path)
    images, labels = torch.from_numpy(stored["images"]), torch.from_numpy(stored["labels"])
    return Samples(
        images, labels, torch.full((len(images),), float(stored["weight"]) / len(images)), ["pseudo"] * len(images)
    )


def xray_cases(data: Path, rows: list[dict[str, str]], steps: Preprocessing, weight: float) -> Samples:
    parts = []
    for row in rows:
        volume, labels = scan(data / row["image"], "xray"), mask(data / row["mask"])
        parts.append(on_canvas(volume, labels, steps, Path(row["image"]).stem, weight / len(rows)))
    return Samples.joined(parts)


def rows_of(folder: Path, split: str, permissive: bool = False) -> list[dict[str, str]]:
    with (folder / "split.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    return [row for row in rows if not permissive or row["licence"] in PERMISSIVE]


def ct_samples(arguments: argparse.Namespace, steps: Preprocessing) -> tuple[Samples, Samples | None]:
    rows = rows_of(arguments.data / "ct", "train")
    if arguments.fold:  # three-fold table only: such weights are never shipped and choose nothing
        rows = rows_of(arguments.data / "ct", "train") + rows_of(arguments.data / "ct", "test")
        rows = [row for row in rows if row["patient"] != arguments.fold]
    kept = [row for row in rows if row["patient"] != arguments.hold_out]
    train = [ct_case(arguments.data, row, steps) for row in kept] + list(phantom_cases(arguments.phantoms, steps))
    if arguments.pseudo:
        train.append(pseudo_cases(arguments.pseudo))
    held = [ct_case(arguments.data, row, steps) for row in rows if row["patient"] == arguments.hold_out]
    return Samples.joined(train), Samples.joined(held) if held else None


def xray_samples(arguments: argparse.Namespace, steps: Preprocessing) -> tuple[Samples, Samples]:
    adult, child = arguments.data / "xray", arguments.data / "xray-paediatric"
    train = [
        xray_cases(adult, rows_of(adult, "train", arguments.permissive), steps, 0.5),
        xray_cases(child, rows_of(child, "train"), steps, 0.5),
    ]
    val = [xray_cases(adult, rows_of(adult, "val"), steps, 1.0), xray_cases(child, rows_of(child, "val"), steps, 1.0)]
    return Samples.joined(train), Samples.joined(val)


CT = ModelSpec(
    name="ct-lungs",
    architecture="unet",
    modality="ct",
    unit="HU",
    preprocessing=Preprocessing(window=(-1024.0, 600.0), crop_body=True),
    names=dict(LUNG_NAMES),
)
XRAY = ModelSpec(
    name="xray-lungs",
    architecture="unet",
    modality="xray",
    unit="a.u.",
    preprocessing=Preprocessing(percentiles=(0.5, 99.5)),
    names=dict(LUNG_NAMES),
)
AUGMENT = {
    "ct": Augmentation(rotation=18, scale=(0.75, 1.25), turn_over=0.1, contrast=0.15, brightness=0.06, gamma=0.25),
    "xray": Augmentation(
        rotation=18, scale=(0.7, 1.3), mirror=0.3, invert=0.04, contrast=0.35, brightness=0.15, gamma=0.5
    ),
}

# For a last stage, near to what scans really look like.
GENTLE = {
    "ct": Augmentation(
        rotation=8,
        scale=(0.88, 1.14),
        stretch=0.06,
        elastic=0.008,
        turn_over=0.05,
        contrast=0.08,
        brightness=0.03,
        gamma=0.12,
    ),
    "xray": Augmentation(
        rotation=8,
        scale=(0.88, 1.14),
        stretch=0.06,
        elastic=0.008,
        mirror=0.2,
        contrast=0.15,
        brightness=0.08,
        gamma=0.25,
    ),
}
VISIBLE = 0.05  # grey levels 0…1 by which what is pasted changes a pixel that it counts for
PASTE: dict[str, list[tuple[paste.Change, float]]] = {
    "ct": [(paste.paste_gas, 0.3), (paste.paste_consolidation, 0.35), (paste.paste_effusion, 0.15)],
    "xray": [(paste.paste_opacity, 0.35), (paste.paste_clutter, 0.4)],
}


def batch(
    samples: Samples, modality: str, size: int, rng: torch.Generator, domes: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw a batch and change it: (n, 1, y, x) float32 images, (n, y, x) labels, and (n, kinds, y, x) what was pasted where."""
    index = torch.multinomial(samples.weights, size, replacement=True, generator=rng)
    images, labels = samples.images[index][:, None].float(), samples.labels[index]
    how = AUGMENT[modality]
    images, labels = apply_grid(images, labels, *draw_grid(size, how, rng))
    if modality == "ct" and domes:
        images, labels = paste.paste_dome(images, labels, rng, domes)
    seen = []
    for change, probability in PASTE[modality]:
        changed = paste.paste_some(change, images, labels, rng, probability)
        seen.append((changed - images)[:, 0].abs() > VISIBLE)
        images = changed
    pasted = torch.stack(seen, 1)
    if modality == "xray":
        images, labels = paste.paste_border(images, labels, rng)
    return change_grey(images, how, rng), labels, pasted


class Noticing(torch.nn.Module):
    """Has a network tell what was pasted, from the features that its classes come from; thrown away after the training.

    A network that only sees through disease has features that say little of it, and nobody can teach it disease by painting.

    Parameters
    ----------
    network : of segmentation-models-pytorch
    kinds : of what is pasted
    """

    def __init__(self, network: torch.nn.Module, kinds: int) -> None:
        super().__init__()
        self.head = torch.nn.Conv2d(network.segmentation_head[0].in_channels, kinds, 1)
        torch.nn.init.constant_(self.head.bias, -2.0)
        self.features = torch.empty(0)
        network.decoder.register_forward_hook(self._keep)

    def _keep(self, module: torch.nn.Module, inputs: tuple[object, ...], features: torch.Tensor) -> None:
        self.features = features

    def loss(self, pasted: torch.Tensor) -> torch.Tensor:
        """Cross-entropy and Dice with (n, kinds, y, x) what was pasted, after a step forward of the network."""
        scores = self.head(self.features.float())
        wanted = pasted.float()
        said = scores.sigmoid()
        overlap = 1 - (2 * (said * wanted).sum((0, 2, 3)) + 1) / ((said + wanted).sum((0, 2, 3)) + 1)
        return functional.binary_cross_entropy_with_logits(scores, wanted) + overlap.mean()


def dice_per_case(network: torch.nn.Module, samples: Samples, size: tuple[int, int]) -> dict[str, float]:
    """Mean Dice of right and left per case, on the canvas."""
    sums: dict[str, np.ndarray] = {}
    box = (0, CANVAS[0], 0, CANVAS[1])
    for start in range(0, len(samples.cases), 16):
        images = functional.interpolate(
            samples.images[start : start + 16][:, None].float(), size=size, antialias=True, mode="bilinear"
        )
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            scores = network(images.to(memory_format=torch.channels_last))
        found = from_network(scores.float(), [box] * len(images), CANVAS, Preprocessing(size=size))
        for case, got, true in zip(
            samples.cases[start : start + 16], found, samples.labels[start : start + 16], strict=True
        ):
            counts = [
                [int(((got == k) & (true == k)).sum()), int((got == k).sum() + (true == k).sum())] for k in (1, 2)
            ]
            sums[case] = sums.get(case, 0) + np.array(counts)
    return {case: float(np.mean(2 * s[:, 0] / np.maximum(s[:, 1], 1))) for case, s in sums.items()}


def report(scores: dict[str, float]) -> dict[str, float]:
    """Mean Dice: all cases, and the adult and paediatric ones apart where there are such."""
    groups = {"val": list(scores.values())}
    groups["adult"] = [s for case, s in scores.items() if case.startswith("v7")]
    groups["paediatric"] = [s for case, s in scores.items() if case.startswith("paed")]
    return {name: round(float(np.mean(s)), 4) for name, s in groups.items() if s}


def running_mean(mean: torch.Tensor, new: torch.Tensor, count: torch.Tensor | int) -> torch.Tensor:
    """Mean over about the last 200 steps, over fewer at the start, so that the first weights are soon forgotten."""
    return mean + (new - mean) * max(0.005, 9 / (10 + float(count)))


def train(arguments: argparse.Namespace) -> None:
    torch.manual_seed(arguments.seed)
    rng = torch.Generator().manual_seed(arguments.seed)
    template = CT if arguments.modality == "ct" else XRAY
    template = replace(
        template, preprocessing=replace(template.preprocessing, size=(arguments.size[0], arguments.size[-1]))
    )
    spec = replace(template, options={"encoder": arguments.encoder, "decoder_channels": arguments.decoder})
    samples, val = (ct_samples if arguments.modality == "ct" else xray_samples)(arguments, spec.preprocessing)
    network = ARCHITECTURES.resolve(spec.architecture)(in_channels=1, classes=3, **spec.options)
    if arguments.start_from:
        network.load_state_dict(read_weights(arguments.start_from))
    network = network.to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(network, avg_fn=running_mean, use_buffers=True)
    noticing = Noticing(network, len(PASTE[arguments.modality]))
    learned = [*network.parameters(), *noticing.parameters()]
    optimiser = torch.optim.AdamW(learned, lr=arguments.lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, arguments.lr, total_steps=arguments.steps + 1, pct_start=0.1
    )
    dice = smp.losses.DiceLoss("multiclass", classes=[1, 2], smooth=1.0)
    if arguments.gentle:
        AUGMENT[arguments.modality] = GENTLE[arguments.modality]
        PASTE[arguments.modality] = [(change, probability / 2) for change, probability in PASTE[arguments.modality]]
    AUGMENT[arguments.modality] = replace(AUGMENT[arguments.modality], size=spec.preprocessing.size)
    print(f"{len(samples.cases)} training images, {len(set(val.cases)) if val else 0} validation cases", flush=True)
    started, running = time.monotonic(), 0.0
    for step in range(1, arguments.steps + 1):
        network.train()
        images, labels, pasted = batch(samples, arguments.modality, arguments.batch, rng, arguments.domes)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            scores = network(images.to(memory_format=torch.channels_last))
        scores = scores.float()
        loss = dice(scores, labels.long()) + functional.cross_entropy(scores, labels.long())
        if arguments.notice:
            loss = loss + arguments.notice * noticing.loss(pasted)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
        average.update_parameters(network)
        running += loss.item()
        if step % arguments.every == 0 or step == arguments.steps:
            figures = report(dice_per_case(average.module.eval(), val, spec.preprocessing.size)) if val else {}
            minutes = (time.monotonic() - started) / 60
            print(
                f"step {step}/{arguments.steps} loss {running / arguments.every:.4f} {figures} {minutes:.1f} min",
                flush=True,
            )
            running = 0.0
            record = {"script": "scripts/train_bundled.py", "minutes": round(minutes, 1), "validation": figures}
            record |= {
                k: v.name if isinstance(v, Path) else v
                for k, v in vars(arguments).items()
                if k not in ("data", "output")
            }
            licence = arguments.licence or ("CC BY 4.0" if arguments.permissive else "CC BY-NC-SA 4.0")
            done = replace(spec, training=json.loads(json.dumps(record)), licence=licence)
            save_model(arguments.output, done, average.module.state_dict())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modality", choices=["ct", "xray"])
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--encoder", default="resnet18")
    parser.add_argument("--decoder", type=int, nargs="+", default=[128, 64, 32, 16, 16])
    parser.add_argument("--size", type=int, nargs="+", default=[256], help="rows and columns; one number for both")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--every", type=int, default=250, help="steps between validations")
    parser.add_argument("--phantoms", type=int, default=8)
    parser.add_argument("--hold-out", default="", help="training patient used for validation (CT)")
    parser.add_argument("--fold", default="", help="patient left out for the three-fold table; never shipped (CT)")
    parser.add_argument("--pseudo", type=Path, help="pseudo-labelled slices (CT)")
    parser.add_argument("--start-from", type=Path, help="model file with the first weights")
    parser.add_argument("--gentle", action="store_true", help="milder changes, for a last stage")
    parser.add_argument(
        "--notice", type=float, default=0.0, help="weight of telling what was pasted where, in the loss"
    )
    parser.add_argument(
        "--domes", type=float, default=0.0, help="share of slices with a dome of the diaphragm pasted in (CT)"
    )
    parser.add_argument("--permissive", action="store_true", help="only CC BY images (X-ray)")
    parser.add_argument("--licence", default="")
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
