"""How dense: figures of the distribution of values, and those of lung CT in Hounsfield units.

Every voxel under a label counts once and whole: no interpolation, no weights for voxels that are partly lung. Shares have
all voxels of the region as their whole.
"""

from __future__ import annotations

import numpy as np

from .quantity import quantity
from .survey import DENSITY, HIGH_ATTENUATION_HU, Region

# Degrees of aeration: Gattinoni et al., AJRCCM 2001;164:1701, with the first from Vieira et al., AJRCCM 1998;158:1571.
_HYPERAERATED_HU, _NORMAL_HU, _POOR_HU = -900, -500, -100


@quantity("intensity")
def mean(region: Region) -> float | None:
    """Mean of the voxels."""
    return region.values.mean


@quantity("intensity")
def median(region: Region) -> float | None:
    """Median of the voxels (of an even number, the mean of the middle two)."""
    return region.values.percentile(50)


@quantity("intensity")
def sd(region: Region) -> float | None:
    """Standard deviation of the voxels as a whole population (divided by n, as in IBSI, https://ibsi.readthedocs.io)."""
    variance = region.values.moment(2)
    return None if variance is None else float(np.sqrt(variance))


@quantity("share", needs="grey")
def skewness(region: Region) -> float | None:
    """Third standardised moment (IBSI, KE2A); None where all voxels are equal.

    Of lung CT in fibrosis: Best et al., Radiology 2003;228:407.
    """
    return _standardised(region, 3)


@quantity("share", needs="grey")
def kurtosis(region: Region) -> float | None:
    """Fourth standardised moment less 3, so that a normal distribution has 0 (IBSI, IPH6); None where all are equal.

    Of lung CT in fibrosis: Best et al., Radiology 2003;228:407.
    """
    fourth = _standardised(region, 4)
    return None if fourth is None else fourth - 3


@quantity("intensity", needs="HU")
def perc15(region: Region) -> float | None:
    """15th percentile: HU below which 15 % of the voxels lie (add 1000 for g/l).

    Lynch et al. (Fleischner Society), Radiology 2015;277:192.
    """
    return region.values.percentile(15)


@quantity("intensity", needs="HU")
def perc10(region: Region) -> float | None:
    """10th percentile: HU below which 10 % of the voxels lie (add 1000 for g/l)."""
    return region.values.percentile(10)


@quantity("percent", needs="HU")
def laa950(region: Region) -> float | None:
    """LAA-950: voxels below −950 HU, emphysema in inspiration.

    Gevenois et al., AJRCCM 1996;154:187; Lynch et al. (Fleischner Society), Radiology 2015;277:192.
    """
    return _below(region, -950)


@quantity("percent", needs="HU")
def laa910(region: Region) -> float | None:
    """LAA-910: voxels below −910 HU, emphysema on thick slices. Müller et al., Chest 1988;94:782."""
    return _below(region, -910)


@quantity("percent", needs="HU")
def laa856(region: Region) -> float | None:
    """LAA-856: voxels below −856 HU, air trapping; means that only in expiration.

    Busacker et al., Chest 2009;135:48; Schroeder et al. (COPDGene), AJR 2013;201:W460.
    """
    return _below(region, -856)


@quantity("percent", needs="HU")
def haa(region: Region) -> float | None:
    """High-attenuation areas: voxels of −600 to −250 HU (both included), early interstitial disease.

    Lederer et al., AJRCCM 2009;180:407.
    """
    low, high = HIGH_ATTENUATION_HU
    return _percent(region, region.values.within(low, high))


@quantity("percent", needs="HU")
def hyperaerated(region: Region) -> float | None:
    """Voxels below −900 HU. Vieira et al., AJRCCM 1998;158:1571."""
    return _below(region, _HYPERAERATED_HU)


@quantity("percent", needs="HU")
def well_aerated(region: Region) -> float | None:
    """Voxels from −900 to less than −500 HU. Gattinoni et al., AJRCCM 2001;164:1701."""
    return _percent(region, region.values.below(_NORMAL_HU) - region.values.below(_HYPERAERATED_HU))


@quantity("percent", needs="HU")
def poorly_aerated(region: Region) -> float | None:
    """Voxels from −500 to less than −100 HU. Gattinoni et al. 2001."""
    return _percent(region, region.values.below(_POOR_HU) - region.values.below(_NORMAL_HU))


@quantity("percent", needs="HU")
def non_aerated(region: Region) -> float | None:
    """Voxels of −100 HU and more. Gattinoni et al. 2001 end at +100; vessels with contrast count here, too.

    So the four degrees of aeration add up to 100 %.
    """
    return _percent(region, region.values.size - region.values.below(_POOR_HU))


@quantity("mass", needs="HU")
def mass(region: Region) -> float | None:
    """Mass: each voxel's volume times 1 + HU/1000 g/ml, not less than 0 (air weighs nothing, water 1 g/ml).

    Gattinoni et al., ARRD 1987;136:730; Cressoni et al. 2013, https://doi.org/10.1186/cc12738. None where the image has no
    spacing.
    """
    if not region.geometry.is_mm:
        return None
    return float(region.slices[:, DENSITY].sum()) * region.geometry.voxel_volume_mm3 / 1000


def _below(region: Region, limit: float) -> float | None:
    return _percent(region, region.values.below(limit))


def _percent(region: Region, voxels: int) -> float | None:
    return 100 * voxels / region.values.size if region.values.size else None


def _standardised(region: Region, order: int) -> float | None:
    variance, moment = region.values.moment(2), region.values.moment(order)
    return moment / variance ** (order / 2) if variance and moment is not None else None
