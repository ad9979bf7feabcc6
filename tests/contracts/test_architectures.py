"""What every architecture promises: any image size, scores of the same size, weights that survive their file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from napari_lungseg.models import ARCHITECTURES
from napari_lungseg.models.spec import ModelSpec
from napari_lungseg.models.weights import read_weights, save_model

SMALL = {"base": 4, "depth": 3}
TINY: dict[str, list[dict[str, Any]]] = {
    "basic-unet": [SMALL],
    "classic-unet": [SMALL, SMALL | {"padding": "valid"}, SMALL | {"padding": "valid", "tile": 20}],
    "conv-unet": [SMALL],
    "dropout-unet": [SMALL],
    "ensemble": [{"architecture": "conv-unet", "options": SMALL, "members": 2}],
    "improved-unet": [SMALL | {"base": 2}],
    "inception-unet": [SMALL],
    "lungmask-unet": [SMALL],
    "smp": [
        {"decoder": "FPN", "decoder_pyramid_channels": 16, "decoder_segmentation_channels": 64},
        {"decoder": "PSPNet", "psp_out_channels": 16},
    ],
    "unet": [
        {"decoder_channels": [16, 8, 8, 8]},
        {"encoder": "tu-regnetx_002", "decoder_channels": [16, 8, 8, 8, 8]},
    ],
}
"""Options that make each architecture small; one that is not here is built as it is."""

CASES = [
    pytest.param(name, options, id="-".join([name, *map(str, (options.get("decoder"), number) if number else ())]))
    for name in ARCHITECTURES
    for number, options in enumerate(TINY.get(name, [{}]))
]
every_architecture = pytest.mark.parametrize(("name", "options"), CASES)


def build(name: str, options: dict[str, Any], in_channels: int = 1, classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = ARCHITECTURES.resolve(name)(in_channels=in_channels, classes=classes, **options)
    return network


def images(n: int, channels: int, rows: int, columns: int) -> torch.Tensor:
    return torch.rand(n, channels, rows, columns, generator=torch.Generator().manual_seed(1))


@every_architecture
@pytest.mark.parametrize("channels", [1, 3])
def test_scores_have_the_size_of_the_images(name: str, options: dict[str, Any], channels: int) -> None:
    network = build(name, options, channels, classes=2).eval()
    with torch.inference_mode():
        for rows, columns in [(32, 32), (65, 83), (48, 33)]:
            scores = network(images(1, channels, rows, columns))
            assert scores.shape == (1, 2, rows, columns)
            assert scores.isfinite().all()


@every_architecture
def test_a_gradient_reaches_every_parameter(name: str, options: dict[str, Any]) -> None:
    network = build(name, options).train()
    for values in network.parameters():  # some encoders begin with residual branches scaled by zero
        if not values.any():
            values.data.fill_(0.1)
    given = network(images(3, 1, 64, 48))
    main, *auxiliary = given if isinstance(given, tuple) else (given,)
    assert main.shape == (3, 3, 64, 48)
    weight = torch.rand(main.shape, generator=torch.Generator().manual_seed(2))
    ((main * weight).sum() + sum(scores.square().sum() for scores in auxiliary)).backward()
    without = [key for key, values in network.named_parameters() if values.grad is None or not values.grad.any()]
    assert not without


@every_architecture
def test_a_single_image_can_be_learned_from(name: str, options: dict[str, Any]) -> None:
    network = build(name, options).train()
    given = network(images(1, 1, 64, 48))
    main = given[0] if isinstance(given, tuple) else given
    assert main.shape == (1, 3, 64, 48)
    main.square().mean().backward()
    assert all(values.grad.isfinite().all() for values in network.parameters())


@every_architecture
def test_weights_survive_their_file(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    spec = ModelSpec("tiny", name, options, names={1: "lung"})
    network = build(name, options, classes=2).eval()
    rounded = {key: values.half().float() if values.is_floating_point() else values
               for key, values in network.state_dict().items()}  # fmt: skip
    network.load_state_dict(rounded)
    path = save_model(tmp_path / "tiny.safetensors", spec, network.state_dict())
    again = build(name, options, classes=2).eval()
    for parameter in again.parameters():
        parameter.data.zero_()
    again.load_state_dict(read_weights(path))
    image = images(1, 1, 40, 56)
    with torch.inference_mode():
        assert torch.equal(network(image), again(image))


@every_architecture
def test_evaluation_is_the_same_each_time_and_for_each_image_of_a_batch(name: str, options: dict[str, Any]) -> None:
    network = build(name, options).eval()
    batch = images(2, 1, 48, 64)
    with torch.inference_mode():
        together = network(batch)
        assert torch.equal(together, network(batch))
        torch.testing.assert_close(network(batch[1:]), together[1:], atol=1e-4, rtol=1e-4)


def test_every_small_architecture_is_in_the_table() -> None:
    assert set(TINY) <= set(ARCHITECTURES)


def test_the_page_of_architectures_has_them_all_with_their_weights() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "architectures.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    told = {row[0].strip("`"): row[-1] for row in rows}
    assert set(told) == set(ARCHITECTURES)
    del told["ensemble"]  # has no default members
    with torch.device("meta"):
        networks = {name: build(name, {}) for name in told}
    counted = {name: sum(values.numel() for values in network.parameters()) for name, network in networks.items()}
    assert told == {name: f"{count / 1e6:.2f} M" for name, count in counted.items()}
