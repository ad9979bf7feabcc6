"""The models that ship: small enough, described, and as good as their cards say. The floors lie just below the figures."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from napari_lungseg import LabelMap, Volume, evaluate, list_models, read, segment
from napari_lungseg.models.catalog import DEFAULT_MODELS, PRETRAINED, bundled_files, load_model
from napari_lungseg.models.weights import read_weights
from napari_lungseg.phantom import thorax_ct, thorax_xray
from napari_lungseg.volume import LUNG_NAMES


def dice(predicted: LabelMap, reference: LabelMap, label: int | None = None) -> float:
    """Dice of one label; None is all of them together."""
    table = evaluate(predicted, reference)
    row = next(row for row in table.rows if row[table.columns.index("label")] == label)
    return float(row[table.columns.index("dice")])


def test_there_is_one_for_each_modality_and_all_fit_the_wheel() -> None:
    assert set(bundled_files()) == set(DEFAULT_MODELS.values()) <= {spec.name for spec in list_models()}
    assert sum(path.stat().st_size for path in bundled_files().values()) <= 40e6


@pytest.mark.parametrize("name", DEFAULT_MODELS.values())
def test_each_has_a_card_a_licence_and_figures(name: str) -> None:
    spec = load_model(name).spec
    assert spec.names == dict(LUNG_NAMES)
    assert spec.training["figures"] and spec.training["data"]
    card = (PRETRAINED / f"{name}.md").read_text()
    assert spec.licence in card
    assert "/" not in str(spec.training.get("start_from"))


@pytest.mark.parametrize("name", DEFAULT_MODELS.values())
def test_each_computes_what_the_library_it_was_trained_with_does(name: str) -> None:
    """The plain U-Net of that library has the same weights, beside stages that no score depends on."""
    import segmentation_models_pytorch as smp
    import torch

    model = load_model(name)
    spec = model.spec
    channels = tuple(spec.options["decoder_channels"])
    plain = smp.Unet(
        spec.options["encoder"], len(channels), None, decoder_channels=channels, in_channels=1, classes=spec.classes
    ).eval()
    missing, unexpected = plain.load_state_dict(read_weights(bundled_files()[name]), strict=False)
    assert not unexpected and all(key.startswith("encoder.layer4.") for key in missing)
    image = torch.rand(1, 1, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(model.network()(image), plain(image), atol=1e-4, rtol=1e-4)


def test_a_phantom_ct_is_segmented_with_its_sides() -> None:
    volume, truth = thorax_ct(shape=(24, 128, 150), spacing=None, seed=5)
    labels = segment(volume, device="cpu")
    assert dice(labels, truth, 1) > 0.96
    assert dice(labels, truth, 2) > 0.95


def test_a_phantom_stored_head_first_and_mirrored_keeps_its_sides() -> None:
    volume, truth = thorax_ct(shape=(16, 128, 150), spacing=None, seed=6)
    matrix = np.diag([-1.0, 1.0, -1.0])
    origin = volume.geometry.position((15, 0, 149))
    geometry = volume.geometry.__class__(
        volume.geometry.shape, volume.geometry.spacing, tuple(origin), tuple(map(tuple, matrix))
    )
    turned = Volume(np.ascontiguousarray(volume.array[::-1, :, ::-1]), geometry)
    labels = segment(turned, device="cpu")
    reference = LabelMap(np.ascontiguousarray(truth.array[::-1, :, ::-1]), geometry, truth.names)
    assert min(dice(labels, reference, 1), dice(labels, reference, 2)) > 0.93


def test_a_phantom_radiograph_is_segmented_with_its_sides() -> None:
    volume, truth = thorax_xray()
    labels = segment(volume, device="cpu")
    # The phantom's true lungs reach to the bottom of the recess behind the liver, which no radiograph shows.
    assert min(dice(labels, truth, 1), dice(labels, truth, 2)) > 0.8


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "split.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["split"] == "test"]


def segmented(folder: Path, row: dict[str, str]) -> tuple[LabelMap, LabelMap]:
    """Labels and reference of a test case, both in the standard view."""
    volume = next(item for item in read(folder / row["image"]) if isinstance(item, Volume))
    reference = next(item for item in read(folder / row["mask"], labels=True) if isinstance(item, LabelMap))
    return segment(volume, device="cpu").reoriented()[0], reference.reoriented()[0]


@pytest.mark.parametrize("count", [6, pytest.param(50, marks=pytest.mark.slow)])
def test_adult_radiographs_reach_their_figure(test_data: Path, count: int) -> None:
    folder = test_data / "xray"
    found = [dice(*segmented(folder, row)) for row in rows(folder)[:count]]
    assert np.mean(found) > 0.95
    assert min(found) > 0.85


@pytest.mark.slow
def test_the_test_series_reaches_its_figure(test_data: Path) -> None:
    (row,) = rows(test_data / "ct")
    labels, reference = segmented(test_data / "ct", row)
    assert dice(labels, reference) > 0.95
    assert min(dice(labels, reference, 1), dice(labels, reference, 2)) > 0.93
