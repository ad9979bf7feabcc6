"""A cohort from its inputs to its table: listed, what is settled is passed over, the rest is shared out among workers."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import LungSegError, WriteError
from ..io.atomic import replacing
from ..progress import Progress
from .case import Task, settled, unfinished, work_on
from .cluster import ClusterError, connected, device_of, has_dashboard, hosts_of, threads_of
from .content import content_hash, model_hash, settings_hash
from .folder import CohortFolder, fingerprint_of
from .inputs import Input, iter_inputs
from .results import Results

_TICK_S = 1.0
# Scans that wait at the scheduler for each that is being worked on, so that no worker ever waits for the next.
_QUEUED = 2
_PROBE_BYTES = 1_000_000


@dataclass(frozen=True)
class Summary:
    """What a run came to.

    Parameters
    ----------
    counts : state → inputs' scans; "unchanged" counts the inputs that needed no work
    doubtful : scans with findings that say why the labels may be wrong
    page : to look at
    seconds : of the run
    """

    counts: dict[str, int]
    doubtful: int
    page: Path
    seconds: float


def iter_cohort(paths: Sequence[str | Path], task: Task) -> Generator[Progress, None, Summary]:
    """Segment every scan of a cohort; whatever happens to one scan is a row of the table.

    Parameters
    ----------
    paths : as for `iter_inputs`
    task : where the results go and how they are made; its ``key`` is set here

    Yields
    ------
    Progress
        Of inputs; at least once a second.

    Raises
    ------
    ReadError
        When there is nothing to work on.
    ClusterError
        When the scheduler cannot be reached or is lost; what is finished stays.
    WriteError
        When the results' disk is full; what is finished stays.
    """
    from filelock import FileLock, Timeout

    yield Progress(0, 0, "hashing the model")
    model = model_hash(task.model)
    settings = settings_hash(task.segment, task.modality, task.hu_offset, straighten=task.straighten)
    task = _with_key(task, f"{model}-{settings}")
    task.root.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(task.root / ".lock", timeout=0):
            inputs = yield from iter_inputs(paths, task.root, identifiers=task.cohort.keep_identifiers)
            return (yield from _run(task, inputs, {"model": model, "settings": settings}))
    except Timeout:
        raise WriteError(
            f"Another run is working in {str(task.root)!r}; wait for it, or choose another folder."
        ) from None
    except OSError as error:
        raise WriteError(f"{str(task.root)!r} cannot be used for results ({error.strerror or error}).") from error


def run_cohort(paths: Sequence[str | Path], task: Task, progress: Any = None) -> Summary:
    """As `iter_cohort`, to the end. In a script, call it under ``if __name__ == "__main__":``, for workers start anew."""
    from ..progress import drain

    return drain(iter_cohort(paths, task), progress)


def _with_key(task: Task, key: str) -> Task:
    from dataclasses import replace

    return replace(task, root=task.root.resolve(), key=key)


def _run(task: Task, inputs: Sequence[Input], hashes: dict[str, str]) -> Generator[Progress, None, Summary]:
    folder = CohortFolder(task.root)
    results = Results(folder, task, inputs, hashes)
    results.begin()
    waiting = []
    by_fingerprint = {mark: record for record in folder.records() for mark in record["fingerprints"] if mark}
    for number, item in enumerate(inputs):
        record = by_fingerprint.get(fingerprint_of(item.to_hash) if not item.problem else "")
        if record is not None and settled(folder, record, task):
            results.take(number, record | {"unchanged": True})
        else:
            waiting.append(number)
        if number % 100 == 0:
            yield Progress(number, len(inputs), "looking for finished scans")
    ended = "stopped"
    try:
        if waiting:
            yield from _work(task, inputs, waiting, results)
        ended = "finished"
    except LungSegError as error:
        ended = str(error)
        raise
    finally:
        results.end(ended)
    return results.summary()


def _work(task: Task, inputs: Sequence[Input], waiting: list[int], results: Results) -> Generator[Progress, None, None]:
    with connected(task.cohort, task.device) as client, closing(_Shared(client, task, inputs)) as shared:
        results.told["scheduler"] = client.scheduler.address if client.scheduler else ""
        results.told["dashboard"] = client.dashboard_link if has_dashboard() else ""
        yield Progress(len(inputs) - len(waiting), len(inputs), _where(results))
        for finished in shared.each(waiting):
            for number, record in finished:
                results.take(number, record)
                if record.get("disk"):
                    _check_disk(task.root)
            results.tick(running=shared.running, workers=sum(shared.hosts.values()))
            yield Progress(results.finished, len(inputs), results.line())


def _where(results: Results) -> str:
    board = results.told["dashboard"]
    return f"workers at {results.told['scheduler']}" + (f", dashboard {board}" if board else "")


def _check_disk(root: Path) -> None:
    """End where nothing can be written any more; a single hiccup costs the scan alone.

    Raises
    ------
    WriteError
        When the results' disk is full or gone.
    """
    try:
        with replacing(root / ".probe") as temporary:
            temporary.write_bytes(bytes(_PROBE_BYTES))
        (root / ".probe").unlink()
    except (WriteError, OSError) as error:
        raise WriteError(
            "The disk of the results is full or cannot be written. What is finished is complete; free some space and run the "
            "same command again for the rest."
        ) from error


@dataclass
class _Shared:
    """Inputs on their way through a cluster, a few more than it can hold at once."""

    client: Any
    task: Task
    inputs: Sequence[Input]
    hosts: Any = None
    threads: int = 1
    pending: dict[Any, int] = field(default_factory=dict)
    suspects: list[int] = field(default_factory=list)
    looked: float = 0.0

    @property
    def running(self) -> int:
        """Inputs that the cluster has."""
        return len(self.pending)

    def each(self, waiting: Iterable[int]) -> Iterator[list[tuple[int, dict[str, Any]]]]:
        """Numbers of inputs that have come to an end, each with its record; an empty list at least once a second.

        Inputs whose worker died again and again are tried once more after all others and by themselves: most were
        killed by what they shared the worker with.
        """
        line = iter(waiting)
        yield from self._through(line, lambda: max(2, _QUEUED * self.threads), last=False)
        suspects, self.suspects = self.suspects, []
        yield from self._through(iter(suspects), lambda: 1, last=True)

    def _through(self, line: Iterator[int], room: Any, *, last: bool) -> Iterator[list[tuple[int, dict[str, Any]]]]:
        self._look()
        while True:
            while len(self.pending) < room() and (number := next(line, None)) is not None:
                self._submit(number)
            if not self.pending:
                return
            yield [entry for future in self._done() for entry in self._collect(future, last=last)]
            self._look()

    def _look(self) -> None:
        if time.monotonic() - self.looked < 5 * _TICK_S and self.hosts:
            return
        with _lost_is_an_error(self.task):
            threads = self.client.nthreads()
        self.hosts, self.threads = hosts_of(threads), sum(threads.values())
        self.looked = time.monotonic()

    def _submit(self, number: int) -> None:
        with _lost_is_an_error(self.task):
            future = self.client.submit(
                _on_worker,
                self.task,
                self.inputs[number],
                dict(self.hosts),
                key=f"scan-{number}-{time.time_ns()}",
                pure=False,
            )
        self.pending[future] = number

    def _done(self) -> list[Any]:
        from distributed import TimeoutError as NothingYet
        from distributed import wait

        with _lost_is_an_error(self.task):
            try:
                with self.client.as_current():
                    return list(wait(list(self.pending), timeout=_TICK_S, return_when="FIRST_COMPLETED").done)
            except NothingYet:
                return []

    def _collect(self, future: Any, *, last: bool) -> Iterator[tuple[int, dict[str, Any]]]:
        from distributed.scheduler import KilledWorker

        number = self.pending.pop(future)
        error = future.exception() if future.status == "error" else None
        if isinstance(error, KilledWorker) and not last:
            self.suspects.append(number)
        elif error is not None:
            yield number, _not_finished(self.inputs[number], error)
        else:
            with _lost_is_an_error(self.task):
                yield number, future.result()

    def close(self) -> None:
        """Call back what has not begun."""
        if self.pending and self.client.status == "running":
            self.client.cancel(list(self.pending), force=True)


@contextmanager
def _lost_is_an_error(task: Task) -> Iterator[None]:
    from concurrent.futures import CancelledError

    from distributed import CancelledError as Cancelled

    try:
        yield
    except (CancelledError, Cancelled, OSError) as error:
        where = task.cohort.scheduler or "of this machine"
        raise ClusterError(
            f"The connection to the Dask scheduler {where} is lost ({type(error).__name__}). What is finished is complete; "
            "start the scheduler and run the same command again for the rest."
        ) from error


def _on_worker(task: Task, item: Input, hosts: dict[str, int]) -> dict[str, Any]:
    from collections import Counter

    from distributed import get_worker

    worker = get_worker()
    return work_on(task, item, device_of(worker, task.device), threads_of(worker, Counter(hosts)))


def _not_finished(item: Input, error: BaseException) -> dict[str, Any]:
    """The record of an input that no worker could finish."""
    from distributed.scheduler import KilledWorker

    try:
        content = content_hash(item.to_hash)
    except OSError:
        content = ""
    if isinstance(error, KilledWorker):
        reason = (
            "The worker ended while it had this scan, again and again: killed, or out of memory. "
            "Take fewer workers or --overlap 1, and run again."
        )
    else:
        reason = f"The worker could not take this scan ({type(error).__name__})."
    return {"input": content, "rows": [unfinished(content, reason)], "recorded": False}
