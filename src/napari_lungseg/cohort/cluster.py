"""Where the work is done: worker processes on this machine, or a Dask cluster that somebody else runs."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import LungSegError
from .settings import CohortSettings

_CONNECT_S = "10s"


class ClusterError(LungSegError):
    """A cluster that is not there, or is no more."""


@contextmanager
def connected(settings: CohortSettings, device: str) -> Iterator[Any]:
    """A Dask client, and for as long as it lasts the workers of this machine where no scheduler is named.

    Raises
    ------
    ClusterError
        When nobody answers at the scheduler's address.
    """
    import dask

    _check_installed()
    from distributed import Client

    with dask.config.set({"distributed.comm.timeouts.connect": _CONNECT_S}):
        if settings.scheduler:
            try:
                client = Client(settings.scheduler, set_as_default=False)
            except (OSError, ValueError) as error:
                raise ClusterError(
                    f"No Dask scheduler answers at {settings.scheduler} ({error}). Start one with `dask scheduler`, "
                    "workers with `dask worker ADDRESS --nthreads 2`, and give the address that it prints."
                ) from error
            with client:
                yield client
            return
        with _local(settings, device) as cluster, Client(cluster, set_as_default=False) as client:
            yield client


def _check_installed() -> None:
    if importlib.util.find_spec("distributed") is None:
        raise ClusterError("Cohorts need Dask distributed: run `pip install distributed`.")


@contextmanager
def _local(settings: CohortSettings, device: str) -> Iterator[Any]:
    import logging

    import dask
    from distributed import LocalCluster

    workers = settings.workers or max(1, gpus(device))
    with (
        dask.config.set({"distributed.nanny.pre-spawn-environ": _environment(workers)}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=settings.overlap,
            processes=True,
            dashboard_address=":0" if has_dashboard() else None,
            silence_logs=logging.CRITICAL,
        ) as cluster,
    ):
        yield cluster


def _environment(workers: int) -> dict[str, int]:
    """What a worker's process starts with, instead of what Dask sets: one thread, and freed memory given back at once.

    One arena for all threads: in those of other threads than the first, the C library gives memory back whatever it is told
    (see `segmentation.devices.keep_freed_memory`).
    """
    from dask.system import CPU_COUNT

    threads = max(1, int(CPU_COUNT) // workers)
    return {"OMP_NUM_THREADS": threads, "MALLOC_ARENA_MAX": 1}


def has_dashboard() -> bool:
    """Whether Dask can show its dashboard."""
    return importlib.util.find_spec("bokeh") is not None


def gpus(device: str) -> int:
    """How many GPUs share the work: those of the machine, unless one device is named."""
    if device != "auto":
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def device_of(worker: Any, device: str) -> str:
    """The device of a worker: the workers of this machine, which Dask numbers, are pinned to one GPU each in turn.

    Parameters
    ----------
    worker : Dask's worker
    device : that was asked for
    """
    count = gpus(device)
    return f"cuda:{int(worker.name) % count}" if count > 1 and str(worker.name).isdigit() else device


def threads_of(worker: Any, hosts: Counter[str]) -> int:
    """Threads of the processor for a worker's network: its share of those that it may use.

    Parameters
    ----------
    worker : Dask's worker
    hosts : workers on each machine
    """
    from dask.system import CPU_COUNT

    host = worker.address.rpartition(":")[0]
    return max(1, int(CPU_COUNT) // max(1, hosts[host]))


def hosts_of(workers: Iterable[str]) -> Counter[str]:
    """Workers on each machine, by their addresses."""
    return Counter(address.rpartition(":")[0] for address in workers)
