"""Messages without the names of files and folders, which may hold a patient's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..io import suffix_of

_SHORTEST = 3


class Anonymous:
    """Takes the names of an input's files and folders out of texts.

    Parameters
    ----------
    files : of the input
    """

    def __init__(self, files: Sequence[Path]) -> None:
        words: dict[str, str] = {}
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
        self._words = {word: words[word] for word in sorted(words, key=len, reverse=True) if len(word) >= _SHORTEST}

    def __call__(self, text: str) -> str:
        """The text with every such name replaced."""
        for word, instead in self._words.items():
            if word in text:
                text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", instead, text)
        return text
