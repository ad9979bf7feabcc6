"""Predicted Dice, interval and light, from calibrations made by hand."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_lungseg.findings import Finding
from napari_lungseg.models.spec import ModelSpec
from napari_lungseg.segmentation.calibration import Calibration, Prediction, Term, predictions
from napari_lungseg.segmentation.confidence import Confidence, confidence_of, judge
from napari_lungseg.segmentation.quality import DOUBTS
from napari_lungseg.volume import LUNG_NAMES, Geometry, LabelMap

CALIBRATION = Calibration(
    terms=(
        Term("expected_dice", 1.0, -2.2, -0.5),
        Term("turned", 0.5, -2.5, -0.3),
        Term("hollow", 2.0, 0.0, 0.5, log=False),
    ),
    doubt=(-3.0, -2.0, 0.0),
    dice=(0.97, 0.92, 0.4),
    low=(0.95, 0.85, 0.0),
    high=(0.99, 0.96, 0.7),
    level=0.9,
    flag_below=0.93,
    about="made by hand",
)
SPEC = ModelSpec("xray", "unet", names=LUNG_NAMES, training={"quality": {"calibration": CALIBRATION.as_record()}})
SOUND = {"right": 0.2, "left": 0.2, "expected_dice": 0.985, "turned": 0.99, "hollow": 0.05}
SHARES = st.floats(0, 1)


def test_it_survives_the_header_of_a_model_file() -> None:
    assert Calibration.of(ModelSpec.from_json(SPEC.to_json())).predict(SOUND) == CALIBRATION.predict(SOUND)
    json.dumps(CALIBRATION.as_record(), allow_nan=False)


def test_the_sum_is_what_it_says() -> None:
    doubt = np.log10(0.017) + 0.5 * np.log10(0.012) + 2 * 0.05
    assert CALIBRATION.sum_of(SOUND) == pytest.approx(doubt)
    (found,) = predictions([SOUND], SPEC)
    assert found is not None
    assert found.dice == pytest.approx(np.interp(doubt, (-3, -2, 0), (0.97, 0.92, 0.4)), abs=1e-4)
    assert found.low < found.dice < found.high and not found.odd


@given(st.sampled_from(["expected_dice", "turned", "hollow"]), SHARES, SHARES, SHARES, SHARES)
def test_worse_signs_never_predict_better(sign: str, one: float, other: float, rest: float, hollow: float) -> None:
    values = {"right": 1.0, "left": 1.0, "expected_dice": rest, "turned": rest, "hollow": hollow}
    better, worse = sorted((one, other), reverse=sign != "hollow")
    good, bad = (CALIBRATION.predict({**values, sign: value}) for value in (better, worse))
    assert good is not None and bad is not None
    assert bad.dice <= good.dice and bad.low <= good.low and bad.high <= good.high
    assert 0 <= bad.low <= bad.dice <= bad.high <= 1


def test_what_no_calibration_case_looked_like_gets_a_wide_interval() -> None:
    usual, odd = (CALIBRATION.predict({**SOUND, "hollow": hollow}) for hollow in (0.5, 0.6))
    assert usual is not None and odd is not None
    assert odd.odd and odd.low == 0 and odd.dice == usual.dice and not usual.odd and usual.low > 0


def test_no_lung_has_a_dice_of_zero_or_one() -> None:
    (found,) = predictions([{**SOUND, "right": 0.0, "left": 0.0}], SPEC)
    assert found is not None and (found.dice, found.low, found.high, found.odd) == (0.0, 0.0, 1.0, True)


def test_without_a_calibration_or_a_sign_nothing_is_predicted() -> None:
    plain = dataclasses.replace(SPEC, training={"quality": {"expected_dice": 0.95}})
    assert predictions([SOUND, SOUND], plain) == [None, None]
    assert predictions([{name: value for name, value in SOUND.items() if name != "turned"}], SPEC) == [None]


DOUBT = Finding("ragged-outline", "The outline is ragged.")
NOTE = Finding("lung-cut-off", "A lung reaches the edge.")


@pytest.mark.parametrize(
    ("predicted", "findings", "light"),
    [
        (Prediction(0.96, 0.94, 0.98), [], "green"),
        (Prediction(0.96, 0.94, 0.98), [NOTE], "green"),
        (Prediction(0.96, 0.94, 0.98), [NOTE, DOUBT], "amber"),
        (Prediction(0.70, 0.40, 0.88), [Finding("low-confidence", "Low.")], "red"),
        (Prediction(0.0, 0.0, 1.0), [Finding("no-lung-found", "None.")], "red"),
        (None, [], "grey"),
        (None, [DOUBT], "amber"),
        (None, [Finding("no-lung-found", "None.")], "red"),
    ],
)
def test_the_light_and_its_reason(predicted: Prediction | None, findings: list[Finding], light: str) -> None:
    found = judge([predicted], findings)
    assert found.light == light
    doubts = [finding.message for finding in findings if finding.code in DOUBTS]
    assert found.reason == doubts[0] if doubts else "Nothing doubtful" in found.reason
    assert ("never calibrated" in found.reason) == (light == "grey")
    assert found.predicted_dice == (predicted.dice if predicted else None)


def test_of_several_radiographs_the_worst_counts() -> None:
    found = judge([Prediction(0.96, 0.9, 0.98), Prediction(0.91, 0.8, 0.97), None], [])
    assert (found.predicted_dice, found.low, found.high) == (0.91, 0.8, 0.97)
    assert str(found) == "good; predicted Dice 0.91 (0.80 to 0.97 in 90% of cases)"


def test_it_travels_in_the_record_of_the_labels() -> None:
    said = judge([Prediction(0.96, 0.94, 0.98)], [])
    labels = LabelMap(np.zeros((1, 4, 5), np.uint8), Geometry((1, 4, 5)), record={"confidence": said.as_record()})
    assert confidence_of(labels) == said and isinstance(said, Confidence)
    assert confidence_of(dataclasses.replace(labels, record={})) is None
