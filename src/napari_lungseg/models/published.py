"""Models that others published: what they are, and where their weights lie. Nothing here is fetched before it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
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
    """

    spec: ModelSpec
    url: str
    sha256: str
    convert: str
    megabytes: int
    build: str = ""
    needs: str = ""
    cure: str = ""

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
