"""Which results to look at first: what the network itself doubts, and what no chest looks like.

The threshold of "low-confidence" belongs to the model: of the predicted Dice where it is calibrated, else of the Dice that
the network expects of itself, ``spec.training["quality"]["expected_dice"]``, chosen on validation cases by
``benchmarks/tune_quality.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..findings import Finding
from ..models.spec import ModelSpec
from ..volume import Volume
from .calibration import Prediction, predictions
from .lung_statistics import LungStatistics, lungs_of

# Below this, a model whose record names no threshold of its own is doubted.
EXPECTED_DICE = 0.955
# Lung volumes of adults, both sides, from deep expiration after resection to deep inspiration with emphysema.
LUNG_VOLUME_ML = (900.0, 11_000.0)
# Share of a frontal radiograph that both lungs cover.
LUNG_SHARE = (0.08, 0.75)
SMALLEST_SIDE_SHARE = 0.2
# An outline this many times longer than its box's is frayed; a smooth lung has 1.0 to 1.3.
ROUGHNESS = 1.8
CUT_OFF_SHARE = 0.15
LUNG_MEDIAN_HU = (-980.0, -450.0)
AIR_BELOW_HU = -850.0
# Both lungs together, from a newborn's to a tall man's in deep inspiration, with a margin for partial pictures.
LUNGS_WIDE_MM = (60.0, 450.0)
LUNGS_HIGH_MM = (30.0, 450.0)
# Findings that say why the labels may be wrong; the others tell what is special about the scan.
DOUBTS = frozenset(
    {
        "no-lung-found",
        "one-lung-missing",
        "low-confidence",
        "lungs-unequal",
        "lung-size-unusual",
        "ragged-outline",
        "lung-not-air",
        "hounsfield-offset",
        "sides-by-position",
        "sides-swapped",
        "much-removed",
        "many-fragments",
        "spacing-suspicious",
    }
)


def check(measured: Sequence[LungStatistics], view: Volume, spec: ModelSpec) -> list[Finding]:
    """Say what about a result deserves a look.

    Parameters
    ----------
    measured : from `statistics`
    view : the scan in the standard view
    spec : of the model that made the labels; one without a right and a left lung is only asked for its confidence

    Returns
    -------
    findings; those whose code is in `DOUBTS` say why the labels may be wrong
    """
    findings: list[Finding] = []
    predicted = predictions([values.as_record() for values in measured], spec)
    for number, (values, prediction) in enumerate(zip(measured, predicted, strict=True), start=1):
        where = f" in image {number}" if len(measured) > 1 else ""
        single = view.is_frames or view.geometry.shape[0] == 1
        findings += _judge(values, prediction, view, spec, where, single=single)
    return findings


def _judge(
    values: LungStatistics, predicted: Prediction | None, view: Volume, spec: ModelSpec, where: str, *, single: bool
) -> list[Finding]:
    lungs = all(lungs_of(spec))
    if values.right == values.left == 0:
        what = "lung" if lungs else "structure that this model knows"
        return [
            Finding(
                "no-lung-found", f"No {what} was found{where}. Is this the right kind of image, and the right model?"
            )
        ]
    findings = [_doubt_confidence(values, predicted, spec, where)]
    if lungs:
        findings += [
            _doubt_sides(values, where, single and view.modality == "ct"),
            _doubt_size(values, view, where, single),
        ]
        findings += [_doubt_outline(values, where), _note_cut_off(values, where), _doubt_spacing(values, where)]
    findings += [_doubt_lung_hu(values, where), _doubt_air_hu(values)] if view.unit == "HU" and lungs else []
    return [finding for finding in findings if finding is not None]


def _doubt_confidence(
    values: LungStatistics, predicted: Prediction | None, spec: ModelSpec, where: str
) -> Finding | None:
    quality = spec.training.get("quality", {})
    if predicted is not None:
        wanted = float(quality["calibration"]["flag_below"])
        if predicted.dice >= wanted:
            return None
        odd = " It is unlike everything that the prediction was made from." if predicted.odd else ""
        return Finding(
            "low-confidence",
            f"The result{where} may be wrong: its predicted Dice is {predicted}, under the {wanted:.2f} of results worth "
            f"trusting.{odd} Look at it before use.",
        )
    wanted = float(quality.get("expected_dice", EXPECTED_DICE))
    if values.expected_dice >= wanted:
        return None
    return Finding(
        "low-confidence",
        f"The result{where} may be wrong: the network was often unsure. Look at it before use. (It expects to be right to "
        f"{values.expected_dice:.1%}, as Dice; of results worth trusting it expects {wanted:.1%} or more.)",
    )


def _doubt_sides(values: LungStatistics, where: str, one_slice: bool) -> Finding | None:
    if min(values.right, values.left) == 0:
        present, missing = ("right", "left") if values.right else ("left", "right")
        cause = "it may lie outside this slice" if one_slice else "it may be collapsed, removed or overlooked"
        return Finding(
            "one-lung-missing", f"Only the {present} lung was found{where}; the {missing} one is missing: {cause}."
        )
    if values.balance >= SMALLEST_SIDE_SHARE or one_slice:
        return None
    smaller = "right" if values.right < values.left else "left"
    message = f"The {smaller} lung is only {values.balance:.0%} of the other's size{where}: disease, or a miss."
    return Finding("lungs-unequal", message)


def _doubt_size(values: LungStatistics, view: Volume, where: str, single: bool) -> Finding | None:
    total = values.right + values.left
    if view.modality == "ct":
        if single or not view.geometry.is_mm or values.cut_off > CUT_OFF_SHARE:
            return None
        (low, high), found = LUNG_VOLUME_ML, f"{total:.0f} ml"
    else:
        (low, high), found = LUNG_SHARE, f"{total:.0%} of the image"
    if low <= total <= high:
        return None
    size = "small" if total < low else "large"
    return Finding("lung-size-unusual", f"The lungs{where} measure {found}, which is unusually {size}.")


def _doubt_outline(values: LungStatistics, where: str) -> Finding | None:
    if values.roughness <= ROUGHNESS:
        return None
    return Finding("ragged-outline", f"The outline of a lung{where} is ragged, as it is where the model lost its way.")


def _note_cut_off(values: LungStatistics, where: str) -> Finding | None:
    if values.cut_off <= CUT_OFF_SHARE:
        return None
    return Finding(
        "lung-cut-off", f"A lung{where} reaches the edge of the image: volumes are those of the part that is shown."
    )


def _doubt_spacing(values: LungStatistics, where: str) -> Finding | None:
    width, height = values.width_mm, values.height_mm
    if min(values.right, values.left) == 0 or np.isnan(width) or values.cut_off > CUT_OFF_SHARE:
        return None
    if LUNGS_WIDE_MM[0] <= width <= LUNGS_WIDE_MM[1] and LUNGS_HIGH_MM[0] <= height <= LUNGS_HIGH_MM[1]:
        return None
    return Finding(
        "spacing-suspicious",
        f"The lungs{where} would be {width:.0f} mm wide and {height:.0f} mm high, which no chest is: the spacing in the file "
        "is probably wrong, and so are all volumes. The labels may be right; set the true spacing.",
    )


def _doubt_lung_hu(values: LungStatistics, where: str) -> Finding | None:
    low, high = LUNG_MEDIAN_HU
    if low <= values.lung_hu <= high or np.isnan(values.lung_hu):
        return None
    kind = (
        "denser than air-filled lung: consolidation, fluid, or not lung"
        if values.lung_hu > high
        else "free gas, not lung"
    )
    return Finding(
        "lung-not-air", f"Half of what is labelled{where} lies beyond {values.lung_hu:.0f} HU; this is {kind}."
    )


def _doubt_air_hu(values: LungStatistics) -> Finding | None:
    if np.isnan(values.air_hu) or values.air_hu <= AIR_BELOW_HU:
        return None
    return Finding(
        "hounsfield-offset",
        f"The darkest voxels are about {values.air_hu:.0f} HU, where air should be near -1000. "
        "The values may be shifted; check the rescale intercept.",
    )
