"""Mutate sound files and read them in processes with little memory and little time (benchmarks/robustness.py)."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import os
import queue
import re
import select
import subprocess
import sys
import tempfile
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fuzz_sources
import numpy as np
import psutil

SEED = 20_260
# Of the processor: a busy machine is no hang. What waits without working is ended, too.
SECONDS, LONGEST_WAIT, SPARE_BYTES = 10.0, 300.0, 1 << 30
_HEADER_BYTES = 700
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF)
_WORDS = (
    b"-1",
    b"0",
    b"1e308",
    b"nan",
    b"99999999",
    b"4294967296",
    b"18446744073709551615",
    b"../../../etc/passwd",
    b"",
)


@dataclass(frozen=True)
class Outcome:
    """What became of one mutated file.

    Parameters
    ----------
    case : seed and number, which make the same file again
    source : the sound file it was made from, "format/name"
    verdict : "volume" or "refused", which are fine; "crash", "hang", "memory", "exception" or "unclear", which are not
    told : the message, or what went wrong
    seconds, megabytes : that reading took, at most
    agrees : whether another reader got the same voxels; None where it cannot open the file
    """

    case: tuple[int, int]
    source: str
    verdict: str
    told: str
    seconds: float
    megabytes: float
    agrees: bool | None = None


def _flip(rng: np.random.Generator, data: bytearray, at: int) -> None:
    data[at] ^= 1 << int(rng.integers(8))


def _random(rng: np.random.Generator, data: bytearray, at: int) -> None:
    size = int(rng.integers(1, 17))
    data[at : at + size] = rng.bytes(size)


def _extreme(rng: np.random.Generator, data: bytearray, at: int) -> None:
    size, order = int(rng.choice((1, 2, 4, 8))), str(rng.choice(("little", "big")))
    value = int(rng.choice(np.array(_EXTREMES, dtype=np.uint64))) & ((1 << 8 * size) - 1)
    data[at : at + size] = value.to_bytes(size, order)  # type: ignore[arg-type]


def _cut(rng: np.random.Generator, data: bytearray, at: int) -> None:
    del data[at : at + int(rng.integers(1, 64))]


def _double(rng: np.random.Generator, data: bytearray, at: int) -> None:
    data[at:at] = data[at : at + int(rng.integers(1, 64))]


def _move(rng: np.random.Generator, data: bytearray, at: int) -> None:
    other, size = int(rng.integers(len(data))), int(rng.integers(1, 64))
    data[at : at + size] = data[other : other + size]


def _end(rng: np.random.Generator, data: bytearray, at: int) -> None:
    del data[at:]


def _number(rng: np.random.Generator, data: bytearray, at: int) -> None:
    """Another number (or word) in place of one that is written out."""
    numbers = list(re.finditer(rb"-?\d+(\.\d+)?", bytes(data[: 4 * _HEADER_BYTES])))
    if numbers:
        start, end = numbers[int(rng.integers(len(numbers)))].span()
        data[start:end] = _WORDS[int(rng.integers(len(_WORDS)))]


_MUTATIONS: Sequence[Callable[[np.random.Generator, bytearray, int], None]] = (
    *(_flip, _random, _extreme, _extreme, _extreme, _cut, _double, _move, _end, _number, _number),
)


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """One to three mutations, most of them where headers are; mostly below the checksums of gzip and PNG."""
    if rng.random() < 0.8:
        if content[:2] == b"\x1f\x8b":
            return gzip.compress(_mutated(gzip.decompress(content), rng), mtime=0)
        if content[:4] == b"PK\3\4":
            return _mutated_archive(content, rng)
        if content[:4] == b"\x89PNG":
            return _with_checksums(_mutated(content, rng))
    return _mutated(content, rng)


def _mutated_archive(content: bytes, rng: np.random.Generator) -> bytes:
    """A ZIP with a mutated member below its checksum, or a mutated directory, which stands at the end."""
    if rng.random() < 0.5:
        return _mutated(content[::-1], rng)[::-1]
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(made, "w") as after:
        members = [member for member in before.infolist() if not member.flag_bits & 1]
        chosen = int(rng.integers(len(members)))
        for number, member in enumerate(members):
            held = before.read(member)
            after.writestr(member, _mutated(held, rng) if number == chosen else held)
    return made.getvalue()


def _with_checksums(content: bytes) -> bytes:
    """A PNG whose chunks, as far as they can be told, have the checksum of what they hold."""
    data, at = bytearray(content), 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        data[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(data)


def _mutated(content: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(content)
    for _ in range(int(rng.choice((1, 1, 2, 3)))):
        if not data:
            break
        reach = min(len(data), _HEADER_BYTES) if rng.random() < 0.75 else len(data)
        _MUTATIONS[int(rng.integers(len(_MUTATIONS)))](rng, data, int(rng.integers(reach)))
    return bytes(data)


def make_case(case: tuple[int, int], sources: dict[str, list[Path]], folder: Path) -> tuple[Path, str]:
    """Write the mutated file of a case into a folder of its own; returns its path and the name of its source."""
    rng = np.random.default_rng(case)
    formats = list(sources)
    name = formats[case[1] % len(formats)]
    source = sources[name][int(rng.integers(len(sources[name])))]
    folder.mkdir()
    for beside in [*source.parent.glob(f"{source.name.split('.')[0]}.*raw*"), *source.parent.glob("beside/*")]:
        (folder / beside.name).write_bytes(beside.read_bytes())
    path = folder / source.name
    path.write_bytes(mutated(source.read_bytes(), rng))
    return path, f"{name}/{source.name}"


class Reader:
    """A process that reads files with limits, and is started anew when it dies or hangs."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("fuzz_reader.py")), str(SPARE_BYTES)]
        # Without buffer: what `select` waits for must not lie in one already.
        self.temporary = tempfile.TemporaryDirectory(prefix="fuzzing-")
        environment = os.environ | {"TMPDIR": self.temporary.name}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, bufsize=0, env=environment, **pipes)
        self._answer(LONGEST_WAIT)

    def _answer(self, seconds: float = SECONDS) -> dict[str, Any] | None:
        """The next line, None where the process has died; TimeoutError after so many seconds of work without a word."""
        assert self.process.stdout is not None
        worked, waited = psutil.Process(self.process.pid), 0.0
        start = sum(worked.cpu_times()[:2])
        while not select.select([self.process.stdout], [], [], 1.0)[0]:
            waited += 1.0
            if waited > LONGEST_WAIT or sum(worked.cpu_times()[:2]) - start > seconds:
                raise TimeoutError
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def read(self, path: Path) -> dict[str, Any]:
        """What became of one file: keys as in `Outcome`."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{path}\n".encode())
        self.process.stdin.flush()
        answer: dict[str, Any] | None
        try:
            answer = self._answer()
        except TimeoutError:
            return self._gone("hang", SECONDS)
        if answer is None:
            return self._gone("crash", 0.0)
        try:
            other = self._answer()
        except TimeoutError:
            other = None
        if other is None:
            self._gone("", 0.0)  # it is the other reader that died
        return answer | (other or {"agrees": None})

    def _gone(self, verdict: str, seconds: float) -> dict[str, Any]:
        self.process.kill()
        code = self.process.wait()
        self.temporary.cleanup()
        self._start()
        return {"verdict": verdict, "told": f"exit status {code}", "seconds": seconds, "megabytes": 0.0}

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.kill()
        self.process.wait()
        self.temporary.cleanup()


def run(
    cases: Iterable[tuple[int, int]],
    folder: Path,
    *,
    formats: Sequence[str] = fuzz_sources.FORMATS,
    processes: int = 2,
) -> list[Outcome]:
    """Make and read these cases (seed and number); files that did harm stay in ``folder``."""
    sources = fuzz_sources.write_all(folder / "sources", formats)
    waiting: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
    for case in cases:
        waiting.put(case)
    outcomes: list[Outcome] = []

    def work() -> None:
        reader = Reader()
        for case in _until_empty(waiting):
            home = folder / f"{case[0]}-{case[1]}"
            path, source = make_case(case, sources, home)
            outcome = Outcome(case, source, **reader.read(path))
            outcomes.append(outcome)
            if not is_harm(outcome):
                for file in home.iterdir():
                    file.unlink()
                home.rmdir()
        reader.close()

    threads = [threading.Thread(target=work) for _ in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(outcomes, key=lambda outcome: outcome.case)


def _until_empty(waiting: queue.SimpleQueue[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    while True:
        try:
            yield waiting.get_nowait()
        except queue.Empty:
            return


def is_harm(outcome: Outcome) -> bool:
    """Whether the reader did anything but open the file rightly or refuse it clearly."""
    return outcome.verdict not in ("volume", "refused") or outcome.agrees is False


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown table of the figures, one row for each format."""
    rows = ["| format | files | opened | of them equal to another reader's | refused | harm | slowest s | most MB |"]
    rows.append("|---|---|---|---|---|---|---|---|")
    key = lambda outcome: outcome.source.split("/")[0]  # noqa: E731
    for name, group in itertools.groupby(sorted(outcomes, key=key), key):
        rows.append(_row(name, list(group)))
    return "\n".join([*rows, _row("all", outcomes)])


def _row(name: str, outcomes: Sequence[Outcome]) -> str:
    verdicts = Counter(outcome.verdict for outcome in outcomes)
    opened = [outcome for outcome in outcomes if outcome.verdict == "volume"]
    agreed = sum(outcome.agrees is True for outcome in opened)
    compared = sum(outcome.agrees is not None for outcome in opened)
    slowest, most = max(o.seconds for o in outcomes), max(o.megabytes for o in outcomes)
    harm = sum(map(is_harm, outcomes))
    cells = (name, len(outcomes), len(opened), f"{agreed} of {compared}", verdicts["refused"], harm)
    return "| " + " | ".join(map(str, cells)) + f" | {slowest:.1f} | {most:.0f} |"
