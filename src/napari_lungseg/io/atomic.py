"""Files that appear complete or not at all."""

from __future__ import annotations

import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import WriteError


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Write to the path given, beside the target's folder; on success everything there is moved into place.

    The temporary folder lies in the target's own folder, so that moving is a rename and never a copy. A format of
    several files (``.mhd`` with its voxels, a sidecar) writes them all there under their final names; the target
    itself comes last. After a failure nothing is left and an older file is untouched.

    Parameters
    ----------
    target : the file to make; its folder is made where it is missing

    Raises
    ------
    WriteError
        When the disk refuses (full, read-only, no permission).
    """
    if target.is_dir():
        raise WriteError(f"{target.name} is a folder; name a file in it.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".writing-", dir=target.parent))
    except OSError as error:
        raise WriteError(_sentence(target, error)) from error
    try:
        mode = _usual_mode(folder)
        yield folder / target.name
        for part in sorted(folder.iterdir(), key=lambda part: part.name == target.name):
            part.chmod(mode)
            part.replace(target.parent / part.name)
    except (OSError, RuntimeError) as error:  # SimpleITK reports a refusing disk as RuntimeError
        raise WriteError(_sentence(target, error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _usual_mode(folder: Path) -> int:
    """Who may read a file that anybody makes there; some libraries make theirs for the owner alone."""
    probe = folder / "probe"
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    return mode


def _sentence(target: Path, error: Exception) -> str:
    reason = (getattr(error, "strerror", None) or str(error)).strip().splitlines()[-1]
    return (
        f"{target.name} could not be written ({reason}); nothing was changed. Choose another folder or free some space."
    )


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Fill the folder given, which lies beside the target; on success it becomes the target, else nothing is left.

    Parameters
    ----------
    target : the folder to make; it may exist while it is empty

    Raises
    ------
    WriteError
        Where the target holds something already, or the disk refuses.
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise WriteError(f"{target.name} holds something already; name a new folder.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".writing-", dir=target.parent))
    except OSError as error:
        raise WriteError(_sentence(target, error)) from error
    try:
        (folder / "new").mkdir()
        yield folder / "new"
        if target.exists():
            target.rmdir()
        (folder / "new").replace(target)
    except OSError as error:
        raise WriteError(_sentence(target, error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
