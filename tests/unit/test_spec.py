"""A model's description survives JSON, and a damaged one is refused in words."""

from __future__ import annotations

import json

import pytest

from napari_lungseg.errors import ModelFileError
from napari_lungseg.models.spec import SPEC_FORMAT, ModelSpec, Preprocessing

SPEC = ModelSpec(
    name="ct-lungs",
    architecture="unet",
    options={"encoder": "resnet18"},
    preprocessing=Preprocessing(size=(192, 256), window=(-1024.0, 600.0), crop_body=True),
    names={1: "right lung", 2: "left lung"},
    colours={1: "#E69F00"},
    licence="CC-BY-4.0",
    training={"seed": 3, "metrics": {"dice": 0.5}},
)


def test_a_spec_survives_json() -> None:
    again = ModelSpec.from_json(SPEC.to_json())
    assert again == SPEC
    assert again.preprocessing.size == (192, 256)
    assert set(again.names) == {1, 2}


def test_no_window_survives_json() -> None:
    spec = ModelSpec(name="x", architecture="unet")
    assert ModelSpec.from_json(spec.to_json()).preprocessing.window is None


def test_background_is_a_class_too() -> None:
    assert SPEC.classes == 3
    assert ModelSpec(name="x", architecture="unet").classes == 1


def test_a_newer_format_says_to_upgrade() -> None:
    values = json.loads(SPEC.to_json()) | {"format": SPEC_FORMAT + 1}
    with pytest.raises(ModelFileError, match=r"mine\.safetensors was made by a newer napari-lungseg .* Upgrade"):
        ModelSpec.from_json(json.dumps(values), "mine.safetensors")


def without(key: str) -> str:
    values = json.loads(SPEC.to_json())
    del values[key]
    return json.dumps(values)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '"words"', "{}", without("format"), without("name"), without("preprocessing"),
     json.dumps(json.loads(SPEC.to_json()) | {"colour": 1}), json.dumps(json.loads(SPEC.to_json()) | {"names": ["a"]})],
)  # fmt: skip
def test_a_damaged_description_is_refused_and_the_file_is_named(text: str) -> None:
    with pytest.raises(ModelFileError, match=r"^mine\.safetensors "):
        ModelSpec.from_json(text, "mine.safetensors")
