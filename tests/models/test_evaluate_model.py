"""The bundled X-ray model on real test cases, evaluated the whole way by the command line."""

from __future__ import annotations

import json

import pytest
from command_line import runner


@pytest.mark.slow
def test_the_bundled_model_on_real_test_cases(test_data, capsys, tmp_path):
    lungseg = runner(capsys)
    done = lungseg("evaluate", "--model", "xray-lungs", test_data / "xray", "--limit", 3, "-o", tmp_path, "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert (result["split"], result["limit"]) == ("test", "the first 3 of 50 cases")
    dice = {r["name"]: r for r in result["summary"] if r["metric"] == "dice"}
    assert set(dice) == {"right lung", "left lung", "both"}
    assert all(0.9 < row["mean"] <= 1 for row in dice.values())
    assert dice["both"]["low"] <= dice["both"]["mean"] <= dice["both"]["high"]
    assert (tmp_path / "report.html").stat().st_size > 100_000
