"""Reader, writer and sample data, as napari calls them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import npe2
import numpy as np
import pytest
import SimpleITK
from dicom_series import write_series
from napari.layers import Image, Labels, Layer

from napari_lungseg.errors import ReadError, WriteError
from napari_lungseg.io import read, write
from napari_lungseg.plugin import contributions, opening
from napari_lungseg.plugin.contributions import get_reader, painted_geometry, write_image, write_labels
from napari_lungseg.plugin.layers import KEY, layer_facts, layer_to_volume, volume_to_layer
from napari_lungseg.plugin.opening import add_item, open_paths, together
from napari_lungseg.volume import LabelMap

from .conftest import DIRECTIONS, make_labels, make_volume


@pytest.fixture
def in_viewer(model_viewer: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A viewer that the contributions take for napari's current one."""
    monkeypatch.setattr(contributions, "current_viewer", lambda: model_viewer)
    return model_viewer


def save(writer: Any, path: Path, layer: Layer) -> Path:
    data, meta, _ = layer.as_layer_data_tuple()
    return Path(writer(str(path), data, meta)[0])


def test_the_reader_takes_what_is_ours(tmp_path: Path) -> None:
    series = write_series(tmp_path / "series", slices=3)
    assert get_reader(str(series)) is not None
    suffixless = tmp_path / "IM0001"
    suffixless.write_bytes(next(series.iterdir()).read_bytes())
    assert get_reader(str(suffixless)) is not None
    note = tmp_path / "NOTES"
    note.write_text("nothing to see")
    assert get_reader(str(note)) is None
    assert get_reader(str(tmp_path / "missing")) is None


def test_a_dicom_folder_becomes_one_layer(tmp_path: Path, notices: list[Any]) -> None:
    series = write_series(tmp_path / "series", slices=5)
    reader = get_reader(str(series))
    assert reader is not None
    (layer_tuple,) = reader(str(series))
    layer = Layer.create(*layer_tuple)
    assert isinstance(layer, Image) and layer.data.shape[0] == 5
    assert np.allclose(np.asarray(layer.data), read(series)[0].reoriented()[0].array)


def test_many_files_of_one_series_make_one_layer(tmp_path: Path, notices: list[Any]) -> None:
    paths = [str(path) for path in write_series(tmp_path / "series", slices=4).iterdir()]
    reader = get_reader(paths)
    assert reader is not None
    (layer_tuple,) = reader(paths)
    assert layer_tuple[0].shape[0] == 4


def test_files_dropped_one_by_one_are_opened_together(
    tmp_path: Path, in_viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch, notices: list[Any]
) -> None:
    """Napari hands over dropped files singly, and runs pending events in between; they wait for each other."""
    monkeypatch.setattr(contributions, "window_is_running", lambda: True)
    is_ours = opening.is_ours

    def slow(path: Path) -> bool:
        qtbot.wait(70)
        return is_ours(path)

    monkeypatch.setattr(opening, "is_ours", slow)
    npe2.PluginManager.instance().discover()
    names = [str(path) for path in write_series(tmp_path / "series", slices=4).iterdir()]
    assert in_viewer.open(names, plugin="napari-lungseg") == [] and len(in_viewer.layers) == 0
    qtbot.waitUntil(lambda: len(in_viewer.layers) == 1, timeout=60_000)
    qtbot.wait(100)
    assert [layer.data.shape[0] for layer in in_viewer.layers] == [4]


def test_one_file_opens_its_slice_and_offers_the_series(
    tmp_path: Path, model_viewer: Any, qtbot: Any, notices: list[Any]
) -> None:
    series = write_series(tmp_path / "series", slices=4)
    write_series(tmp_path / "other", slices=1)
    (tmp_path / "other").joinpath("0.dcm").rename(series / "of another series.dcm")
    open_paths(model_viewer, [series / "2.dcm"])
    qtbot.waitUntil(lambda: any(notice.actions for notice in notices), timeout=20_000)
    assert model_viewer.layers[0].data.ndim == 2
    offer = next(notice for notice in notices if notice.actions)
    assert "4 of its slices" in offer.message
    offer.actions[0][1](None)
    qtbot.waitUntil(lambda: len(model_viewer.layers) == 2, timeout=20_000)
    assert model_viewer.layers[1].data.shape[0] == 4


def test_a_bad_file_is_told_and_the_others_open(
    tmp_path: Path, model_viewer: Any, qtbot: Any, notices: list[Any]
) -> None:
    bad = tmp_path / "bad.nii"
    bad.write_text("no header")
    good = write(make_volume(), tmp_path / "good.nii.gz")
    ended: list[bool] = []
    open_paths(model_viewer, [bad, good], on_end=lambda: ended.append(True))
    qtbot.waitUntil(lambda: bool(ended), timeout=20_000)
    assert len(model_viewer.layers) == 1
    assert any("bad.nii" in notice.message for notice in notices)


def test_a_script_gets_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "bad.nii").write_text("no header")
    reader = get_reader(str(tmp_path / "bad.nii"))
    assert reader is not None
    with pytest.raises(ReadError):
        reader(str(tmp_path / "bad.nii"))


def test_findings_are_told(tmp_path: Path, notices: list[Any]) -> None:
    path = write(make_volume(), tmp_path / "scan.nii")
    opening.read_now([path])
    assert "Taken as CT" in notices[-1].message


def test_lazy_series_are_filled_in_the_background(
    tmp_path: Path, model_viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    import dask.array

    volume = make_volume("feet first")
    lazy = dataclasses.replace(volume, array=dask.array.from_array(volume.array, chunks=(1, 40, 48)))
    layer = add_item(model_viewer, lazy)
    assert not isinstance(layer.data, np.ndarray)
    qtbot.waitUntil(lambda: isinstance(layer.data, np.ndarray), timeout=20_000)
    assert np.array_equal(layer_to_volume(layer).array, volume.array)


def test_paths_are_grouped_for_the_readers(tmp_path: Path) -> None:
    names = ["a.dcm", "b.nii.gz", "c.dcm", "d.png", "e.jpg", "f.nrrd"]
    groups = [[path.name for path in group] for group in together([Path(name) for name in names])]
    assert groups == [["a.dcm", "c.dcm"], ["b.nii.gz"], ["d.png", "e.jpg"], ["f.nrrd"]]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_new_labels_are_saved_on_the_scan_they_were_painted_on(
    direction: str, suffix: str, in_viewer: Any, tmp_path: Path
) -> None:
    """Napari's own *New Labels* copies no metadata; read back independently, the strokes lie where the scan's voxels do."""
    volume = make_volume(direction)
    image = add_item(in_viewer, volume)
    in_viewer._new_labels()
    painted = in_viewer.layers[-1]
    assert isinstance(painted, Labels) and KEY not in painted.metadata
    painted.data_setitem((np.array([1]), np.array([4]), np.array([3])), 2)
    path = save(write_labels, tmp_path / f"painted{suffix}", painted)
    written = SimpleITK.ReadImage(str(path))
    array = SimpleITK.GetArrayFromImage(written)
    (where,) = np.argwhere(array == 2)
    position = written.TransformIndexToPhysicalPoint([int(value) for value in where[::-1]])[::-1]
    standard, turn = volume.reoriented()
    assert np.allclose(position, standard.geometry.position((1, 4, 3)), atol=1e-4)
    assert np.allclose(written.GetSpacing()[::-1], volume.geometry.spacing, atol=1e-4)
    assert array.shape == volume.geometry.shape and np.array_equal(array, turn.undo(painted.data))
    assert image.data[1, 4, 3] == volume.array[tuple(where)]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_saved_image_is_the_opened_one(direction: str, tmp_path: Path) -> None:
    volume = make_volume(direction)
    path = save(write_image, tmp_path / "scan.nii", Layer.create(*volume_to_layer(volume)))
    (back,) = read(path)
    assert back.geometry.same_grid(volume.geometry) and np.array_equal(back.array, volume.array)
    affine = nibabel.load(path).affine
    assert np.allclose(np.abs(np.linalg.det(affine[:3, :3])), volume.geometry.voxel_volume_mm3, rtol=1e-4)


def test_names_and_colours_are_saved(tmp_path: Path, in_viewer: Any) -> None:
    labels = make_labels(make_volume())
    path = save(write_labels, tmp_path / "lungs.nii.gz", add_item(in_viewer, labels))
    (back,) = read(path)
    assert isinstance(back, LabelMap) and back.names == labels.names and back.colours == labels.colours


def test_several_scans_of_different_direction_ask(in_viewer: Any, tmp_path: Path) -> None:
    first, second = make_volume("axial"), make_volume("oblique")
    shown = add_item(in_viewer, first)
    other = add_item(in_viewer, second)
    other.translate, other.scale = shown.translate, shown.scale
    facts = layer_facts(
        Labels(np.zeros(first.geometry.shape, int), scale=shown.scale, translate=shown.translate, units="mm")
    )
    asked: list[list[str]] = []

    def choose(names: list[str]) -> str:
        asked.append(names)
        return names[0]

    assert painted_geometry(facts, in_viewer, choose) == first.geometry
    assert asked == [[shown.name, other.name]]
    with pytest.raises(WriteError, match="differ in direction"):
        painted_geometry(facts, in_viewer, lambda names: None)


def test_scans_of_one_direction_do_not_ask(in_viewer: Any) -> None:
    shown = add_item(in_viewer, make_volume("oblique"))
    add_item(in_viewer, make_volume("oblique"))
    facts = layer_facts(
        Labels(np.zeros(shown.data.shape, int), scale=shown.scale, translate=shown.translate, units="mm")
    )
    assert painted_geometry(facts, in_viewer, lambda names: pytest.fail("asked")) == make_volume("oblique").geometry


def test_labels_on_nothing_are_written_as_they_say_and_warned_of(
    in_viewer: Any, tmp_path: Path, notices: list[Any]
) -> None:
    layer = Labels(np.eye(4, dtype=int)[None].repeat(3, 0), scale=(2, 1, 1), translate=(5, 6, 7), units="mm")
    path = save(write_labels, tmp_path / "free.mha", layer)
    written = SimpleITK.ReadImage(str(path))
    assert written.GetSpacing() == (1.0, 1.0, 2.0) and written.GetOrigin() == (7.0, 6.0, 5.0)
    assert any("No open scan" in notice.message for notice in notices)


@pytest.mark.parametrize(("sample", "ndim"), [(contributions.sample_ct, 3), (contributions.sample_xray, 2)])
def test_sample_data(sample: Any, ndim: int) -> None:
    image, labels = (Layer.create(*layer) for layer in sample())
    assert isinstance(image, Image) and isinstance(labels, Labels)
    assert image.data.ndim == ndim and image.data.shape == labels.data.shape
    assert np.array_equal(image.scale, labels.scale) and np.array_equal(image.translate, labels.translate)
    assert set(np.unique(labels.data)) == {0, 1, 2}
    # The patient's right is at the viewer's left.
    columns = [np.argwhere(labels.data == label)[:, -1].mean() for label in (1, 2)]
    assert columns[0] < columns[1]


@pytest.mark.parametrize("suffix", [".seg.dcm", ".rtstruct.dcm"])
def test_dicom_labels_are_written_and_open_on_the_scan(
    tmp_path: Path, in_viewer: Any, notices: list[Any], suffix: str
) -> None:
    scan = read(write_series(tmp_path / "series", slices=5))[0]
    add_item(in_viewer, scan.load())
    painted = in_viewer.add_labels(np.zeros(in_viewer.layers[0].data.shape, np.uint8), scale=in_viewer.layers[0].scale)
    painted.translate, painted.units = in_viewer.layers[0].translate, in_viewer.layers[0].units
    painted.data[1, 5:9, 3:20] = 2
    path = save(write_labels, tmp_path / f"painted{suffix}", painted)
    path.with_name("painted.labels.json").unlink(missing_ok=True)  # contours are then drawn on the open scan's grid
    reader = get_reader(str(path))
    assert reader is not None
    (layer_tuple,) = reader(str(path))
    layer = Layer.create(*layer_tuple)
    assert isinstance(layer, Labels)
    np.testing.assert_array_equal(layer.data, painted.data)
    assert np.allclose(layer.translate, painted.translate) and np.allclose(layer.scale, painted.scale)
