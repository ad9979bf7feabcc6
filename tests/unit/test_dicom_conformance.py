"""The conformance table in the documents is what the code makes, and holds nothing that differs."""

from __future__ import annotations

import shutil

import dicom_conformance
import pytest

MISSING = [tool for tool in dicom_conformance.TOOLS if not shutil.which(tool)]


@pytest.fixture(scope="module")
def made() -> list[dicom_conformance.Row]:
    return dicom_conformance.rows()


def is_real(line: str) -> bool:
    return "| pydicom's tests |" in line


def test_the_committed_table_is_what_the_code_makes(made: list[dicom_conformance.Row]) -> None:
    lines = [row.line() for row in made]
    committed = dicom_conformance.committed()
    generated = [line for line in committed if not is_real(line) and not any(f"| {tool}" in line for tool in MISSING)]
    assert [line for line in lines if not is_real(line)] == generated
    # Another pydicom brings other files: those that both have are compared.
    known = {line.split("|")[1]: line for line in committed if is_real(line)}
    real = {line.split("|")[1]: line for line in lines if is_real(line)}
    assert {name: real[name] for name in real if name in known} == {name: known[name] for name in known if name in real}
    assert len(known.keys() & real.keys()) > 100
    if MISSING:
        told = f"{', '.join(MISSING)} not installed (Debian: dcmtk, libgdcm-tools): what they write was not read."
        pytest.skip(told)


def test_nothing_in_it_differs(made: list[dicom_conformance.Row]) -> None:
    assert [row for row in made if "up to" in row.voxels + row.geometry or "makes" in row.voxels] == []
    assert sum(row.voxels.startswith("equal to") for row in made) > 120
    assert sum("left is left" in row.geometry for row in made) >= 22
    syntaxes = {row.kind for row in made if row.voxels.startswith(("equal to the original", "within"))}
    assert len(syntaxes) >= 9
