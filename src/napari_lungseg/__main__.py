"""``python -m napari_lungseg`` is ``lungseg``."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    main()
