"""Every suffix in the tables of readers and writers keeps the same promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from labelled_series import series

from napari_lungseg.errors import ReadError
from napari_lungseg.io import READERS, WRITERS, read, write
from napari_lungseg.volume import FRONTAL, Geometry, LabelMap, Volume

# The columns are unit vectors of an oblique stack (z, y, x).
_TURN = np.linalg.qr(np.array([[0.9, 0.2, -0.1], [-0.3, 0.8, 0.2], [0.1, -0.1, 1.0]]))[0]
OBLIQUE = tuple(tuple(float(value) for value in row) for row in _TURN)
RECORD = {"model": "threshold", "seconds": 0.5, "device": "cpu"}


def label_map(flat: bool) -> LabelMap:
    shape = (1, 5, 4) if flat else (3, 5, 4)
    array = np.zeros(shape, np.uint8)
    array[0, 1:3, 0:2], array[-1, 3, 2] = 1, 2
    geometry = Geometry(shape, (2.5, 0.7, 0.9), (-30.25, 12.5, 101.0), FRONTAL if flat else OBLIQUE)
    names = {1: "right lung", 2: "left lüng"}
    return LabelMap(array, geometry, names, {1: "#112233", 2: "#445566"}, record=RECORD)


def image(flat: bool, modality: str) -> Volume:
    labels = label_map(flat)
    if modality == "ct":
        array = (np.arange(labels.array.size, dtype=np.int16) * 30 - 1000).reshape(labels.array.shape)
        return Volume(array, labels.geometry, "ct", "HU")
    array = (np.arange(labels.array.size, dtype=np.uint16) + 300).reshape(labels.array.shape)
    return Volume(array, labels.geometry, "xray", "a.u.", (10.0, 320.0))


@pytest.mark.parametrize("table", [READERS, WRITERS], ids=["readers", "writers"])
def test_every_entry_is_there(table) -> None:
    for suffix in table:
        assert callable(table.resolve(suffix)), suffix
        assert suffix == suffix.lower()
        assert suffix.startswith(".")


@pytest.mark.parametrize("suffix", WRITERS)
def test_what_is_written_can_be_read(suffix: str) -> None:
    assert suffix in READERS


def for_suffix(suffix: str, folder: Path) -> LabelMap:
    """Labels that the format can hold: DICOM's lie on a series."""
    labels = label_map(flat=suffix == ".png")
    if not suffix.endswith(".dcm"):
        return labels
    scan = series(folder / "series", "oblique", count=3)
    array = np.zeros(scan.geometry.shape, np.uint8)
    array[:, :5, :4] = labels.array
    return LabelMap(array, scan.geometry, labels.names, labels.colours, source=scan.source, record=RECORD)


@pytest.mark.parametrize("suffix", WRITERS)
def test_labels_come_back_whole(tmp_path: Path, suffix: str) -> None:
    labels = for_suffix(suffix, tmp_path)
    path = write(labels, tmp_path / f"case{suffix}")
    assert path == tmp_path / f"case{suffix}"
    (found,) = read(path)
    assert isinstance(found, LabelMap)
    np.testing.assert_array_equal(found.array, labels.array)
    assert found.array.dtype == labels.array.dtype
    assert found.array.flags.writeable  # it will be painted on
    assert found.geometry.same_grid(labels.geometry, 1e-4)
    assert found.names == labels.names
    assert found.colours == labels.colours
    assert found.record == RECORD


LABELS_ONLY = tuple(suffix for suffix in WRITERS if suffix.endswith((".dcm", ".seg.nrrd")))


@pytest.mark.parametrize("suffix", [suffix for suffix in WRITERS if suffix not in (*LABELS_ONLY, ".png")])
def test_a_ct_comes_back_whole(tmp_path: Path, suffix: str) -> None:
    volume = image(flat=False, modality="ct")
    (found,) = read(write(volume, tmp_path / f"scan{suffix}"))
    assert isinstance(found, Volume)
    np.testing.assert_array_equal(found.array, volume.array)
    assert found.array.dtype == volume.array.dtype
    assert (found.modality, found.unit) == ("ct", "HU")
    assert found.geometry.same_grid(volume.geometry, 1e-4)


@pytest.mark.parametrize("suffix", [suffix for suffix in WRITERS if suffix not in LABELS_ONLY])
def test_a_radiograph_comes_back_whole(tmp_path: Path, suffix: str) -> None:
    volume = image(flat=True, modality="xray")
    (found,) = read(write(volume, tmp_path / f"chest{suffix}"))
    np.testing.assert_array_equal(found.array, volume.array)
    assert (found.modality, found.unit, found.window) == ("xray", "a.u.", (10.0, 320.0))
    assert found.geometry.same_grid(volume.geometry, 1e-4)


@pytest.mark.parametrize("suffix", READERS)
def test_rubbish_is_refused_in_one_sentence(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"note{suffix}"
    path.write_text("Dear colleague, please find the scan attached. " * 20)
    with pytest.raises(ReadError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert len(message) > 30
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_truncated_file_is_refused_in_one_sentence(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(1)
    array = rng.integers(0, 3, (1, 64, 64), dtype=np.uint8)
    labels = LabelMap(array, Geometry((1, 64, 64)))
    path = write(for_suffix(suffix, tmp_path) if suffix.endswith(".dcm") else labels, tmp_path / f"cut{suffix}")
    beside = tmp_path / "cut.zraw"
    victim = beside if beside.exists() else path
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    with pytest.raises(ReadError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")
