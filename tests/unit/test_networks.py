"""What single architectures promise beyond the contract of all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from napari_lungseg.errors import LungSegError, UnknownNameError
from napari_lungseg.models.networks import imagenet
from napari_lungseg.models.networks.any_size import pad_to_multiple
from napari_lungseg.models.networks.classic_unet import MirroredUNet, build_classic_unet, mirrored
from napari_lungseg.models.networks.dropout_unet import build_dropout_unet
from napari_lungseg.models.networks.ensemble import build_ensemble
from napari_lungseg.models.networks.improved_unet import build_improved_unet
from napari_lungseg.models.networks.smp import build_smp
from napari_lungseg.models.networks.u_shape import UShape
from napari_lungseg.models.networks.unet import build_unet


def picture(rows: int, columns: int, channels: int = 1) -> torch.Tensor:
    return torch.rand(1, channels, rows, columns, generator=torch.Generator().manual_seed(3))


def lively(network: nn.Module) -> nn.Module:
    """Evaluation mode with running statistics that are not the identity's."""
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(2, 1, 48, 48))
    return network.eval()


def test_images_are_extended_by_their_edge() -> None:
    padded = pad_to_multiple(picture(5, 7), 4)
    assert padded.shape == (1, 1, 8, 8)
    assert torch.equal(padded[..., :5, :7], picture(5, 7))
    assert torch.equal(padded[..., 6, 2], picture(5, 7)[..., 4, 2])


def test_a_unet_computes_what_the_library_does() -> None:
    import segmentation_models_pytorch as smp

    network = build_unet(1, 2).eval()
    plain = smp.Unet("resnet18", encoder_weights=None, in_channels=1, classes=2, decoder_channels=(128, 64, 32, 16, 16))
    plain.load_state_dict(network.state_dict())
    with torch.inference_mode():
        assert torch.equal(network(picture(64, 96)), plain.eval()(picture(64, 96)))


def test_a_unet_drops_the_stages_that_it_does_not_use() -> None:
    keys = build_unet(1, 2, decoder_channels=[16, 8, 8, 8]).state_dict()
    assert [key for key in keys if key.startswith("encoder.layer3")]
    assert not [key for key in keys if key.startswith("encoder.layer4")]
    network = build_unet(1, 2, "mobilenet_v2", [16, 8, 8, 8])
    network(picture(32, 32)).sum().backward()
    assert not [key for key, values in network.named_parameters() if values.grad is None]


def test_an_encoder_that_is_not_there_is_told() -> None:
    with pytest.raises(LungSegError, match="'resnet19'"):
        build_unet(1, 2, "resnet19")


def test_a_vgg_encoder_fits() -> None:
    with torch.inference_mode():
        assert build_unet(1, 2, "vgg11", [8, 8, 8, 4, 4]).eval()(picture(40, 33)).shape == (1, 2, 40, 33)


@pytest.mark.parametrize(("size", "before", "total"), [(5, 3, 12), (3, 8, 20), (1, 2, 6), (4, 0, 4)])
def test_mirrored_places_are_those_of_a_reflection(size: int, before: int, total: int) -> None:
    import numpy as np

    expected = np.pad(np.arange(size), (before, total - before - size), mode="reflect" if size > 1 else "edge")
    assert mirrored(size, before, total).tolist() == expected.tolist()


def test_valid_convolutions_see_only_the_image_and_its_mirror() -> None:
    network = lively(build_classic_unet(1, 2, base=2, depth=3, padding="valid"))
    large = picture(120, 120)
    with torch.inference_mode():
        whole, part = network(large), network(large[..., 32:, 32:])
    # 40 pixels are lost around 12 * 4 - 8; further inside than that no mirrored pixel is seen, whatever lies outside.
    torch.testing.assert_close(whole[..., 72:, 72:], part[..., 40:, 40:], atol=1e-5, rtol=1e-5)


def test_valid_convolutions_score_each_pixel_in_its_place() -> None:
    import numpy as np

    network = lively(build_classic_unet(1, 2, base=2, depth=3, padding="valid"))
    image = picture(
        36, 52
    )  # multiples of 4 and 4 more: nothing is cropped, and 12 * 4 - 8 pixels are lost, half a side
    mirror = torch.from_numpy(np.pad(image.numpy(), ((0, 0), (0, 0), (20, 20), (20, 20)), mode="reflect"))
    with torch.inference_mode():
        expected = UShape.forward(network, mirror)
        assert expected.shape == (1, 2, 36, 52)
        torch.testing.assert_close(network(image), expected)


@pytest.mark.parametrize(("rows", "columns"), [(65, 83), (64, 64), (36, 101)])
@pytest.mark.parametrize("tile", [8, 20, 37, 500])
def test_overlapping_tiles_give_the_scores_of_the_whole(rows: int, columns: int, tile: int) -> None:
    network = lively(build_classic_unet(1, 3, base=2, depth=3, padding="valid"))
    assert isinstance(network, MirroredUNet)
    with torch.inference_mode():
        whole = network(picture(rows, columns))
        network.tile = tile
        torch.testing.assert_close(network(picture(rows, columns)), whole, atol=1e-5, rtol=1e-5)


def test_tiles_are_no_larger_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_classic_unet(1, 2, base=2, depth=3, padding="valid", tile=20).eval()
    seen: list[int] = []
    network.head.register_forward_hook(lambda _module, _given, scores: seen.append(max(scores.shape[-2:])))
    network(picture(64, 64))
    assert len(seen) == 16 and max(seen) == 20


def test_the_published_sizes_of_the_classic_unet() -> None:
    network = build_classic_unet(1, 2, base=2, depth=5, padding="valid").eval()
    assert isinstance(network, MirroredUNet)
    seen: list[torch.Size] = []
    network.down[0].register_forward_pre_hook(lambda _module, given: seen.append(given[0].shape[-2:]))
    assert network(picture(388, 388)).shape[-2:] == (388, 388)
    assert seen == [(572, 572)]


def test_tiles_of_padded_convolutions_are_refused() -> None:
    with pytest.raises(LungSegError, match="'valid'"):
        build_classic_unet(1, 2, tile=64)


def test_spatial_dropout_leaves_out_whole_feature_maps_and_only_while_training() -> None:
    network = build_dropout_unet(1, 2, base=8, depth=3, dropout=0.5)
    seen: list[torch.Tensor] = []
    network.down[0].register_forward_hook(lambda _module, _given, features: seen.append(features))
    network.train()(picture(32, 32))
    network.eval()(picture(32, 32))
    gone = [(features == 0).all(dim=(-2, -1)).sum().item() for features in seen]
    assert gone[0] > 0 and gone[1] == 0


def test_the_improved_unet_sums_the_scores_of_three_resolutions() -> None:
    network = build_improved_unet(1, 2, base=2, depth=4).eval()
    assert len(network.score) == 3
    with torch.no_grad():
        for layer in network.score:
            layer.weight.zero_()
            layer.bias.fill_(1.0)
        assert torch.equal(network(picture(64, 40)), torch.full((1, 2, 64, 40), 3.0))


def test_coarse_scores_are_repeated_where_they_are_summed() -> None:
    network = build_improved_unet(1, 2, base=2, depth=3).eval()
    with torch.no_grad():
        for layer in network.score:
            layer.weight.zero_()
            layer.bias.zero_()
        network.score[0].weight.copy_(torch.rand(network.score[0].weight.shape))
        scores = network(picture(64, 40))
    assert scores.std() > 0
    assert torch.equal(scores, scores[..., ::2, ::2].repeat_interleave(2, -1).repeat_interleave(2, -2))


@pytest.mark.parametrize("options", [{"depth": 1}, {"summed": 0}])
def test_an_improved_unet_without_scores_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(LungSegError, match="at least"):
        build_improved_unet(1, 2, **options)


def test_an_ensemble_is_the_mean_of_its_members_probabilities() -> None:
    torch.manual_seed(0)
    network = build_ensemble(1, 3, "conv-unet", 3, {"base": 2, "depth": 2}).eval()
    image = picture(32, 45)
    with torch.inference_mode():
        mean = torch.stack([member(image).softmax(1) for member in network.members]).mean(0)
        torch.testing.assert_close(network(image).exp(), mean)
    assert all(key.startswith(("members.0.", "members.1.", "members.2.")) for key in network.state_dict())


@pytest.mark.parametrize(
    ("decoder", "options"),
    [
        ("Unet", {}),
        ("UnetPlusPlus", {}),
        ("MAnet", {}),
        ("Linknet", {}),
        ("FPN", {}),
        ("PSPNet", {}),
        ("DeepLabV3", {}),
        ("DeepLabV3Plus", {}),
        ("PAN", {}),
        ("UPerNet", {}),
        ("Segformer", {}),
        ("DPT", {"encoder": "tu-vit_tiny_patch16_224", "dynamic_img_size": True}),
    ],
)
def test_every_decoder_takes_any_size(decoder: str, options: dict[str, Any]) -> None:
    network = build_smp(1, 2, decoder, **options).eval()
    with torch.inference_mode():
        assert network(picture(65, 72)).shape == (1, 2, 65, 72)


def test_stages_that_a_decoder_does_not_take_are_dropped() -> None:
    assert not [key for key in build_smp(1, 2, "PSPNet").state_dict() if key.startswith("encoder.layer4")]
    assert [key for key in build_smp(1, 2, "FPN").state_dict() if key.startswith("encoder.layer4")]


def test_what_does_not_go_together_is_told() -> None:
    with pytest.raises(UnknownNameError, match="Known: Unet"):
        build_smp(1, 2, "Unett")
    with pytest.raises(LungSegError, match="'resnet19'"):
        build_smp(1, 2, "FPN", "resnet19")
    with pytest.raises(LungSegError, match="'vgg11'"):
        build_smp(1, 2, "DeepLabV3", "vgg11")
    with pytest.raises(LungSegError, match="'depht'"):
        build_smp(1, 2, "FPN", depht=3)
    with pytest.raises(LungSegError, match="'activation'"):
        build_smp(1, 2, "FPN", activation="sigmoid")
    with pytest.raises(LungSegError, match="'vgg11'"):
        build_unet(1, 2, "vgg11", [8] * 7)


def test_imagenet_weights_are_loaded_where_they_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """The download is replaced by an encoder of ones; the network lacks the encoder's last stage."""

    def fetched(name: str, in_channels: int, depth: int, weights: str) -> nn.Module:
        assert (name, in_channels, weights) == ("resnet18", 1, "imagenet")
        encoder = build_unet(in_channels, 2).encoder
        for values in encoder.parameters():
            values.data.fill_(1.0)
        return encoder

    monkeypatch.setattr(imagenet, "get_encoder", fetched)
    network = build_unet(1, 2, decoder_channels=[16, 8, 8, 8])
    assert imagenet.load_imagenet_weights(network, "resnet18").code == "imagenet-weights"
    assert all((values == 1).all() for values in network.encoder.parameters())


def test_weights_that_cannot_be_fetched_are_told_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> nn.Module:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(imagenet, "get_encoder", refuse)
    network = build_unet(1, 2)
    before = {key: values.clone() for key, values in network.state_dict().items()}
    told = imagenet.load_imagenet_weights(network, "resnet18")
    assert told.code == "no-imagenet-weights" and "no route to host" in told.message
    assert all(torch.equal(values, before[key]) for key, values in network.state_dict().items())


def test_networks_without_an_encoder_have_no_imagenet_weights() -> None:
    assert imagenet.load_imagenet_weights(build_dropout_unet(1, 2, 4, 2), "resnet18").code == "no-imagenet-weights"
