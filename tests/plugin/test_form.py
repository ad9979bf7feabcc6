"""A settings dataclass becomes a form and comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from napari_lungseg.plugin.form import SettingsForm
from napari_lungseg.segmentation.predict import SegmentSettings
from napari_lungseg.settings import fields_of, setting, validate


@dataclass(frozen=True)
class Example:
    """One field of each kind."""

    count: int = setting(4, "How many.", min=1, max=9)
    share: float = setting(0.25, "How much.", unit="mm", min=0.0, max=1.0)
    kind: str = setting("one", "Which.", choices=("one", "two"))
    wanted: bool = setting(True, "Whether.", advanced=True)
    small: float = setting(2e-5, "A small number.", min=0.0, max=1.0, advanced=True)
    nothing: float = setting(0.0, "Nothing at first.", min=0.0, max=1.0, advanced=True)

    def __post_init__(self) -> None:
        validate(self)


@pytest.fixture(autouse=True)
def application(qapp: Any) -> None:
    """Magicgui needs one."""


def test_defaults_labels_and_bounds_come_from_the_dataclass() -> None:
    form = SettingsForm(Example)
    assert form.settings == Example()
    assert [row.name or row.label for row in form.plain] and len(form.plain) == 3 and len(form.advanced) == 3
    count, share, kind = form.plain
    assert (count.min, count.max, count.tooltip) == (1, 9, "How many.")
    assert share.label == "share (mm)" and tuple(kind.choices) == ("one", "two")


def test_edits_arrive() -> None:
    edits: list[Example] = []
    form = SettingsForm(Example, lambda: edits.append(form.settings))
    form.plain[0].value = 7
    form.plain[2].value = "two"
    assert edits[-1] == Example(count=7, kind="two")


def test_small_numbers_keep_their_digits() -> None:
    form = SettingsForm(Example)
    form.update({"small": 3e-6, "nothing": 5e-4})
    assert form.settings == Example(small=3e-6, nothing=5e-4)


def test_what_no_longer_fits_keeps_its_default() -> None:
    form = SettingsForm(Example)
    form.update({"count": 99, "share": 0.5, "kind": "three", "gone": 1, "wanted": False})
    assert form.settings == Example(share=0.5, wanted=False)


def test_the_segment_settings_make_a_form() -> None:
    form = SettingsForm(SegmentSettings)
    assert form.settings == SegmentSettings()
    assert len(form.plain) + len(form.advanced) == len(fields_of(SegmentSettings))
