"""Messages without the names of files and folders, which may hold a patient's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from . import suffix_of
from .archive import is_archive, opened
from .discover import candidates

# Of lower-case words alone, which messages use themselves.
_SHORTEST = 5
_ORDINARY = re.compile(
    "chest|damaged|empty|files?|folder|header|images?|labels?|lungs|model|pixels|scans|series|shape|shift|slices?|study|thing|values?|"
    "volumes?|voxels|xray"
)


class Anonymous:
    """Takes the names of an input's files and folders out of texts.

    Parameters
    ----------
    files : of the input
    """

    def __init__(self, files: Sequence[Path]) -> None:
        words: dict[str, str] = {}  # what is replaced, and by what
        for path in files:
            for whole in (str(path), str(path.resolve())):
                words[whole] = "the file"
            suffix = suffix_of(path)
            words[path.name] = "a file" if len(files) > 1 else "the file"
            words.setdefault(path.name[: len(path.name) - len(suffix)] if suffix else path.stem, "the file")
        for folder in {folder for path in files for folder in path.resolve().parents}:
            words.setdefault(str(folder), "the folder")
            words.setdefault(folder.name, "the folder")
        # The longest first: a name is part of its path.
        self._words = {word: words[word] for word in sorted(words, key=len, reverse=True) if _may_name(word)}

    def __call__(self, text: str) -> str:
        """The text with every such name replaced."""
        for word, instead in self._words.items():
            if word in text:
                text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", instead, text)
        return text


def files_below(source: str) -> list[Path]:
    """A file or folder that a volume came from, and all that lies in it: a message may name any of these."""
    path = Path(source)
    if path.is_dir():
        return [path, *candidates(path)[0]]
    if not is_archive(path):
        return [path]
    with opened(path) as archive:
        return [path, *(path / name for name in archive.namelist())]


def _may_name(word: str) -> bool:
    """Whether a file's or folder's name can be a patient's, rather than a word that stands in any message."""
    if word.isalpha() and word.islower():
        return len(word) >= _SHORTEST and not _ORDINARY.fullmatch(word)
    return len(word) > 1
