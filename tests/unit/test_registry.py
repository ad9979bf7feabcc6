"""A table resolves names when they are used, and helps with names it does not know."""

from __future__ import annotations

import math

import pytest

from napari_lungseg.errors import UnknownNameError
from napari_lungseg.registry import Table

FUNCTIONS = Table("function", {"root": "math:sqrt", "sine": "math:sin", "broken": "no_such_module:thing"})


def test_a_name_is_resolved_to_what_it_stands_for() -> None:
    assert FUNCTIONS.resolve("root") is math.sqrt


def test_making_a_table_imports_nothing() -> None:
    assert FUNCTIONS["broken"] == "no_such_module:thing"
    with pytest.raises(ModuleNotFoundError):
        FUNCTIONS.resolve("broken")


def test_an_unknown_name_offers_the_nearest_and_lists_the_known() -> None:
    with pytest.raises(
        UnknownNameError, match=r"no function named 'rot'. Did you mean 'root'\? Known: broken, root, sine"
    ):
        FUNCTIONS.resolve("rot")


def test_a_name_like_none_of_them_gets_no_guess() -> None:
    with pytest.raises(UnknownNameError) as caught:
        FUNCTIONS["xyz"]
    assert "Did you mean" not in str(caught.value)


def test_a_table_is_a_mapping_that_its_source_cannot_change() -> None:
    source = {"root": "math:sqrt"}
    table = Table("function", source)
    source["sine"] = "math:sin"
    assert list(table) == ["root"]
    assert len(table) == 1
    assert "sine" not in table
    assert 3 not in table
