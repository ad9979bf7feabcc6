"""torchxrayvision's PSPNet for ChestX-Det (Lian et al. 2021, arXiv 2104.10326), without the download in its constructor."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import nn

# Of ImageNet, on which its encoder was trained.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_STRUCTURES = 14


def build_chestx_det(in_channels: int, classes: int, channels: Sequence[int]) -> nn.Module:
    """Build it with random weights.

    Parameters
    ----------
    in_channels : 1
    classes : structures to be told, and background
    channels : of the published network, one for each structure

    Returns
    -------
    Maps (n, 1, y, x) images of 0…1 to logits (n, classes, y, x).
    """
    from torchxrayvision.baseline_models.chestx_det.ptsemseg.pspnet import pspnet

    if in_channels != 1 or classes != len(channels) + 1:
        raise ValueError(f"{classes} classes of {in_channels} channels do not go with {len(channels)} structures")
    return ChestXDet(pspnet(_STRUCTURES), channels)


def convert_chestx_det(published: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Published weights, saved from several GPUs, as ours."""
    return {f"network.{name.removeprefix('module.')}": tensor for name, tensor in published.items()}


class ChestXDet(nn.Module):
    """Makes classes of which one holds out of structures that may lie over each other.

    Each structure of the network has its own sigmoid. Beside a background of logit 0 the highest logit is the structure
    that is likeliest, and one that is less likely than not stays background.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, network: nn.Module, channels: Sequence[int]) -> None:
        super().__init__()
        self.network, self.channels = network, list(channels)
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION)[:, None, None], persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 1, y, x), 0…1 → (n, classes, y, x)."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*upsample.*deprecated")  # theirs to mend
            scores = self.network((images.expand(-1, 3, -1, -1) - self.mean) / self.deviation)
        structures = (scores[-1] if isinstance(scores, tuple) else scores)[:, self.channels]
        return torch.cat([torch.zeros_like(structures[:, :1]), structures], dim=1)
