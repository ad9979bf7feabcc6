"""Training as it is really run: in processes that are killed, and in several at once."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from training_set import NORMED, RECIPE, make_training_set

from napari_lungseg.models.weights import read_weights
from napari_lungseg.training.run import RunFolder


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def command(data: Path, recipe: Path, out: Path, cache: Path, *more: str) -> list[str]:
    arguments = ["train", str(data), "--recipe", str(recipe), "-o", str(out), "--cache", str(cache), "--device", "cpu"]
    return ["-m", "napari_lungseg", *arguments, *more]


def losses(folder: Path) -> list[float]:
    with (folder / "log.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_process_goes_on_from_a_whole_checkpoint(tmp_path: Path, kills: int) -> None:
    data, recipe, cache = make_training_set(tmp_path / "data", 20), tmp_path / "tiny.toml", tmp_path / "cache"
    recipe.write_text(RECIPE.replace("epochs = 3", f"epochs = {6 * kills}"))
    whole, out = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([sys.executable, *command(data, recipe, whole, cache)], check=True, env=environment(), timeout=900)
    chance = random.Random(kills)
    for number in range(kills):
        process = subprocess.Popen([sys.executable, *command(data, recipe, out, cache, "--resume")], env=environment())
        wait_for_epoch(out, process, 3 + 4 * number)
        time.sleep(chance.uniform(0, 0.7))
        process.send_signal(signal.SIGKILL)
        process.wait()
        saved = RunFolder(out, "tiny").load_checkpoint()
        assert saved is not None and saved["epoch"] >= 1
        assert all(read_weights(file) for file in out.glob("*.safetensors"))
    last = [sys.executable, *command(data, recipe, out, cache, "--resume")]
    subprocess.run(last, check=True, env=environment(), timeout=900)
    assert losses(out) == losses(whole)
    assert not list(out.glob(".writing-*"))


def wait_for_epoch(folder: Path, process: subprocess.Popen[bytes], epoch: int) -> None:
    """Until a run has logged so many epochs, or ended."""
    until = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < until:
        if (folder / "log.csv").is_file() and len(losses(folder)) >= epoch:
            return
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_two_processes_train_like_one_with_twice_the_batch(tmp_path: Path) -> None:
    data, cache = make_training_set(tmp_path / "data", 20), tmp_path / "cache"
    recipe = tmp_path / "normed.toml"
    recipe.write_text(NORMED)
    options = ("--loss", "focal", "--optimiser", "sgd", "--epochs", "3")
    one = command(data, recipe, tmp_path / "one", cache, "--batch-size", "4", *options)
    subprocess.run([sys.executable, *one], check=True, env=environment(), timeout=600)
    two = command(data, recipe, tmp_path / "two", cache, "--batch-size", "2", *options)
    done = in_two_processes(two)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=0.01)
    assert losses(tmp_path / "two")[-1] < losses(tmp_path / "two")[0]
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        str(tmp_path / "two" / "normed.safetensors")
    ]


def in_two_processes(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    whole = [sys.executable, *launcher, *arguments]
    done = subprocess.run(whole, check=False, env=environment(), timeout=600, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


SLOW_DISK = """
import json, os, sys, time
from pathlib import Path
from napari_lungseg.models.weights import read_spec, save_model
from napari_lungseg.progress import drain
from napari_lungseg.training import comparison, loop, session
from napari_lungseg.training.recipe import load_recipe

def save_slowly(*arguments):
    time.sleep(1)
    return save_model(*arguments)

comparison.save_model = session.save_model = save_slowly
recipe, data, extra, out, cache = map(Path, sys.argv[1:])
recipe = load_recipe(recipe)
alone = read_spec(drain(loop.iter_train(recipe, [data], out / "alone", device="cpu", cache=cache)))
steps = comparison.iter_train_with_unlabelled(recipe, [data], extra, out, device="cpu", cache=cache)
better = read_spec(drain(steps))
(out / f"seen-{os.environ['RANK']}.json").write_text(json.dumps([alone.training, better.training]))
"""


def test_every_process_finds_what_the_first_has_written(tmp_path: Path) -> None:
    data, extra = make_training_set(tmp_path / "data", 20), make_training_set(tmp_path / "extra", 4, first=100)
    recipe, script, out = tmp_path / "normed.toml", tmp_path / "slow.py", tmp_path / "run"
    recipe.write_text(
        NORMED.replace("epochs = 3", "epochs = 2") + 'schedule = "cosine-restarts"\ncycle = 1\nsnapshots = 2\n'
    )
    script.write_text(SLOW_DISK)
    in_two_processes([str(part) for part in (script, recipe, data, extra / "images", out, tmp_path / "cache")])
    first, second = (json.loads((out / f"seen-{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert "snapshots" in first[0]["notes"][-1]
    assert set(first[1]["unlabelled"]) == {"with", "without"}
    for name in ("with", "without"):
        assert len(list((out / name / "snapshots").iterdir())) == 2
    assert not list(out.rglob(".writing-*"))
