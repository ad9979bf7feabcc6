"""Messages to and from the training process: what goes in comes out, in whatever pieces it arrives."""

from __future__ import annotations

import dataclasses
import io
import math
import os
import time
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_lungseg.errors import TrainingProcessError
from napari_lungseg.findings import Finding
from napari_lungseg.progress import Progress
from napari_lungseg.training.painted import Painted, Strokes
from napari_lungseg.training.pipe import PIECE, Message, Parser, pack, read, write
from napari_lungseg.training.rounds import PaintSettings, Preview, Ranking, Round, Update
from napari_lungseg.volume import Geometry, LabelMap, Volume


def packed(content: Any) -> bytes:
    return b"".join(pack(Message("test", {"it": content})))


def there_and_back(content: Any) -> Any:
    message = read(io.BytesIO(packed(content)))
    assert message is not None and message.kind == "test"
    return message.content["it"]


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal in kind, and to the last bit where they are numbers."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype.str == other.dtype.str and one.shape == other.shape and one.tobytes() == other.tobytes()
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (isinstance(one, float) and math.isnan(one) and math.isnan(other))


SPACINGS = st.floats(0.05, 20, allow_subnormal=False)
PLACES = st.floats(-2000, 2000)
NAMES = st.dictionaries(st.integers(1, 254), st.text(max_size=8), max_size=3)
FINDINGS = st.lists(st.builds(Finding, st.text(max_size=5), st.text(max_size=20)), max_size=2).map(tuple)
LABELS = st.sampled_from([np.uint8, np.uint16, np.uint32, ">u2"])
VOXELS = st.sampled_from([np.int16, ">i2", np.uint8, np.float32, np.float64])


@st.composite
def directions(draw: st.DrawFn) -> tuple[tuple[float, float, float], ...]:
    """Turned about each axis, and sheared as a tilted gantry does."""
    matrix = np.eye(3)
    for first, second in ((0, 1), (1, 2), (0, 2)):
        angle = draw(st.floats(-3, 3))
        turn = np.eye(3)
        turn[[first, second], [first, second]] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    matrix[:, 0] += draw(st.floats(-0.4, 0.4)) * matrix[:, 1]
    matrix /= np.linalg.norm(matrix, axis=0)
    return tuple(tuple(row) for row in matrix.tolist())


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)))
    gaps = st.lists(st.floats(0.5, 9), min_size=shape[0] - 1, max_size=shape[0] - 1)
    uneven = st.none() | gaps.map(lambda steps: (0.0, *np.cumsum(steps).tolist()))
    return Geometry(
        shape,
        draw(st.tuples(SPACINGS, SPACINGS, SPACINGS)),
        draw(st.tuples(PLACES, PLACES, PLACES)),
        draw(directions()),
        draw(uneven),
        draw(st.sampled_from(["mm", "pixel"])),
        draw(st.booleans()),
    )


@st.composite
def paintings(draw: st.DrawFn) -> Painted:
    geometry = draw(geometries())
    modality, unit, channels = draw(st.sampled_from([("ct", "HU", ()), ("xray", "a.u.", ()), ("photo", "rgb", (3,))]))
    volume = Volume(
        draw(hnp.arrays(draw(VOXELS), geometry.shape + channels)),
        geometry,
        modality,
        unit,
        draw(st.none() | st.just((-1024.0, 600.5))),
        draw(FINDINGS),
        draw(st.text(max_size=8)),
        draw(st.text(max_size=8)),
    )
    grid = volume.geometry
    labels = LabelMap(
        draw(hnp.arrays(draw(LABELS), grid.shape, elements=st.integers(0, 200))),
        grid,
        draw(NAMES),
        draw(st.dictionaries(st.integers(1, 9), st.just("#12Ab9f"), max_size=2)),
        draw(FINDINGS),
        draw(st.text(max_size=8)),
        draw(st.text(max_size=8)),
        draw(st.just({}) | st.just({"model": {"name": "x", "figures": [1, 2.5, None]}, "ok": True})),
    )
    untouched = draw(st.none() | hnp.arrays(np.uint8, grid.shape))
    return Painted(
        volume, labels, draw(st.sampled_from([0, 100, 254])), untouched, draw(st.frozensets(st.integers(0, 9)))
    )


@given(geometries())
def test_a_geometry_comes_back_as_it_was(geometry: Geometry) -> None:
    assert there_and_back(geometry) == geometry


@given(st.lists(paintings(), max_size=2).map(tuple))
def test_painted_images_come_back_as_they_were(painted: tuple[Painted, ...]) -> None:
    assert same(there_and_back(painted), painted)


@st.composite
def strokes(draw: st.DrawFn) -> Strokes:
    slices = tuple(draw(st.lists(st.integers(0, 500), unique=True, max_size=3)))
    labels = draw(hnp.arrays(draw(LABELS), (len(slices), 3, 4)))
    return Strokes(
        draw(st.integers(0, 3)), slices, labels, draw(st.frozensets(st.integers(0, 9))), draw(st.none() | NAMES)
    )


@given(
    st.lists(strokes(), max_size=3).map(tuple),
    st.none() | st.tuples(st.integers(0, 3), st.integers(0, 9)),
    st.booleans(),
)
def test_updates_come_back_as_they_were(painted: tuple[Strokes, ...], look: tuple[int, int] | None, stop: bool) -> None:
    update = Update(painted, look, stop)
    assert same(there_and_back(update), update)


NUMBER = st.none() | st.floats()
ROUNDS = st.builds(
    Round, st.integers(0), st.floats(0), NUMBER, NUMBER, NUMBER, st.integers(0), st.integers(0), st.floats(0)
)
PICTURES = hnp.arrays(np.uint8, (3, 5))
PREVIEWS = st.builds(Preview, st.integers(0), st.integers(0), PICTURES, PICTURES)
RANKINGS = st.builds(Ranking, st.lists(hnp.arrays(np.float32, st.integers(0, 6)), max_size=3).map(tuple))
FOUND = st.builds(Finding, st.text(max_size=5), st.text(max_size=20))


@given(
    st.builds(
        Progress, st.integers(0), st.integers(0), st.text(max_size=9), st.none() | ROUNDS | PREVIEWS | RANKINGS | FOUND
    )
)
def test_progress_comes_back_with_what_it_carries(step: Progress) -> None:
    assert same(there_and_back(step), step)


def test_settings_and_paths_come_back_as_they_were(tmp_path: Path) -> None:
    settings = PaintSettings(seconds=7, keep=0.25, device="cpu", hold_out=0.0, augment=False, seed=3)
    assert there_and_back(settings) == settings
    assert there_and_back(tmp_path / "Bild ä") == tmp_path / "Bild ä"


def test_numbers_of_numpy_become_plain_ones() -> None:
    back = there_and_back((np.float32(0.5), np.int64(7), np.bool_(True), float("inf")))
    assert same(back, (0.5, 7, True, float("inf")))


def test_views_and_lazy_arrays_arrive_whole() -> None:
    import dask.array

    array = np.arange(5 * 700 * 900, dtype=np.int16).reshape(5, 700, 900)
    turned = array.transpose(2, 0, 1)[::-1, :, ::3]
    assert np.array_equal(there_and_back(turned), turned)
    assert np.array_equal(there_and_back(dask.array.from_array(array, chunks=(1, 700, 900))), array)
    assert there_and_back(np.array(3.5)).shape == () and there_and_back(np.zeros((0, 4), np.uint8)).shape == (0, 4)


def test_what_arrives_can_be_written_to() -> None:
    back = there_and_back((np.zeros(3, np.uint8), np.ones((2, 2))))
    assert all(array.flags.writeable and array.flags.aligned for array in back)


@pytest.mark.parametrize("thing", [object(), np.array([None]), np.array(["text"]), 1j, lambda: 0, {"x": [object()]}])
def test_what_is_no_plain_value_is_refused_before_anything_is_sent(thing: Any) -> None:
    with pytest.raises(TypeError, match="message"):
        pack(Message("test", {"it": thing}))


def test_a_message_names_no_type_but_those_of_training() -> None:
    fine = packed(Finding("code", "text"))
    assert read(io.BytesIO(fine)) is not None
    with pytest.raises(KeyError, match="Unknown"):
        read(io.BytesIO(fine.replace(b"Finding", b"Unknown")))
    arrays = packed(np.zeros(1, np.float64))
    with pytest.raises(TypeError, match="object"):
        read(io.BytesIO(arrays.replace(b'"<f8"', b'"|O8"')))


def test_a_clean_end_is_none_and_any_other_is_told() -> None:
    whole = packed({"array": np.arange(6, dtype=np.int32), "text": "äöü"})
    assert read(io.BytesIO(b"")) is None
    for cut in range(1, len(whole)):
        with pytest.raises(TrainingProcessError, match="middle of a message"):
            read(io.BytesIO(whole[:cut]))
    two = io.BytesIO(whole * 2)
    assert read(two) is not None and read(two) is not None and read(two) is None


def test_what_is_no_message_is_told() -> None:
    with pytest.raises(TrainingProcessError, match=r"something else.*Epoc"):
        read(io.BytesIO(b"Epoch 1: loss 0.5\n"))
    with pytest.raises(TrainingProcessError, match="something else"):
        Parser().feed(b"Epoch 1: loss 0.5\n")
    with pytest.raises(TrainingProcessError, match="something else"):
        Parser().feed(b"LSP1\xff\xff\xff\xff")


@given(st.lists(st.integers(1, 60), min_size=1, max_size=20), st.integers(0, 3))
def test_pieces_of_any_size_make_the_same_messages(cuts: list[int], messages: int) -> None:
    content = [{"n": n, "picture": np.full((n, 7), n, np.uint16), "none": np.zeros(0)} for n in range(messages)]
    stream = b"".join(packed(one) for one in content)
    parser, found, at = Parser(), [], 0
    while at < len(stream):
        size = cuts[at % len(cuts)]
        found += parser.feed(stream[at : at + size])
        at += size
    assert same([message.content["it"] for message in found], content)


def test_messages_are_there_as_soon_as_their_last_byte_is() -> None:
    stream = packed(1) + packed(np.zeros(4, np.uint8)) + packed(np.zeros(0))
    parser, counts = Parser(), []
    for at in range(len(stream)):
        counts.append(len(parser.feed(stream[at : at + 1])))
    ends = {len(packed(1)) - 1, len(packed(1)) + len(packed(np.zeros(4, np.uint8))) - 1, len(stream) - 1}
    assert {at for at, count in enumerate(counts) if count} == ends and sum(counts) == 3


def test_large_messages_take_time_in_proportion() -> None:
    """80 MB in the 64 kB pieces of a pipe; put together again and again they would take minutes."""
    volume = np.zeros((150, 512, 512), np.int16)
    pieces = [piece[at : at + 2**16] for piece in pack(Message("big", {"it": volume})) for at in range(0, PIECE, 2**16)]
    began = time.perf_counter()
    parser = Parser()
    [message] = [message for piece in pieces for message in parser.feed(bytes(piece))]
    assert message.content["it"].nbytes == volume.nbytes
    assert time.perf_counter() - began < 5
    assert max(len(piece) for piece in pack(Message("big", {"it": volume}))) <= PIECE


def test_through_a_real_pipe() -> None:
    """Which holds less than a message, and hands on what it has."""
    sent = {"volume": np.arange(3 * 500 * 600, dtype=np.float32).reshape(3, 500, 600), "n": 5}
    inward, outward = os.pipe()
    with os.fdopen(inward, "rb", buffering=0) as orders, os.fdopen(outward, "wb") as answers:
        thread = Thread(target=write, args=(answers, Message("big", sent)))
        thread.start()
        message = read(orders)
        thread.join()
    assert message is not None and same(dict(message.content), sent)
