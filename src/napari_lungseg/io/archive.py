"""ZIP archives of scans: what is in them is checked before anything is unpacked, and nothing lands outside."""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ..errors import ReadError
from ..findings import Finding

# Scans shrink to a half or a fifth, an empty mask to a thousandth: small members may shrink as they like, a whole
# archive that grows a hundredfold to more than this is a trap.
_BOMB_BYTES, _BOMB_RATIO = 2**30, 100
_MOST_MEMBERS = 500_000
_LONGEST_NAME = 60
# What reading a damaged member raises: wrong checksum, bad stream, unknown compression, password.
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError)


def is_archive(path: Path) -> bool:
    """Whether a path is a ZIP file, by its name."""
    return path.suffix.lower() == ".zip" and path.is_file()


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """A ZIP file whose promises were checked.

    Raises
    ------
    ReadError
        Where it is damaged, or would grow beyond reason.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (*DAMAGE, KeyError) as error:
        raise ReadError(f"{path.name} is a damaged ZIP file ({error}). Copy or export it again.") from error
    with archive:
        _check(path, archive)
        yield archive


def _check(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    grown, packed = sum(member.file_size for member in members), path.stat().st_size
    if len(members) > _MOST_MEMBERS:
        raise ReadError(
            f"{path.name} holds {len(members):,} files; at most {_MOST_MEMBERS:,} are read. Unpack it first."
        )
    if grown > max(_BOMB_BYTES, _BOMB_RATIO * packed):
        raise ReadError(
            f"{path.name} has {packed:,} bytes but claims to hold {grown:,}, more than any scan can be packed to. "
            "Nothing was unpacked; if you trust it, unpack it yourself and open the folder."
        )


def members_of(archive: zipfile.ZipFile) -> tuple[list[zipfile.ZipInfo], list[Finding]]:
    """The members that may be scans, in the order of their names, and what is told of the others."""
    files = sorted((each for each in archive.infolist() if not each.is_dir()), key=lambda member: member.filename)
    files = [each for each in files if not _is_hidden(each.filename)]
    locked = [each for each in files if each.flag_bits & 0x1]
    nested = [each for each in files if each.filename.lower().endswith(".zip")]
    left_out = {each.filename for each in (*locked, *nested)}
    findings = []
    if locked:
        told = f"{len(locked)} file(s) in the archive need a password; unpack it with that first."
        findings.append(Finding("locked-files", told))
    if nested:
        told = f"{len(nested)} ZIP file(s) inside the archive were left unread; unpack it and open them by themselves."
        findings.append(Finding("nested-archives", told))
    return [each for each in files if each.filename not in left_out], findings


def _is_hidden(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return not parts or parts[-1].startswith(".") or "__MACOSX" in parts


@contextmanager
def unpacked(path: Path, names: Sequence[str]) -> Iterator[tuple[list[Path], list[Finding]]]:
    """Some members in a temporary folder, under names that this package gives them, and what is told of damaged ones.

    The files are gone afterwards.

    Raises
    ------
    ReadError
        Where all are damaged, or the disk has no room for them.
    """
    with opened(path) as archive, tempfile.TemporaryDirectory(prefix="lungseg-") as folder:
        members = [archive.getinfo(name) for name in names]
        needed, free = sum(member.file_size for member in members), shutil.disk_usage(folder).free
        if needed > free:
            raise ReadError(f"{path.name} unpacks to {needed:,} bytes, but {folder} has room for {free:,}. Make room.")
        paths, reasons = [], []
        for number, member in enumerate(members):
            try:
                paths.append(_unpack(archive, member, Path(folder, str(number))))
            except DAMAGE as error:
                reasons.append(f"{PurePosixPath(member.filename).name} ({error})")
        if reasons and not paths:
            raise ReadError(f"{path.name} is damaged: {reasons[0]}. Copy or export it again.")
        told = f"{len(reasons)} file(s) of the archive are damaged and missing, first {''.join(reasons[:1])}."
        yield paths, [Finding("damaged-files", told)] if reasons else []


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> Path:
    folder.mkdir()
    # Never the member's own path, which may lead anywhere.
    name = re.sub(r"[^\w.-]", "_", PurePosixPath(member.filename).name)[-_LONGEST_NAME:].lstrip(".")
    target = folder / (name or "member")
    with archive.open(member) as packed, target.open("wb") as file:
        shutil.copyfileobj(packed, file)
        if file.tell() != member.file_size:
            raise EOFError(f"{file.tell():,} of {member.file_size:,} bytes are there")
    return target
