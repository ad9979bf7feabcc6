"""Disease and clutter pasted into training images: what three patients and two hundred radiographs do not show.

Images are scaled to 0…1; labels are 0, 1, 2. Everything random is drawn from the generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from ..registry import Table
from .draw import chance, integer, normal, smooth, uniform

# Grey levels of the CT window (−1024, 600): water 0 HU, tissue 60 HU, air −1000 HU.
_WATER, _TISSUE, _AIR = 0.63, 0.67, 0.015
_CONTRASTED = 0.74  # 180 HU: liver or spleen with contrast agent


Change = Callable[[torch.Tensor, torch.Tensor, torch.Generator], torch.Tensor]

CHANGES = Table(
    "pasted change",
    {
        "clutter": f"{__name__}:paste_clutter",
        "consolidation": f"{__name__}:paste_consolidation",
        "effusion": f"{__name__}:paste_effusion",
        "gas": f"{__name__}:paste_gas",
        "opacity": f"{__name__}:paste_opacity",
    },
)
"""Name → function that changes images (n, 1, y, x) in 0…1 with labels 1 and 2 for the lungs."""


def paste_some(
    change: Change, images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator, probability: float
) -> torch.Tensor:
    """Apply one of the changes below to a random share of a batch.

    Parameters
    ----------
    change : ``paste_consolidation``, ``paste_gas`` …
    images : (n, 1, y, x) float32, 0…1
    labels : (n, y, x)
    generator : source of all randomness
    probability : of each image to be changed
    """
    chosen = torch.nonzero(chance(len(images), probability, generator)).flatten()
    if not len(chosen):
        return images
    return images.index_copy(0, chosen, change(images[chosen], labels[chosen], generator))


def _smooth_field(n: int, size: torch.Size, cells: int, generator: torch.Generator) -> torch.Tensor:
    """(n, 1, y, x) random field of about unit variance, smooth at ``1 / cells`` of the image."""
    field = normal(n, 1, cells, cells, generator=generator)
    return smooth(field, size, align_corners=False)


def _soft_ellipse(n: int, size: torch.Size, radii: tuple[float, float], generator: torch.Generator) -> torch.Tensor:
    """(n, 1, y, x) ellipses with soft edges, anywhere; ``radii`` (smallest, largest) of the image's size."""
    rows = torch.linspace(0, 1, size[0], device=generator.device)[None, None, :, None]
    columns = torch.linspace(0, 1, size[1], device=generator.device)[None, None, None, :]
    centre = uniform(2, n, 1, 1, 1, generator=generator)
    radius = uniform(2, n, 1, 1, 1, generator=generator) * (radii[1] - radii[0]) + radii[0]
    distance = ((rows - centre[0]) / radius[0]) ** 2 + ((columns - centre[1]) / radius[1]) ** 2
    return torch.sigmoid((1 - distance) * 12)


def paste_consolidation(images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Fill random parts of the lungs with tissue, from ground glass to a white lung (CT)."""
    n = len(images)
    cells = integer(3, 12, generator)
    field = _smooth_field(n, images.shape[-2:], cells, generator)
    threshold = uniform(n, 1, 1, 1, generator=generator) * 2.0 - 0.6
    density = 0.3 + 0.7 * uniform(n, 1, 1, 1, generator=generator)
    lung = functional.avg_pool2d((labels > 0).float()[:, None], 3, stride=1, padding=1)
    share = torch.sigmoid((field - threshold) * 8) * lung * density
    level = _WATER + (_TISSUE - _WATER) * 1.5 * uniform(n, 1, 1, 1, generator=generator)
    return images * (1 - share) + level * share


def paste_effusion(images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Fill the dependent (lower in the picture) part of one or both lungs with water (CT)."""
    n, _, rows, _ = images.shape
    y = torch.linspace(0, 1, rows, device=images.device)[None, None, :, None]
    level = 0.45 + 0.4 * uniform(n, 1, 1, 1, generator=generator)
    wave = 0.03 * _smooth_field(n, images.shape[-2:], 4, generator)
    # Bit 0: right lung, bit 1: left lung.
    sides = torch.randint(1, 4, (n, 1, 1), generator=generator, device=generator.device)
    filled = ((labels == 1) & (sides % 2 == 1)) | ((labels == 2) & (sides >= 2))
    lung = functional.avg_pool2d(filled.float()[:, None], 3, stride=1, padding=1)
    share = torch.sigmoid((y + wave - level) * 60) * lung
    return images * (1 - share) + _WATER * share


def paste_gas(images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Put gas bubbles, as of stomach and bowel, into soft tissue outside the lungs (CT)."""
    n = len(images)
    bubble = _soft_ellipse(n, images.shape[-2:], (0.02, 0.2), generator)
    near_lung = functional.max_pool2d((labels > 0).float()[:, None], 7, stride=1, padding=3)
    tissue = ((images > 0.5) & (near_lung == 0)).float()
    share = bubble * functional.avg_pool2d(tissue, 3, stride=1, padding=1)
    return images * (1 - share) + _AIR * share


def paste_dome(
    images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator, probability: float = 0.2
) -> tuple[torch.Tensor, torch.Tensor]:
    """Let a dome of the diaphragm rise into lungs: even tissue with a sharp, round edge, which is no lung any more (CT).

    A slice through a dome shows the liver or the spleen as an island in the lung. A network that has learned to see through
    consolidations takes that for one, unless it is shown what tells them apart.
    """
    n, _, rows, columns = images.shape
    lung = labels > 0
    chosen = chance(n, probability, generator) & lung.flatten(1).any(1)
    where = torch.multinomial(lung.flatten(1).float() + 1e-9, 1, generator=generator)
    centre = torch.cat([where // columns / rows, where % columns / columns], 1)
    radii = uniform(n, 2, generator=generator, low=0.05, high=0.2)
    y = torch.linspace(0, 1, rows, device=images.device)[None, :, None]
    x = torch.linspace(0, 1, columns, device=images.device)[None, None, :]
    distance = ((y - centre[:, :1, None]) / radii[:, :1, None]) ** 2 + (
        (x - centre[:, 1:, None]) / radii[:, 1:, None]
    ) ** 2
    wave = 0.12 * _smooth_field(n, images.shape[-2:], 6, generator)[:, 0]
    dome = (distance + wave < 1) & lung & chosen[:, None, None]
    level = uniform(n, 1, 1, 1, generator=generator, low=_WATER, high=_CONTRASTED)
    grain = normal(*images.shape, generator=generator) * uniform(n, 1, 1, 1, generator=generator, high=0.015)
    soft = functional.avg_pool2d(dome.float()[:, None], 3, stride=1, padding=1)
    return images * (1 - soft) + (level + grain) * soft, torch.where(dome, 0, labels)


def paste_opacity(images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Brighten random parts of the lungs, up to a white lung (X-ray)."""
    n = len(images)
    cells = integer(3, 9, generator)
    field = _smooth_field(n, images.shape[-2:], cells, generator)
    threshold = uniform(n, 1, 1, 1, generator=generator) * 1.8 - 0.6
    lung = functional.avg_pool2d((labels > 0).float()[:, None], (9, 1), stride=1, padding=(4, 0))
    lung = functional.avg_pool2d(lung, (1, 9), stride=1, padding=(0, 4))
    strength = 0.6 * uniform(n, 1, 1, 1, generator=generator)
    share = torch.sigmoid((field - threshold) * 4) * lung * strength
    return images + (0.9 - images).clamp(min=0) * share


def paste_clutter(images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Draw tubes, leads, letters and electrodes over images (X-ray); labels do not matter."""
    return torch.stack([_draw_clutter(image[0], generator)[None] for image in images])


def _draw_clutter(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    import numpy as np
    from PIL import Image, ImageDraw

    rows, columns = image.shape
    rng = np.random.default_rng(integer(0, 2**31, generator))
    canvas = Image.fromarray((image.cpu().numpy() * 255).astype(np.uint8))
    pen = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(0, 4)):  # tubes and leads: smooth random walks
        turns = np.cumsum(rng.normal(0, 0.12, 24)) + rng.uniform(0, 2 * np.pi)
        path = np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1) * rng.uniform(0.01, 0.05) * columns, 0)
        path += rng.uniform(0, 1, 2) * (columns, rows)
        grey = int(rng.integers(140, 256))
        pen.line([tuple(point) for point in path.tolist()], fill=grey, width=int(rng.integers(1, 4)))
    for _ in range(rng.integers(0, 3)):  # side markers and burned-in text
        text = "".join(rng.choice(list("RLAPSUPINE0123456789:.cm"), rng.integers(1, 12)))
        where = tuple((rng.uniform(0, 0.95, 2) * (columns, rows)).tolist())
        pen.text(where, text, fill=int(rng.choice([0, 200, 255])), font_size=float(rng.uniform(8, 26)))
    if rng.random() < 0.3:  # a pacemaker or an electrode
        x, y = rng.uniform(0.1, 0.9, 2) * (columns, rows)
        radius = rng.uniform(2, 14)
        pen.ellipse([x - radius, y - radius, x + radius, y + radius * 0.7], fill=int(rng.integers(200, 256)))
    return torch.from_numpy(np.array(canvas)).to(image.device).float() / 255


def paste_border(
    images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator, probability: float = 0.25
) -> tuple[torch.Tensor, torch.Tensor]:
    """Blank random margins of images and labels, as collimation and screenshots do."""
    n, _, rows, columns = images.shape
    widths = (
        uniform(4, n, 1, 1, generator=generator) ** 2 * 0.12 * (uniform(n, 1, 1, generator=generator) < probability)
    )
    y = torch.linspace(0, 1, rows, device=images.device)[None, :, None]
    x = torch.linspace(0, 1, columns, device=images.device)[None, None, :]
    inside = (y >= widths[0]) & (y <= 1 - widths[1]) & (x >= widths[2]) & (x <= 1 - widths[3])
    level = (uniform(n, 1, 1, 1, generator=generator) > 0.75).float()
    return torch.where(inside[:, None], images, level), torch.where(inside, labels, 0)
