"""Whole cohorts through Dask, and what is left of them when workers, scheduler, client or disk give out."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cohort_phantoms import (
    SECRET,
    changed,
    check_whole,
    dask_cluster,
    ended,
    fill,
    finished,
    inputs_in,
    is_broken,
    lungseg,
    make_cohort,
    quick,
    rows_of,
    small_disk,
    states_of,
    wait_for,
    workers_of,
)
from tiny_model import save_tiny

COUNT = 12


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven sound inputs and a broken one. The X-rays fail, too: the model is for CT."""
    folder = tmp_path_factory.mktemp("cohort") / "in"
    make_cohort(folder, COUNT)
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def arguments(scans: Path, out: Path, model: Path, *more: object) -> tuple[object, ...]:
    return "cohort", scans, "-o", out, "--model", model, "--device", "cpu", *more


def expected(scans: Path) -> dict[str, int]:
    """State → rows: whatever is sound and a CT is done."""
    inputs = inputs_in(scans)
    done = sum(path.suffix != ".png" and not is_broken(path) for path in inputs)
    return {"done": done, "failed": len(inputs) - done}


def test_a_cohort_and_its_second_run(scans: Path, out: Path, model: Path) -> None:
    code, said = ended(lungseg(*arguments(scans, out, model, "--workers", 2)))
    assert code == 2, said
    assert states_of(out) == expected(scans)
    assert all(row["reason"] for row in rows_of(out) if row["state"] == "failed")
    check_whole(out)
    assert SECRET not in (out / "index.html").read_text()
    assert json.loads((out / "status.json").read_text())["state"] == "finished"
    before = changed(out)
    started = time.monotonic()
    code, said = ended(lungseg(*arguments(scans, out, model, "--workers", 2)))
    assert (code, changed(out)) == (2, before)
    assert f"{COUNT} input(s) were finished already" in said
    assert "Workers at" not in said  # nothing was started
    assert time.monotonic() - started < 300
    code, said = ended(lungseg(*arguments(scans, out, model, "--no-postprocess")))
    assert set(changed(out)) == set(before)
    assert all(changed(out)[case] > before[case] for case in before)


def test_columns_of_a_table_are_kept_but_not_who_the_patient_is(scans: Path, out: Path, model: Path) -> None:
    table = scans.parent / "patients.csv"
    names = sorted(path.name for path in scans.glob("*.nii.gz"))
    lines = [f"{name},{SECRET},{number},{scans}/{name}.mask" for number, name in enumerate(names)]
    table.write_text("\n".join(["image,patient name,arm,mask", *(f"in/{line}" for line in lines)]) + "\n")
    ended(lungseg(*arguments(table, out, model)))
    rows = rows_of(out)
    assert sorted(row["arm"] for row in rows) == [str(number) for number in range(len(names))]
    assert not {"patient name", "mask", "image"} & set(rows[0])
    key = (out / "private" / "inputs.csv").read_text()
    assert key.count(SECRET) >= 2 * len(names)


def test_a_killed_worker_costs_nothing(scans: Path, out: Path, model: Path) -> None:
    process = lungseg(*arguments(scans, out, model, "--workers", 2))
    wait_for(lambda: len(finished(out)) >= 2, process)
    workers_of(process)[0].kill()
    (out / "cases" / ".writing-killed").mkdir()  # as a kill in the midst of writing leaves it
    code, said = ended(process)
    assert code == 2, said
    assert states_of(out) == expected(scans)
    check_whole(out)


def test_a_killed_client_is_finished_by_the_next_run(scans: Path, out: Path, model: Path) -> None:
    process = lungseg(*arguments(scans, out, model))
    wait_for(lambda: len(finished(out)) >= 3, process)
    workers = workers_of(process)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(worker.is_running() and worker.status() != "zombie" for worker in workers))
    done, before = finished(out), changed(out)
    code, said = ended(lungseg(*arguments(scans, out, model)))
    assert code == 2, said
    assert f"{len(done)} input(s) were finished already" in said
    kept = {row["case"] for row in rows_of(out) if row["input"] in done and row["state"] == "done"}
    assert {case: changed(out)[case] for case in kept} == {case: before[case] for case in kept}
    assert states_of(out) == expected(scans)
    check_whole(out)


def test_a_killed_scheduler_ends_the_run_clearly(scans: Path, out: Path, model: Path) -> None:
    with dask_cluster() as (address, processes):
        process = lungseg(*arguments(scans, out, model, "--scheduler", address))
        wait_for(lambda: len(finished(out)) >= 3, process)
        processes[0].kill()
        code, said = ended(process, timeout=120)
    assert code == 2
    assert "connection to the Dask scheduler" in said
    assert "Traceback" not in said
    assert "is lost" in json.loads((out / "status.json").read_text())["state"]
    check_records = finished(out)
    code, said = ended(lungseg(*arguments(scans, out, model)))
    assert f"{len(check_records)} input(s) were finished already" in said
    assert states_of(out) == expected(scans)
    check_whole(out)


def test_nobody_at_the_address(scans: Path, out: Path, model: Path) -> None:
    code, said = ended(lungseg(*arguments(scans, out, model, "--scheduler", "tcp://127.0.0.1:9")))
    assert code == 2
    assert "No Dask scheduler answers" in said


def test_a_full_disk_ends_the_run_clearly(scans: Path, tmp_path: Path, model: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, 20) as mounted:
        if not mounted:
            pytest.skip("nothing can be mounted here")
        filler = fill(disk, 150_000)
        code, said = ended(lungseg(*arguments(scans, disk / "out", model)))
        assert code == 2
        assert "full" in said
        assert "Traceback" not in said
        check_whole(disk / "out")
        filler.unlink()
        code, said = ended(lungseg(*arguments(scans, disk / "out", model)))
        assert states_of(disk / "out") == expected(scans)
        check_whole(disk / "out")


def test_two_runs_do_not_share_a_folder(scans: Path, out: Path, model: Path) -> None:
    from filelock import FileLock

    out.mkdir()
    with FileLock(out / ".lock"):
        code, said = ended(lungseg(*arguments(scans, out, model)))
    assert code == 2
    assert "Another run" in said


def test_a_cluster_with_a_queue(scans: Path, out: Path, model: Path) -> None:
    """dask-jobqueue, with its jobs run on this machine; a real queue differs in the command that submits them."""
    script = (
        "import sys\nfrom dask_jobqueue.local import LocalCluster\n"
        "if __name__ == '__main__':\n"
        "    with LocalCluster(cores=2, processes=1, memory='8GB', scheduler_options={'dashboard': False},\n"
        "                      config_name='local') as cluster:\n"
        "        cluster.scale(jobs=1)\n"
        "        print(cluster.scheduler_address, flush=True)\n"
        "        sys.stdin.read()\n"
    )
    program = out.parent / "queue.py"
    program.write_text(script)
    queue = subprocess.Popen(
        [sys.executable, str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=quick(),
        cwd=out.parent,
    )
    try:
        assert queue.stdout is not None
        address = queue.stdout.readline().strip()
        code, said = ended(lungseg(*arguments(scans, out, model, "--scheduler", address)))
        assert code == 2, said
        assert states_of(out) == expected(scans)
    finally:
        queue.communicate(timeout=60)


def test_a_job_of_slurm_starts_a_worker_with_two_scans_at_once() -> None:
    script = (
        "from dask_jobqueue import SLURMCluster\n"
        "if __name__ == '__main__':\n"
        "    cluster = SLURMCluster(cores=2, processes=1, memory='16GB', walltime='12:00:00', job_cpu=8,\n"
        "        job_extra_directives=['--gres=gpu:1'], scheduler_options={'dashboard': False})\n"
        "    print(cluster.job_script())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=quick())
    assert "#SBATCH --gres=gpu:1" in done.stdout
    assert "--cpus-per-task=8" in done.stdout
    assert "--nthreads 2" in done.stdout
