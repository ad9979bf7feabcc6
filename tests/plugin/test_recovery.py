"""What was painted comes back: after a kill, after a close, layer by layer, and to nobody else meanwhile."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import painting_session
import pytest
from filelock import FileLock
from napari.layers import Image, Labels, Layer

from napari_lungseg.errors import WriteError
from napari_lungseg.plugin import recovery as recovery_module
from napari_lungseg.plugin.layers import KEY, layer_facts, same_grid, volume_to_layer
from napari_lungseg.plugin.leftovers import discard_for, leftovers, offered_for, prune, recovery_folder
from napari_lungseg.plugin.painting import begin_painting, painting_of
from napari_lungseg.plugin.recovery import Recovery, recovery_of
from napari_lungseg.plugin.segmenting import Request, result_layer
from napari_lungseg.plugin.work_layers import hash_of
from napari_lungseg.training.work import Work, open_work, save_work
from napari_lungseg.training.work_record import RECORD, read_record
from napari_lungseg.volume import Volume

from .conftest import DIRECTIONS, make_labels, make_volume

NEVER_MS = 10**8


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LUNGSEG_RECOVERY", str(tmp_path / "recovery"))
    return tmp_path / "recovery"


@pytest.fixture
def make_recovery(model_viewer: Any) -> Iterator[Callable[..., Recovery]]:
    made: list[Recovery] = []

    def make(viewer: Any = None, interval_ms: int = NEVER_MS) -> Recovery:
        made.append(Recovery(viewer or model_viewer, interval_ms))
        return made[-1]

    yield make
    for recovery in made:
        recovery.close()


@pytest.fixture
def other_viewer() -> Any:
    """As of the next session."""
    from napari.components import ViewerModel

    return ViewerModel()


def scan(direction: str = "axial", **kwargs: Any) -> Image:
    return Layer.create(*volume_to_layer(make_volume(direction, **kwargs)))


def save(recovery: Recovery, qtbot: Any) -> None:
    """Save now, and wait for it."""
    recovery.save_now()
    qtbot.waitUntil(lambda: not recovery.is_saving, timeout=20_000)


def crash(recovery: Recovery) -> None:
    """As if the process had ended: the operating system takes the lock away, and nothing else happens."""
    recovery._timer.stop()
    recovery._closed = True
    recovery._session._lock.release()


def files(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in sorted(folder.iterdir())}


def painted(viewer: Any, direction: str = "axial") -> tuple[Image, Labels]:
    image = viewer.add_layer(scan(direction))
    layer = viewer.add_layer(begin_painting(image, names={1: "nodule"}, colours={1: "#112233"}))
    layer.paint((2, 10, 10), 1)
    painting_of(layer).complete.add(4)
    return image, layer


# Saving


def test_nothing_is_saved_before_something_is_painted(
    make_recovery: Any, model_viewer: Any, qtbot: Any, folder: Path
) -> None:
    recovery = make_recovery()
    image = model_viewer.add_layer(scan())
    model_viewer.add_layer(begin_painting(image))
    model_viewer.add_layer(begin_painting(image, result_layer(request(image), make_labels(make_volume()))))
    save(recovery, qtbot)
    assert not folder.exists()


def request(image: Image) -> Request:
    return Request(layer_facts(image), image.unique_id)


def test_it_saves_by_itself_and_only_what_changed(
    make_recovery: Any, model_viewer: Any, qtbot: Any, folder: Path
) -> None:
    recovery = make_recovery(interval_ms=50)
    _, first = painted(model_viewer)
    _, second = painted(model_viewer, "RAS")
    qtbot.waitUntil(lambda: len(list(folder.glob("*/labels-*.nii.gz"))) == 2, timeout=20_000)
    qtbot.waitUntil(lambda: not recovery.is_saving, timeout=20_000)
    (session,) = (path for path in folder.iterdir() if path.is_dir())
    before = files(session)
    qtbot.wait(300)
    assert files(session) == before
    second.data[0, 0, 0] = 7
    qtbot.waitUntil(lambda: files(session) != before, timeout=20_000)
    qtbot.waitUntil(lambda: not recovery.is_saving, timeout=20_000)
    after = files(session)
    kept = {name for name in after if after[name] == before.get(name)}
    assert {name.split("-")[1] for name in set(after) - {RECORD}} == {"1", "2"}
    assert len([name for name in kept if name.endswith(".nii.gz")]) == 1
    arrays = [item.labels.array for item in open_work(session).items]
    assert [int(array.max()) for array in arrays] == [1, 7] and first.data.max() == 1


def test_names_and_complete_slices_are_changes_too(
    make_recovery: Any, model_viewer: Any, qtbot: Any, folder: Path
) -> None:
    recovery = make_recovery()
    _, layer = painted(model_viewer)
    save(recovery, qtbot)
    painting_of(layer).complete.add(1)
    save(recovery, qtbot)
    (record,) = map(read_record, folder.glob("*-*[0-9a-f]"))
    assert record.items[0].complete == {1, 4} and record.items[0].names[1] == "nodule"


def test_what_is_painted_while_it_saves_is_saved_next(
    make_recovery: Any, model_viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    recovery = make_recovery()
    _, layer = painted(model_viewer)
    iter_save_work, going_on = recovery_module.iter_save_work, threading.Event()
    begun: list[bool] = []

    def slowly(*arguments: Any) -> Any:
        begun.append(True)
        going_on.wait(20)
        return iter_save_work(*arguments)

    monkeypatch.setattr(recovery_module, "iter_save_work", slowly)
    recovery.save_now()
    qtbot.waitUntil(lambda: bool(begun), timeout=20_000)
    layer.data[0, 0, 0] = 7
    recovery.save_now()
    going_on.set()
    qtbot.waitUntil(lambda: len(begun) == 2 and not recovery.is_saving, timeout=20_000)
    (session,) = (path for path in folder.iterdir() if path.is_dir())
    assert open_work(session).items[0].labels.array.max() == 7


def test_the_session_is_described(make_recovery: Any, model_viewer: Any, qtbot: Any, folder: Path) -> None:
    recovery = make_recovery()
    recovery.describe = lambda: Work(names={1: "nodule", 2: "heart"}, start="ct-lungs")
    painted(model_viewer)
    save(recovery, qtbot)
    (record,) = map(read_record, folder.glob("*-*[0-9a-f]"))
    assert record.start == "ct-lungs" and record.names == {1: "nodule", 2: "heart"}


def test_no_name_and_no_path_gets_into_an_autosave(
    make_recovery: Any, model_viewer: Any, qtbot: Any, folder: Path, tmp_path: Path
) -> None:
    secret = "MUELLER_HANS"
    recovery = make_recovery()
    ours = model_viewer.add_layer(scan(source=str(tmp_path / secret / "scan.nii.gz")))
    ours.name = secret
    theirs = model_viewer.add_layer(Image(np.zeros((3, 8, 8), np.int16), name=f"{secret}.tif"))
    for image in (ours, theirs):
        shown = result_layer(request(image), make_labels(make_volume())) if image is ours else None
        layer = model_viewer.add_layer(begin_painting(image, shown))
        layer.data[1, 1, 1] = 5
    save(recovery, qtbot)
    (session,) = (path for path in folder.iterdir() if path.is_dir())
    assert [item.image_name for item in read_record(session).items] == ["CT 3", "image of 3 × 8 × 8"]
    for path in session.iterdir():
        content = path.read_bytes() if path.suffix == ".json" else path.name.encode()
        assert secret.encode() not in content and secret not in path.name
    assert str(tmp_path) not in (session / RECORD).read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps other users out of the folder above.")
def test_nobody_else_can_look_in(make_recovery: Any, model_viewer: Any, qtbot: Any, folder: Path) -> None:
    before = os.umask(0)
    try:
        recovery = make_recovery()
        painted(model_viewer)
        save(recovery, qtbot)
    finally:
        os.umask(before)
    session = next(path for path in folder.iterdir() if path.is_dir())
    assert stat.S_IMODE(session.stat().st_mode) == stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_full_disk_is_told_once_and_tried_again(
    make_recovery: Any, model_viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch, notices: list[Any], folder: Path
) -> None:
    recovery = make_recovery()
    painted(model_viewer)

    def full(*_: object) -> None:
        raise WriteError("No space left.")

    with monkeypatch.context() as patched:
        patched.setattr(recovery_module, "iter_save_work", full)
        for _ in range(3):
            save(recovery, qtbot)
    assert [notice.message for notice in notices] == ["No space left."]
    save(recovery, qtbot)
    session = next(path for path in folder.iterdir() if path.is_dir())
    assert open_work(session).items[0].labels.array.any()


def test_a_layer_that_cannot_be_saved_does_not_stop_the_others(
    make_recovery: Any, model_viewer: Any, qtbot: Any, notices: list[Any], folder: Path
) -> None:
    recovery = make_recovery()
    painted(model_viewer)
    _, bad = painted(model_viewer)
    bad.data = np.ones((2, 3, 4), np.uint8)
    save(recovery, qtbot)
    assert len(notices) == 1 and "2 × 3 × 4 voxels" in notices[0].message
    session = next(path for path in folder.iterdir() if path.is_dir())
    assert len(open_work(session).items) == 1


@pytest.mark.parametrize("pause_ms", [0, 500])
def test_a_removed_layer_and_its_image_are_not_lost(
    make_recovery: Any, model_viewer: Any, qtbot: Any, folder: Path, pause_ms: int
) -> None:
    recovery = make_recovery()
    image, layer = painted(model_viewer)
    expected = hash_of(layer_facts(image))
    model_viewer.layers.remove(image)
    qtbot.wait(pause_ms)
    layer.data[0, 0, 0] = 7
    model_viewer.layers.remove(layer)
    qtbot.waitUntil(lambda: not recovery.is_saving and not recovery._waiting, timeout=20_000)
    session = next(path for path in folder.iterdir() if path.is_dir())
    (item,) = open_work(session).items
    assert item.labels.array[0, 0, 0] == 7 and item.labels.array.sum() == layer.data.sum()
    assert (item.image_hash, item.image_name) == (expected, "CT 3")


# Coming back


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_after_a_crash_everything_is_offered_with_its_image(
    make_recovery: Any, model_viewer: Any, other_viewer: Any, qtbot: Any, direction: str
) -> None:
    first = make_recovery()
    image, layer = painted(model_viewer, direction)
    shown = result_layer(request(image), make_labels(make_volume(direction)))
    corrected = model_viewer.add_layer(begin_painting(image, shown))
    untouched = corrected.data.copy()
    corrected.data[3, 3, 3] = 100
    save(first, qtbot)
    crash(first)

    second = make_recovery(other_viewer)
    other_viewer.add_layer(scan("axial", shape=(4, 30, 30)))
    with qtbot.waitSignal(second.found, timeout=20_000) as offered:
        again = other_viewer.add_layer(scan(direction))
    found, (leftover,) = offered.args
    assert found is again and leftover.record.items[0].image_name == "CT 3"
    second.take_back(again, leftover)
    qtbot.waitUntil(lambda: len(other_viewer.layers) == 4, timeout=20_000)
    back, back_corrected = other_viewer.layers[-2:]
    assert np.array_equal(back.data, layer.data) and np.array_equal(back_corrected.data, corrected.data)
    assert same_grid(layer_facts(back), layer_facts(again)) and back.data.flags.writeable
    assert back.metadata[KEY]["geometry"] == layer.metadata[KEY]["geometry"]
    assert back.metadata[KEY]["names"] == layer.metadata[KEY]["names"]
    assert back.metadata[KEY]["colours"] == layer.metadata[KEY]["colours"]
    assert np.array_equal(back.get_color(1), layer.get_color(1))
    painting, before = painting_of(back), painting_of(layer)
    assert painting.complete == before.complete == {4} and painting.background == before.background
    assert painting.untouched is None and painting.image_id == str(again.unique_id)
    assert np.array_equal(painting_of(back_corrected).untouched, untouched)


def test_a_leftover_goes_when_it_was_taken_back_and_saved(
    make_recovery: Any, model_viewer: Any, other_viewer: Any, qtbot: Any
) -> None:
    first = make_recovery()
    painted(model_viewer), painted(model_viewer, "RAS")
    save(first, qtbot)
    crash(first)
    second = make_recovery(other_viewer)
    image = other_viewer.add_layer(scan("RAS"))
    (leftover,) = leftovers()
    second.take_back(image, leftover)
    qtbot.waitUntil(lambda: len(leftovers()[0].record.items) == 1, timeout=20_000)
    qtbot.waitUntil(lambda: not second.is_saving, timeout=20_000)
    assert leftovers()[0].folder == leftover.folder and not offered_for(hash_of(layer_facts(image)))
    crash(second)
    # What was taken back is the new session's now, and is offered again if that, too, ends badly.
    assert len(leftovers()) == 2 and len(offered_for(hash_of(layer_facts(image)))) == 1


def test_a_leftover_stays_while_the_new_session_cannot_save(
    make_recovery: Any, model_viewer: Any, other_viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch, notices: Any
) -> None:
    first = make_recovery()
    painted(model_viewer)
    save(first, qtbot)
    crash(first)
    second = make_recovery(other_viewer)
    image = other_viewer.add_layer(scan())

    def full(*_: object) -> None:
        raise WriteError("No space left.")

    with monkeypatch.context() as patched:
        patched.setattr(recovery_module, "iter_save_work", full)
        second.take_back(image, leftovers()[0])
        qtbot.waitUntil(lambda: bool(notices) and not second.is_saving, timeout=20_000)
        assert len(other_viewer.layers) == 2 and len(leftovers()) == 1
    save(second, qtbot)
    qtbot.waitUntil(lambda: not leftovers(), timeout=20_000)


def test_an_image_that_is_read_later_is_looked_at_then(
    make_recovery: Any, model_viewer: Any, other_viewer: Any, qtbot: Any
) -> None:
    first = make_recovery()
    painted(model_viewer)
    save(first, qtbot)
    crash(first)
    volume = make_volume()
    lazy = Volume(dask.array.from_array(volume.array, chunks=(1, 40, 48)), volume.geometry, name="CT 3")
    second = make_recovery(other_viewer)
    image = other_viewer.add_layer(Layer.create(*volume_to_layer(lazy)))
    qtbot.wait(50)
    with qtbot.waitSignal(second.found, timeout=20_000):
        image.data = np.asarray(image.data)


def test_an_image_that_was_open_before_is_looked_at(
    make_recovery: Any, model_viewer: Any, other_viewer: Any, qtbot: Any
) -> None:
    first = make_recovery()
    painted(model_viewer)
    save(first, qtbot)
    crash(first)
    image = other_viewer.add_layer(scan())
    image.translate = (9, 9, 9)  # where the layer was moved to does not matter
    second = make_recovery(other_viewer)
    assert second.offers() == []
    with qtbot.waitSignal(second.found, timeout=20_000):
        pass
    ((offered, (leftover,)),) = second.offers()
    assert offered is image
    second.take_back(image, leftover)
    qtbot.waitUntil(lambda: not second.offers(), timeout=20_000)


def test_a_running_session_is_offered_to_nobody(
    make_recovery: Any, model_viewer: Any, qtbot: Any, folder: Path
) -> None:
    recovery = make_recovery()
    painted(model_viewer)
    save(recovery, qtbot)
    ask = "from napari_lungseg.plugin.leftovers import leftovers, prune; prune(); print(len(leftovers()))"
    told = [sys.executable, "-c", ask]
    assert subprocess.run(told, capture_output=True, text=True, check=True).stdout.strip() == "0"
    assert leftovers() == [] and any(folder.glob("*/" + RECORD))
    crash(recovery)
    assert subprocess.run(told, capture_output=True, text=True, check=True).stdout.strip() == "1"


# Leaving


def test_unsaved_paint_outlives_a_normal_end(make_recovery: Any, model_viewer: Any, qtbot: Any) -> None:
    recovery = make_recovery()
    _, layer = painted(model_viewer)
    recovery.close()
    (leftover,) = leftovers()
    assert np.array_equal(open_work(leftover.folder).items[0].labels.array, layer.data)


def test_layers_that_the_closing_window_removes_are_kept(make_recovery: Any, model_viewer: Any, qtbot: Any) -> None:
    recovery = make_recovery()
    image, layer = painted(model_viewer)
    model_viewer.layers.clear()
    recovery.close()
    (leftover,) = offered_for(hash_of(layer_facts(image)))
    assert np.array_equal(open_work(leftover.folder).items[0].labels.array, layer.data)


def test_saved_work_leaves_nothing(make_recovery: Any, model_viewer: Any, qtbot: Any, folder: Path) -> None:
    recovery = make_recovery()
    _, layer = painted(model_viewer)
    _, unwanted = painted(model_viewer)
    save(recovery, qtbot)
    model_viewer.layers.remove(unwanted)
    assert recovery.has_unsaved
    recovery.note_saved(recovery.mark())
    assert not recovery.has_unsaved
    recovery.close()
    assert list(folder.iterdir()) == [] and layer.data.any()


def test_strokes_after_the_last_save_work_are_kept(make_recovery: Any, model_viewer: Any, qtbot: Any) -> None:
    recovery = make_recovery()
    _, layer = painted(model_viewer)
    mark = recovery.mark()
    layer.data[0, 0, 0] = 7
    recovery.note_saved(mark)
    recovery.close()
    (leftover,) = leftovers()
    assert open_work(leftover.folder).items[0].labels.array[0, 0, 0] == 7


def test_a_viewer_has_one_recovery_and_it_ends_with_the_viewer(qtbot: Any) -> None:
    import gc

    from napari.components import ViewerModel

    viewer = ViewerModel()
    recovery = recovery_of(viewer)
    assert recovery_of(viewer) is recovery
    _, layer = painted(viewer)
    save(recovery, qtbot)
    del viewer, layer
    gc.collect()
    assert recovery.viewer is None
    recovery.save_now()
    assert len(leftovers()) == 1
    assert recovery not in recovery_module._OPEN


# What is left over


def leave(folder: Path, name: str, saved: datetime | None = None) -> Path:
    from napari_lungseg.training.work import WorkItem

    made = save_work(folder / name, Work((WorkItem(make_labels(make_volume()), image_hash="abc"),)))
    if saved is not None:
        text = (made / RECORD).read_text()
        (made / RECORD).write_text(text.replace(read_record(made).saved.isoformat(), saved.isoformat()))
    return made


def test_leftovers_are_pruned(folder: Path) -> None:
    now = datetime.now(UTC)
    for number in range(12):
        leave(folder, f"s{number:02d}", now - timedelta(days=number))
    leave(folder, "ancient", now - timedelta(days=31))
    (folder / "never saved").mkdir()
    running = leave(folder, "running", now - timedelta(days=99))
    lock = FileLock(f"{running}.lock")
    lock.acquire()
    prune()
    assert [leftover.folder.name for leftover in leftovers()] == [f"s{number:02d}" for number in range(10)]
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {
        "running",
        *(f"s{number:02d}" for number in range(10)),
    }
    lock.release()


def test_a_leftover_of_a_newer_version_is_not_offered_and_not_removed(folder: Path) -> None:
    newer = leave(folder, "newer")
    (newer / RECORD).write_text((newer / RECORD).read_text().replace('"format": 1', '"format": 2'))
    prune()
    assert leftovers() == [] and (newer / RECORD).exists()


def test_a_part_of_a_leftover_can_be_taken(folder: Path) -> None:
    from napari_lungseg.training.work import WorkItem

    items = [WorkItem(make_labels(make_volume()), image_hash=content) for content in ("abc", "def", "abc")]
    save_work(folder / "two", Work(tuple(items)))
    (leftover,) = offered_for("abc")
    assert len(leftover.items_for("abc")) == 2 and not leftover.items_for("")
    discard_for(leftover, "abc")
    assert not offered_for("abc") and len(open_work(folder / "two").items) == 1
    discard_for(leftovers()[0], "def")
    assert list(folder.iterdir()) == []


def test_where_autosaves_lie(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    assert recovery_folder() == folder
    monkeypatch.delenv("LUNGSEG_RECOVERY")
    assert recovery_folder().name == "recovery" and recovery_folder().parent.name == "napari-lungseg"


# Killed


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_session_loses_no_more_than_the_time_between_saves(folder: Path, kills: int) -> None:
    chance = random.Random(kills)
    for _ in range(kills):
        times = paint_until_killed(chance.uniform(0.1, 1.2))
        (leftover,) = leftovers()
        (item,) = open_work(leftover.folder).items
        painted = next(
            n for n in reversed(range(len(times))) if np.array_equal(painting_session.strokes(n), item.labels.array)
        )
        assert times[-1] - times[painted] < painting_session.INTERVAL_MS / 1000 + 2
        assert item.labels.names[1] == "nodule" and item.image_hash
        shutil.rmtree(leftover.folder)


def paint_until_killed(seconds: float) -> list[float]:
    """Run a session that is killed so long after its first save; when it was with each number of strokes."""
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "NAPARI_CONFIG": ""}
    command = [sys.executable, painting_session.__file__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line == "saved\n":
                break
        time.sleep(seconds)
        process.kill()
        lines += list(process.stdout)
    told = [line.split() for line in lines if line.endswith("\n") and line != "saved\n"]
    times = [float(line[1]) for line in told]
    return [times[0], *times]
