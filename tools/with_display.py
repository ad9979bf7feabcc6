"""Run a command with a screen: under Xvfb where there is one, as it stands elsewhere.

Usage: ``python tools/with_display.py COMMAND [ARGUMENT]...``
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

SCREEN = "-screen 0 1600x1200x24 +extension GLX"


def command_line(command: list[str]) -> list[str]:
    """The command, wrapped in ``xvfb-run`` on Linux."""
    xvfb = shutil.which("xvfb-run") if sys.platform == "linux" else None
    return [xvfb, "--auto-servernum", "--server-args", SCREEN, *command] if xvfb else command


def main() -> int:
    """Run the command given on the command line; returns its exit code."""
    environment = {name: value for name, value in os.environ.items() if name != "WAYLAND_DISPLAY"}
    return subprocess.run(command_line(sys.argv[1:]), env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
