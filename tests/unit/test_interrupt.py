"""Ctrl-C as a person presses it: a real signal to a real process, in the middle of real work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from command_line import save_untrained

from napari_lungseg.io import read, write
from napari_lungseg.phantom import thorax_ct

MANY = 40


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one child process.")
def test_an_interrupted_run_keeps_what_is_finished_and_nothing_else(tmp_path):
    model = save_untrained(tmp_path / "tiny.safetensors", "ct")
    scan, _ = thorax_ct((10, 64, 64), seed=1)
    inputs = [write(scan, tmp_path / "in" / f"scan{number:02d}.nii.gz") for number in range(MANY)]
    out = tmp_path / "out"
    command = [sys.executable, "-m", "napari_lungseg", "segment", *map(str, inputs), "-o", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--model", str(model), "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # shells may have it ignored
    )
    wait_for(lambda: len(list(out.glob("*.nii.gz"))) >= 2, process)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert told.strip().splitlines() == ["lungseg: Stopped. Finished files are complete, and no other was begun."]
    finished = sorted(out.glob("*.nii.gz"))
    assert 2 <= len(finished) < MANY
    assert all(read(path)[0].geometry.shape == scan.geometry.shape for path in finished)
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]


def wait_for(condition, process):
    """Until it holds; a process that ends before is shown with what it said."""
    until = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)
