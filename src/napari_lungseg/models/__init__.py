"""Networks, the files that hold their weights, and the catalogue of both."""

from __future__ import annotations

from ..registry import Table

ARCHITECTURES = Table(
    "architecture",
    {
        "basic-unet": "napari_lungseg.models.networks.basic_unet:build_basic_unet",
        "classic-unet": "napari_lungseg.models.networks.classic_unet:build_classic_unet",
        "conv-unet": "napari_lungseg.models.networks.conv_unet:build_conv_unet",
        "dropout-unet": "napari_lungseg.models.networks.dropout_unet:build_dropout_unet",
        "ensemble": "napari_lungseg.models.networks.ensemble:build_ensemble",
        "improved-unet": "napari_lungseg.models.networks.improved_unet:build_improved_unet",
        "inception-unet": "napari_lungseg.models.networks.inception_unet:build_inception_unet",
        "lungmask-unet": "napari_lungseg.models.networks.lungmask:build_lungmask_unet",
        "smp": "napari_lungseg.models.networks.smp:build_smp",
        "unet": "napari_lungseg.models.networks.unet:build_unet",
    },
)
"""Name → function that builds a network from ``in_channels``, ``classes`` and the options of a `ModelSpec`."""
