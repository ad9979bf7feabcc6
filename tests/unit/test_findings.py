"""Findings read as sentences and are found by their code."""

from __future__ import annotations

from napari_lungseg.findings import Finding, has_finding

FOUND = (Finding("missing-slices", "Two slices are missing."), Finding("no-spacing", "The file gives no spacing."))


def test_a_finding_prints_as_its_sentence() -> None:
    assert str(FOUND[0]) == "Two slices are missing."


def test_codes_are_looked_up_exactly() -> None:
    assert has_finding(FOUND, "no-spacing")
    assert not has_finding(FOUND, "missing")
    assert not has_finding((), "no-spacing")
