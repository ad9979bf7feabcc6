"""See to it that the Debian packages which the viewer tests and the DICOM conformance tests need are there.

On a Debian or Ubuntu machine, missing packages are installed by apt when run as root; anyone else is told the command.
On every other system there is nothing to do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

# With these the full napari window ran under Xvfb on a bare Debian 12. What Qt's xcb plugin loads stands first.
# DCMTK and GDCM write DICOM in every coding, for the conformance table; dicom3tools brings the validator `dciodvfy`;
# Orthanc is the server that DICOMweb is tested against (the tests start one of their own, on free ports).
PACKAGES = (
    "dcmtk",
    "dicom3tools",
    "libdbus-1-3",
    "libegl1",
    "libgdcm-tools",
    "libgl1",
    "libgl1-mesa-dri",
    "libopengl0",
    "libxcb-cursor0",
    "libxcb-icccm4",
    "libxcb-image0",
    "libxcb-keysyms1",
    "libxcb-randr0",
    "libxcb-render-util0",
    "libxcb-shape0",
    "libxcb-xinerama0",
    "libxkbcommon-x11-0",
    "orthanc",
    "orthanc-dicomweb",
    "xauth",
    "xvfb",
)


def missing(packages: tuple[str, ...] = PACKAGES) -> list[str]:
    """Those of the packages that are not installed."""
    query = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *packages]
    known = subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines()
    installed = {line.split()[0] for line in known if line.endswith(" installed")}
    return [package for package in packages if package not in installed]


def main() -> int:
    """Install what is missing, or say how; 0 when everything is there."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-query")):
        return 0
    packages = missing()
    if not packages:
        return 0
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if os.geteuid() != 0:
        print("The tests need Debian packages that are missing. Install them, then run tox again:", file=sys.stderr)
        print(f"    sudo apt-get update && sudo {' '.join(install)}", file=sys.stderr)
        return 1
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "--quiet"], env=environment, check=False)  # stale lists may still serve
    return subprocess.run(install, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
