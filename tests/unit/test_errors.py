"""Every error that the package raises on purpose can be caught by one name."""

from __future__ import annotations

import inspect

import pytest

from napari_lungseg import errors

ERRORS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_is_a_lungseg_error_and_says_when_it_is_raised(kind: type) -> None:
    assert issubclass(kind, errors.LungSegError)
    assert kind.__doc__


def test_none_of_them_hides_a_builtin() -> None:
    assert len(ERRORS) >= 7
    assert not any(issubclass(kind, OSError | ValueError | KeyError) for kind in ERRORS)
