"""The manifest names what is there, and claims only what can be read and written."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch
from importlib import import_module, resources

import npe2
import pytest

from napari_lungseg.io import READERS, WRITERS

_DISTRIBUTION = "napari-lungseg"


@pytest.fixture(scope="module")
def manifest() -> Iterator[npe2.PluginManifest]:
    """The manifest in the package."""
    with resources.as_file(resources.files("napari_lungseg") / "napari.yaml") as path:
        manifest = npe2.PluginManifest.from_file(path)
        manifest.validate_imports()
        yield manifest


def test_every_python_name_can_be_imported(manifest: npe2.PluginManifest) -> None:
    commands = manifest.contributions.commands or []
    assert commands
    for command in commands:
        module, _, attribute = (command.python_name or "").partition(":")
        assert callable(getattr(import_module(module), attribute)), command.id


def test_every_contribution_names_a_command(manifest: npe2.PluginManifest) -> None:
    known = {command.id for command in manifest.contributions.commands or []}
    contributions = manifest.contributions
    used = [*(contributions.readers or []), *(contributions.writers or []), *(contributions.widgets or [])]
    used += [*(contributions.sample_data or []), *(item for items in contributions.menus.values() for item in items)]
    assert used and {item.command for item in used} <= known


def test_every_claimed_suffix_has_a_reader(manifest: npe2.PluginManifest) -> None:
    (reader,) = manifest.contributions.readers or []
    suffixes = [pattern.removeprefix("*") for pattern in reader.filename_patterns if pattern.startswith("*.")]
    assert suffixes and set(suffixes) <= {*READERS, ".zip"}


def test_pictures_are_left_to_napari_and_nothing_else_is(manifest: npe2.PluginManifest) -> None:
    (reader,) = manifest.contributions.readers or []

    def claimed(name: str) -> bool:
        return any(fnmatch(name, pattern) for pattern in reader.filename_patterns)

    for suffix in READERS:
        picture = READERS[suffix].endswith(":read_raster")
        assert claimed(f"scan{suffix}") != picture, suffix
    assert claimed("IM000001") and claimed("1.2.840.113619.2.55.3.604688.7") and claimed("I10")
    assert claimed("DICOMDIR") and claimed("disc.zip")
    assert not claimed("1.2.3.4.png") and not claimed("table.csv") and not claimed("notes.txt")


def test_every_offered_extension_has_a_writer(manifest: npe2.PluginManifest) -> None:
    writers = manifest.contributions.writers or []
    assert {kind for writer in writers for kind in writer.layer_types} == {"labels", "image"}
    for writer in writers:
        assert set(writer.filename_extensions) <= set(WRITERS)


def test_npe2_finds_it_under_the_name_of_the_distribution() -> None:
    found = {result.manifest.name for result in npe2.PluginManifest.discover() if result.manifest is not None}
    assert _DISTRIBUTION in found
