"""Networks, the files that hold their weights, and the catalogue of both."""

from __future__ import annotations

from ..registry import Table

ARCHITECTURES = Table(
    "architecture",
    {
        "lungmask-unet": "napari_lungseg.models.networks.lungmask:build_lungmask_unet",
        "unet": "napari_lungseg.models.networks.unet:build_unet",
    },
)
"""Name → function that builds a network from ``in_channels``, ``classes`` and the options of a `ModelSpec`."""
