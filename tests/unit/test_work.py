"""Painted work comes back as it was: from any grid, after a kill at any moment, from a folder that was moved."""

from __future__ import annotations

import dataclasses
import errno
import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import dask.array
import nibabel
import numpy as np
import pytest
import saving_loop
from test_io_geometry import STACKS, direction_of, turned

from napari_lungseg.errors import ReadError, TrainingDataError, WriteError
from napari_lungseg.findings import has_finding
from napari_lungseg.io import read
from napari_lungseg.io import write as write_file
from napari_lungseg.training import work as work_module
from napari_lungseg.training.rounds import PaintSettings
from napari_lungseg.training.work import (
    Work,
    WorkItem,
    check_image,
    image_hash,
    iter_save_work,
    open_work,
    save_work,
)
from napari_lungseg.training.work_record import RECORD, read_record
from napari_lungseg.volume import FRONTAL, Geometry, LabelMap, Volume

SHAPE, SPACING, ORIGIN = (5, 7, 6), (2.5, 0.7, 0.9), (-681.25, 112.5, -249.875)
GEOMETRIES = {
    **{name: Geometry(SHAPE, SPACING, ORIGIN, direction_of(letters)) for name, letters in STACKS.items()},
    "oblique": Geometry(SHAPE, SPACING, ORIGIN, turned(np.eye(3))),
    "spacing of many digits": Geometry(SHAPE, (1 / 3, 2 / 3, 0.1), (0.1, 0.2, 0.3)),
    "uneven": Geometry(SHAPE, SPACING, ORIGIN, slice_positions=(0.0, 2.5, 6.0, 7.5, 10.0)),
    "radiograph": Geometry((1, 30, 20), (1.0, 0.2, 0.3), (5.0, 6.0, 7.0), FRONTAL),
    "radiograph without a scale": Geometry((1, 30, 20), direction=FRONTAL, units="pixel"),
    "radiographs": Geometry((4, 30, 20), (1.0, 0.2, 0.3), direction=FRONTAL, frames=True),
}


def paint(geometry: Geometry, seed: int = 0, **kwargs) -> WorkItem:
    chance = np.random.default_rng(seed)
    array = chance.integers(0, 4, geometry.shape, np.uint8)
    array[..., 0] = 100
    labels = LabelMap(
        array, geometry, {1: "Nodül", 100: "background"}, {1: "#123456"}, name="CT 3 – paint", record={"a": 1}
    )
    untouched = chance.integers(0, 3, geometry.shape, np.uint8)
    return WorkItem(labels, 100, frozenset({0}), untouched, "CT 3", "0123", **kwargs)


def same(one: WorkItem, other: WorkItem) -> bool:
    mine, its = one.labels, other.labels
    return (
        np.array_equal(mine.array, its.array)
        and mine.geometry == its.geometry
        and (mine.names, mine.colours, mine.name, mine.record) == (its.names, its.colours, its.name, its.record)
        and (one.background, one.complete, one.image_name) == (other.background, other.complete, other.image_name)
        and (one.image_hash, one.image_path) == (other.image_hash, other.image_path)
        and np.array_equal(one.edited_from, other.edited_from)
    )


@pytest.mark.parametrize("grid", GEOMETRIES)
def test_work_comes_back_to_the_last_digit(tmp_path: Path, grid: str) -> None:
    item = paint(GEOMETRIES[grid])
    assert same(open_work(save_work(tmp_path / "work", Work((item,)))).items[0], item)


def test_labels_lie_where_other_programs_find_them(tmp_path: Path) -> None:
    item = paint(GEOMETRIES["oblique"])
    folder = save_work(tmp_path / "work", Work((item,)))
    (path,) = folder.glob("labels-1-*.nii.gz")
    image = nibabel.load(path)
    voxel = (3, 5, 4)
    head, back, left = item.labels.geometry.position(voxel)
    assert np.allclose(nibabel.affines.apply_affine(image.affine, voxel[::-1]), (-left, -back, head), atol=1e-3)
    assert np.asarray(image.dataobj)[voxel[::-1]] == item.labels.array[voxel]
    assert read(path)[0].names == item.labels.names


def test_everything_beside_the_labels_comes_back(tmp_path: Path) -> None:
    model = tmp_path / "best.safetensors"
    model.write_bytes(b"weights")
    settings = PaintSettings(seconds=60, keep=0.5)
    work = Work((paint(GEOMETRIES["LPS"]),), {1: "nodule", 2: "heart"}, {2: "#AABBCC"}, model, "ct-lungs", settings)
    back = open_work(save_work(tmp_path / "work", work))
    assert (back.names, back.colours, back.start, back.settings) == (work.names, work.colours, "ct-lungs", settings)
    assert back.model is not None and back.model.parent == tmp_path / "work" and back.model.read_bytes() == b"weights"
    assert back.saved is not None and back.saved.tzinfo is not None and not back.findings


def test_work_without_anything_painted_can_be_saved(tmp_path: Path) -> None:
    assert open_work(save_work(tmp_path / "work", Work(start="ct-lungs"))).start == "ct-lungs"


def files(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_only_what_changed_is_written_and_only_what_holds_is_left(tmp_path: Path) -> None:
    first, second = paint(GEOMETRIES["LPS"], 1), paint(GEOMETRIES["LPS"], 2)
    model = tmp_path / "best.safetensors"
    model.write_bytes(b"weights")
    folder = save_work(tmp_path / "work", Work((first, second), model=model))
    before = files(folder)
    save_work(
        folder,
        Work((first, dataclasses.replace(paint(GEOMETRIES["LPS"], 3), edited_from=second.edited_from)), model=model),
    )
    after = files(folder)
    assert len(after) == len(before)
    changed = {name for name in after if after[name] != before.get(name)}
    assert {name.partition("-")[0] for name in changed} == {RECORD, "labels"}
    assert all(name == RECORD or name.startswith("labels-2-") for name in changed)


def test_items_can_stay_as_they_are_without_being_read(tmp_path: Path) -> None:
    first, second = paint(GEOMETRIES["LPS"], 1), paint(GEOMETRIES["LPS"], 2)
    folder = save_work(tmp_path / "work", Work((first,)))
    steps = iter_save_work(folder, Work((second,)), keep=read_record(folder).items)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            record = stop.value
            break
    assert record == read_record(folder)
    items = open_work(folder).items
    assert same(items[0], first) and same(items[1], second)


def test_a_file_that_another_program_changed_is_written_anew(tmp_path: Path) -> None:
    item = paint(GEOMETRIES["LPS"])
    folder = save_work(tmp_path / "work", Work((item,)))
    (path,) = folder.glob("labels-1-*.nii.gz")
    write_file(dataclasses.replace(item.labels, array=np.zeros_like(item.labels.array)), path)
    save_work(folder, Work((item,)))
    assert same(open_work(folder).items[0], item)


def test_an_image_is_found_where_it_was_and_where_both_were_moved(tmp_path: Path) -> None:
    scans = tmp_path / "here" / "scans"
    scans.mkdir(parents=True)
    image = scans / "scan.nii.gz"
    image.write_bytes(b"")
    folder = save_work(tmp_path / "here" / "work", Work((paint(GEOMETRIES["LPS"], image_path=image),)))
    shutil.copytree(folder, tmp_path / "alone")
    assert open_work(tmp_path / "alone").items[0].image_path == image
    (tmp_path / "here").rename(tmp_path / "there")
    assert open_work(tmp_path / "there" / "work").items[0].image_path == tmp_path / "there" / "scans" / "scan.nii.gz"
    assert open_work(tmp_path / "alone").items[0].image_path == image  # gone: it is asked for by its name


def test_without_a_path_none_is_kept(tmp_path: Path) -> None:
    folder = save_work(tmp_path / "work", Work((paint(GEOMETRIES["LPS"]),)))
    assert open_work(folder).items[0].image_path is None
    assert str(tmp_path) not in (folder / RECORD).read_text()


# The hash of an image


def scan(direction: str = "LPS") -> Volume:
    array = np.random.default_rng(0).integers(-1000, 500, SHAPE).astype(np.int16)
    return Volume(array, GEOMETRIES[direction])


def test_a_hash_is_of_voxels_and_place_and_nothing_else() -> None:
    volume = scan()
    same_content = dataclasses.replace(volume, name="other", source="/elsewhere", window=(-100.0, 100.0))
    lazy = dataclasses.replace(volume, array=dask.array.from_array(volume.array, chunks=(2, 7, 6)))
    turned_view = dataclasses.replace(volume, array=np.asfortranarray(volume.array))
    assert {image_hash(other) for other in (same_content, lazy, turned_view)} == {image_hash(volume)}
    brighter = volume.array.copy()
    brighter[-1, -1, -1] += 1
    moved = dataclasses.replace(volume.geometry, origin=(0.0, 0.0, 0.0))
    others = [dataclasses.replace(volume, array=brighter), dataclasses.replace(volume, geometry=moved)]
    assert len({image_hash(other) for other in [volume, *others]}) == 3


def test_a_hash_outlives_a_copy_of_the_file(tmp_path: Path) -> None:
    first = write_file(scan("oblique"), tmp_path / "a.nii.gz")
    second = tmp_path / "somewhere else.nii.gz"
    shutil.copy(first, second)
    assert image_hash(read(first)[0]) == image_hash(read(second)[0])


def test_another_image_is_told_or_refused() -> None:
    volume = scan()
    item = dataclasses.replace(paint(volume.geometry), image_hash=image_hash(volume))
    assert check_image(item, volume) == []
    other = dataclasses.replace(volume, array=volume.array + 1)
    assert has_finding(check_image(item, other), "other-image")
    smaller = Volume(volume.array[1:], dataclasses.replace(volume.geometry, shape=(4, 7, 6)))
    with pytest.raises(TrainingDataError, match="CT 3 have shape"):
        check_image(item, smaller)


@pytest.mark.parametrize("order", [name for name in STACKS if STACKS[name][0] in "HF"])
def test_labels_follow_an_image_whose_voxels_are_in_another_order(order: str) -> None:
    item = paint(GEOMETRIES["LPS"])
    painted = item.painted(Volume(np.zeros(SHAPE, np.int16), GEOMETRIES[order]))
    assert painted.labels.geometry == GEOMETRIES[order] and painted.complete == item.complete
    there, here = painted.standard(), item.painted(Volume(np.zeros(SHAPE, np.int16), GEOMETRIES["LPS"])).standard()
    assert np.array_equal(there.labels.array, here.labels.array)
    assert np.array_equal(there.edited_from, here.edited_from)


# What can go wrong


def edit_record(folder: Path, **changes) -> None:
    content = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps(content | changes))


def test_a_folder_that_is_no_work_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="not a folder of saved work"):
        open_work(tmp_path)
    (tmp_path / RECORD).write_text('{"jobs": []}')
    with pytest.raises(ReadError, match="another program"):
        open_work(tmp_path)
    with pytest.raises(WriteError, match=r"Nothing was saved.*another folder"):
        save_work(tmp_path, Work())
    assert (tmp_path / RECORD).read_text() == '{"jobs": []}'


def test_work_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    folder = save_work(tmp_path / "work", Work((paint(GEOMETRIES["LPS"]),)))
    edit_record(folder, format=2)
    before = files(folder)
    with pytest.raises(ReadError, match=r"format 2.*Update"):
        open_work(folder)
    with pytest.raises(WriteError, match="Nothing was saved"):
        save_work(folder, Work())
    assert files(folder) == before


@pytest.mark.parametrize(
    "content", ["", "{", '{"what": "painted work of napari-lungseg", "format": 1}', "[]", "null"], ids=repr
)
def test_a_damaged_record_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / RECORD).write_text(content)
    with pytest.raises(ReadError, match=r"damaged|another program"):
        open_work(tmp_path)


def test_a_record_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    folder = save_work(tmp_path / "work", Work((paint(GEOMETRIES["LPS"]),)))
    content = json.loads((folder / RECORD).read_text())
    content["items"][0]["labels"]["name"] = "../labels-1-0.nii.gz"
    edit_record(folder, items=content["items"])
    with pytest.raises(ReadError, match="not the name of a file"):
        open_work(folder)


def test_settings_of_another_version_lose_no_labels(tmp_path: Path) -> None:
    item = paint(GEOMETRIES["LPS"])
    folder = save_work(tmp_path / "work", Work((item,)))
    for settings in ({"seconds": -1}, {"seconds": 9, "of a later version": 1}):
        edit_record(folder, settings=settings)
        back = open_work(folder)
        assert same(back.items[0], item) and back.settings.seconds == max(settings["seconds"], 0)


def test_a_cut_file_is_told_and_the_rest_can_be_opened_without_it(tmp_path: Path) -> None:
    first, second = paint(GEOMETRIES["LPS"], 1), paint(GEOMETRIES["LPS"], 2)
    folder = save_work(tmp_path / "work", Work((first, second)))
    (path,) = folder.glob("labels-1-*.nii.gz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ReadError, match=rf"{path.name} is damaged.*move {path.name} out"):
        open_work(folder)
    path.unlink()
    back = open_work(folder)
    assert same(back.items[0], second) and len(back.items) == 1
    assert has_finding(back.findings, "work-incomplete") and path.name in back.findings[0].message
    for path in folder.glob("labels-2-*.nii.gz"):
        path.unlink()
    with pytest.raises(ReadError, match="no longer holds its labels"):
        open_work(folder)


def test_labels_of_another_size_are_refused(tmp_path: Path) -> None:
    folder = save_work(tmp_path / "work", Work((paint(GEOMETRIES["LPS"]),)))
    (path,) = folder.glob("labels-1-*.nii.gz")
    write_file(LabelMap(np.ones((2, 3, 4), np.uint8), Geometry((2, 3, 4))), path)
    with pytest.raises(ReadError, match="replaced by another file"):
        open_work(folder)


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("function", ["to_disk", "write_record", "write"])
def test_a_full_disk_changes_nothing_and_leaves_nothing(tmp_path: Path, monkeypatch, function: str) -> None:
    item = paint(GEOMETRIES["LPS"], 1)
    folder = save_work(tmp_path / "work", Work((item,)))
    before = files(folder)
    with monkeypatch.context() as patched:
        patched.setattr(work_module, function, no_space)
        with pytest.raises(WriteError, match="No space left on device"):
            save_work(folder, Work((paint(GEOMETRIES["LPS"], 2),)))
    assert files(folder) == before and same(open_work(folder).items[0], item)


def test_a_cancelled_save_changes_nothing(tmp_path: Path) -> None:
    item = paint(GEOMETRIES["LPS"], 1)
    folder = save_work(tmp_path / "work", Work((item,)))
    before = files(folder)
    steps = iter_save_work(folder, Work((paint(GEOMETRIES["LPS"], 2), paint(GEOMETRIES["LPS"], 3))))
    next(steps), next(steps)
    assert len(files(folder)) > len(before)
    steps.close()
    assert files(folder) == before


def test_files_of_the_persons_own_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    for name in ("labels-1.nii.gz", "notes.txt", "model-best.safetensors"):
        (folder / name).write_text("mine")
    save_work(folder, Work((paint(GEOMETRIES["LPS"], 1),)))
    save_work(folder, Work((paint(GEOMETRIES["LPS"], 2),)))
    assert {"labels-1.nii.gz", "notes.txt", "model-best.safetensors"} <= set(files(folder))


# Killed


class Watched:
    """Calls something before every operation on files; a hook cannot be taken out again, only be told to do nothing."""

    def __init__(self, call) -> None:
        self._call, self.count = call, 0
        self._busy = True
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self._busy and (event == "open" or event.startswith(("os.", "shutil."))):
            self._busy = True
            self.count += 1
            self._call()
            self._busy = False

    def __enter__(self) -> Watched:
        self._busy = False
        return self

    def __exit__(self, *_: object) -> None:
        self._busy = True


def test_before_every_operation_on_files_a_whole_state_is_there(tmp_path: Path) -> None:
    model = tmp_path / "best.safetensors"
    model.write_bytes(b"first")
    states = [Work((paint(GEOMETRIES["LPS"], number), paint(GEOMETRIES["RAS"], 9)), model=model) for number in range(2)]
    folder = save_work(tmp_path / "work", states[0])
    model.write_bytes(b"second")
    seen: list[tuple[bool, bool, bytes]] = []

    def look() -> None:
        back = open_work(folder)
        equal = [all(same(one, other) for one, other in zip(back.items, work.items, strict=True)) for work in states]
        assert back.model is not None and not back.findings
        seen.append((*equal, back.model.read_bytes()))

    with Watched(look) as watched:
        save_work(folder, states[1])
    look()
    assert watched.count > 10
    assert seen == sorted(seen, reverse=True)
    assert set(seen) == {(True, False, b"first"), (False, True, b"second")}


@pytest.mark.parametrize("kills", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_any_moment_a_whole_state_is_there(tmp_path: Path, kills: int) -> None:
    chance = random.Random(kills)
    for number in range(kills):
        folder = tmp_path / f"work{number}"
        saved = last_save_before_kill(folder, chance.uniform(0, 0.5))
        back = open_work(folder)
        found = int(back.start)
        assert found in (saved, saved + 1)  # renamed, but not told yet
        wanted = saving_loop.work_of(found)
        assert len(back.items) == saving_loop.IMAGES
        assert all(same(one, other) for one, other in zip(back.items, wanted.items, strict=True))
        save_work(folder, wanted)
        assert len(files(folder)) == 1 + 2 * saving_loop.IMAGES  # the record, and labels with their names


def last_save_before_kill(folder: Path, seconds: float) -> int:
    """Number of the last save that a process told to be complete before it was killed, so long after its first."""
    command = [sys.executable, saving_loop.__file__, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(seconds)
        process.kill()
        lines = [first, *process.stdout]
    return int([line for line in lines if line.endswith("\n")][-1])
