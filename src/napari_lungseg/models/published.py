"""Models that others published: what they are, and where their weights lie. Nothing here is fetched before it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from .spec import ModelSpec, Preprocessing


@dataclass(frozen=True)
class Offer:
    """A model whose weights are fetched when it is first chosen, and made into a model file once.

    Parameters
    ----------
    spec : of the model file to be made
    url : of the published weights, a PyTorch file of tensors
    sha256 : the digest of that file or how it begins; "" where none was published
    convert : ``"package.module:function"`` that makes the network's ``state_dict`` of the published one
    megabytes : to be fetched, about
    build : ``"package.module:function"`` that builds the network; "" takes the spec's architecture from the table
    needs : package without which the network cannot be built; "" where this one is enough
    cure : how that is installed
    same_as : name of an offer with the same weights, which are then fetched and stored once
    """

    spec: ModelSpec
    url: str
    sha256: str
    convert: str
    megabytes: int
    build: str = ""
    needs: str = ""
    cure: str = ""
    same_as: str = ""

    @property
    def filename(self) -> str:
        """Of the published weights."""
        return urlsplit(self.url).path.rpartition("/")[2]


_LUNGMASK_RELEASE = "https://github.com/JoHof/lungmask/releases/download/v0.0/"
_LUNGS = {1: "right lung", 2: "left lung"}
_LOBES = {
    1: "left upper lobe",
    2: "left lower lobe",
    3: "right upper lobe",
    4: "right middle lobe",
    5: "right lower lobe",
}


def _lungmask(name: str, filename: str, names: Mapping[int, str]) -> Offer:
    spec = ModelSpec(
        name=name,
        architecture="lungmask-unet",
        preprocessing=Preprocessing(size=(256, 256), window=(-1024.0, 600.0), fit="lungmask"),
        names=names,
        version="0.0",
        licence="Apache-2.0",
        training={"data": "see https://doi.org/10.1186/s41747-020-00173-2", "source": "lungmask, release v0.0"},
    )
    # The release's names end with the beginning of the SHA-256.
    digest = filename.removesuffix(".pth").rpartition("-")[2]
    convert = "napari_lungseg.models.networks.lungmask:convert_lungmask"
    return Offer(spec, _LUNGMASK_RELEASE + filename, digest, convert, megabytes=125)


LUNGMASK: Mapping[str, Offer] = {
    offer.spec.name: offer
    for offer in (
        _lungmask("lungmask-r231", "unet_r231-d5d2fc3d.pth", _LUNGS),
        _lungmask("lungmask-ltrclobes", "unet_ltrclobes-3a07043d.pth", _LOBES),
        _lungmask("lungmask-r231covid", "unet_r231covid-0de78a7e.pth", _LUNGS),
    )
}
"""Name → lungmask's three published models."""

# Our label → the channel of torchxrayvision's network. Where structures lie over each other, the likeliest takes the pixel.
_CHESTX_DET = {
    "right lung": 5,
    "left lung": 4,
    "heart": 8,
    "aorta": 9,
    "mediastinum": 11,
    "trachea": 12,
    "spine": 13,
    "diaphragm": 10,
    "right clavicle": 1,
    "left clavicle": 0,
    "right scapula": 3,
    "left scapula": 2,
    "right hilum": 7,
    "left hilum": 6,
}


def _chestx_det(name: str, structures: Sequence[str], same_as: str = "") -> Offer:
    spec = ModelSpec(
        name=name,
        architecture="chestx-det-pspnet",
        options={"channels": [_CHESTX_DET[structure] for structure in structures]},
        modality="xray",
        unit="a.u.",
        preprocessing=Preprocessing(size=(512, 512), percentiles=(0.0, 100.0)),
        names=dict(enumerate(structures, start=1)),
        version="1",
        licence="Apache-2.0",
        training={"data": "ChestX-Det, see https://arxiv.org/abs/2104.10326", "source": "torchxrayvision, release v1"},
    )
    return Offer(
        spec,
        "https://github.com/mlmed/torchxrayvision/releases/download/v1/pspnet_chestxray_best_model_4.pth",
        sha256="",
        convert="napari_lungseg.models.networks.chestx_det:convert_chestx_det",
        megabytes=273,
        build="napari_lungseg.models.networks.chestx_det:build_chestx_det",
        needs="torchxrayvision",
        cure="pip install 'napari-lungseg[xrv]'",
        same_as=same_as,
    )


CHESTX_DET = _chestx_det("chestx-det", list(_CHESTX_DET))
"""torchxrayvision's PSPNet: lungs, heart, mediastinum and bones on chest X-rays."""
CHESTX_DET_LUNGS = _chestx_det("chestx-det-lungs", ["right lung", "left lung"], same_as="chestx-det")
"""Of the same network the lungs alone, with what bones and heart would take of them."""
