"""What a field says of itself reaches everyone who asks, and its bounds hold."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from napari_lungseg.errors import LungSegError
from napari_lungseg.settings import fields_of, setting, validate


@dataclass(frozen=True)
class Brewing:
    minutes: float = setting(3.0, "How long the leaves stay in.", unit="min", min=0.5, max=10)
    leaf: str = setting("green", "What is brewed.", choices=("green", "black"))
    sugar: int | None = setting(None, "Lumps; none if not given.", min=0, advanced=True)
    private: int = 0

    def __post_init__(self) -> None:
        validate(self)


@pytest.mark.parametrize("settings", [Brewing, Brewing()])
def test_fields_are_described_in_order_with_their_types(settings: object) -> None:
    minutes, leaf, sugar = fields_of(settings)
    assert (minutes.name, minutes.annotation, minutes.default) == ("minutes", float, 3.0)
    assert (minutes.help, minutes.unit, minutes.min, minutes.max) == ("How long the leaves stay in.", "min", 0.5, 10)
    assert leaf.choices == ("green", "black")
    assert sugar.annotation == int | None
    assert sugar.advanced
    assert not minutes.advanced


@pytest.mark.parametrize("minutes", [0.5, 10])
def test_bounds_are_inclusive(minutes: float) -> None:
    assert Brewing(minutes=minutes).minutes == minutes


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"minutes": 0.4}, r"minutes is 0\.4 min, but must lie between 0\.5 and 10 min"),
        ({"minutes": 11}, "minutes is 11 min"),
        ({"leaf": "mint"}, "leaf is 'mint', but must be one of green, black"),
        ({"sugar": -1}, "sugar is -1, but must lie"),
    ],
)
def test_a_value_out_of_bounds_is_named_with_what_is_allowed(values: dict[str, object], message: str) -> None:
    with pytest.raises(LungSegError, match=message):
        Brewing(**values)
