"""The U-Net as it was published (Ronneberger et al. 2015, arXiv 1505.04597), with batch norm."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from ...errors import LungSegError
from .blocks import conv_norm_relu
from .u_shape import UNet, UShape


def build_classic_unet(
    in_channels: int, classes: int, base: int = 64, depth: int = 5, padding: str = "same", tile: int = 0
) -> nn.Module:
    """Build the classic U-Net with random weights.

    Parameters
    ----------
    in_channels, classes : of the network
    base : channels at full resolution; doubled at each halving
    depth : number of resolutions
    padding : ``"same"``: convolutions see zeros beyond the border; ``"valid"``: as published, convolutions are not
        padded, and the image is extended by its mirror image so far that every pixel still gets a score
    tile : with ``"valid"``, pixels a side of the pieces that are predicted one by one in evaluation mode; the scores
        are the same, in less memory. 0: the whole image at once

    Raises
    ------
    LungSegError
        When ``padding`` is neither, or tiles are asked of padded convolutions, whose scores they would change.
    """
    if padding not in ("same", "valid") or (padding == "same" and tile):
        raise LungSegError(
            f"The classic U-Net was given padding {padding!r} and tile {tile}. "
            "Padding must be 'same' or 'valid'; tiles need 'valid'."
        )

    def block(before: int, after: int) -> nn.Module:
        kept = padding == "same"
        return nn.Sequential(conv_norm_relu(before, after, padding=kept), conv_norm_relu(after, after, padding=kept))

    if padding == "same":
        return UNet(block, in_channels, classes, base, depth)
    network = MirroredUNet(block, in_channels, classes, base, depth)
    network.tile = tile
    return network


class MirroredUNet(UShape):
    """A U-Net of two unpadded 3×3 convolutions a block, given an image's mirrored surroundings.

    With s = 2 to the power of (depth − 1), it turns 12·s − 8 + out pixels into out, for any out = m·s + 4: 572 into 388
    at the published depth of 5. Pieces that begin at multiples of s see the same pooling grid, so they fit exactly.
    """

    multiple: int
    tile = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores (n, classes, y, x) of the same y and x as the images'."""
        rows, columns = images.shape[-2:]
        down, right = self._steps(rows), self._steps(columns)
        extended = self._surround(images, down, right)
        if self.training or not self.tile:
            return super().forward(extended)[..., :rows, :columns]
        return self._by_tiles(extended, down, right)[..., :rows, :columns]

    def _steps(self, size: int) -> int:
        """The smallest m for which m·s + 4 pixels cover a size."""
        return max(0, -(-(size - 4) // self.multiple))

    @property
    def _lost(self) -> int:
        """Pixels by which scores are smaller than their input."""
        return 12 * self.multiple - 8

    def _surround(self, images: torch.Tensor, down: int, right: int) -> torch.Tensor:
        before = self._lost // 2
        rows, columns = images.shape[-2:]
        y = mirrored(rows, before, down * self.multiple + 4 + self._lost, images.device)
        x = mirrored(columns, before, right * self.multiple + 4 + self._lost, images.device)
        return images.index_select(-2, y).index_select(-1, x)

    def _by_tiles(self, extended: torch.Tensor, down: int, right: int) -> torch.Tensor:
        step = max(1, (self.tile - 4) // self.multiple)
        out: list[list[torch.Tensor]] = []
        for top, rows in _pieces(down, step):
            out.append([])
            for left, columns in _pieces(right, step):
                out[-1].append(self._piece(extended, (top, rows), (left, columns), (down, right)))
        return torch.cat([torch.cat(row, dim=-1) for row in out], dim=-2)

    def _piece(
        self, extended: torch.Tensor, y: tuple[int, int], x: tuple[int, int], last: tuple[int, int]
    ) -> torch.Tensor:
        """Scores of one piece, without the 4 pixels that the next one gives as well."""
        s = self.multiple
        (top, rows), (left, columns) = y, x
        part = extended[..., top * s :, left * s :][..., : rows * s + 4 + self._lost, : columns * s + 4 + self._lost]
        height = rows * s + (4 if top + rows == last[0] else 0)
        width = columns * s + (4 if left + columns == last[1] else 0)
        return super().forward(part)[..., :height, :width]


def _pieces(total: int, step: int) -> Iterator[tuple[int, int]]:
    """(start, length) of pieces of at most ``step`` that cover ``total``."""
    for start in range(0, max(total, 1), step):
        yield start, min(step, total - start)


def mirrored(size: int, before: int, total: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Which of ``size`` pixels stands at each of ``total`` places, ``before`` of them in front; mirrored as often as needed."""
    place = torch.arange(-before, total - before, device=device).abs() % max(1, 2 * (size - 1))
    return torch.where(place < size, place, 2 * (size - 1) - place)
