"""Voxels are where the file says, and where other programs find them: round trips held against independent readers."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_lungseg.io import read, write
from napari_lungseg.volume import Geometry, LabelMap, Volume

SHAPE, SPACING, ORIGIN = (4, 6, 5), (2.5, 0.7, 0.9), (-681.25, 112.5, -249.875)
ITK_SUFFIXES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".seg.nrrd")
# Directions in which array axes (z, y, x) run, in patient letters. LPS is the standard view of DICOM.
AXES = {"H": (1, 0, 0), "F": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "L": (0, 0, 1), "R": (0, 0, -1)}
STACKS = {
    "LPS": "HPL",
    "RAS": "HAR",
    "LAS": "HAL",
    "RPS": "HPR",
    "flipped z": "FPL",
    "sagittal": "LFP",
    "sagittal from the right": "RFA",
    "coronal": "PFL",
    "coronal from the back": "AHR",
}
MIDLINE = 20.0  # mm of the patient's left where the phantom's two lungs part


def direction_of(letters: str) -> tuple[tuple[float, ...], ...]:
    matrix = np.array([AXES[letter] for letter in letters], float).T
    return tuple(tuple(row) for row in matrix.tolist())


def turned(matrix: np.ndarray, degrees: float = 12.0) -> tuple[tuple[float, ...], ...]:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    return tuple(tuple(row) for row in (turn @ np.asarray(matrix)).tolist())


def positions(geometry: Geometry) -> np.ndarray:
    """(…, 3) position (head, back, left) of every voxel."""
    index = np.stack([*np.indices(geometry.shape), np.ones(geometry.shape)], axis=-1)
    return (index @ geometry.affine.T)[..., :3]


def sided_labels(direction) -> LabelMap:
    """1 in the patient's right half, 2 in the left, told from patient coordinates alone."""
    geometry = Geometry(SHAPE, SPACING, ORIGIN, direction)
    centre = positions(geometry).reshape(-1, 3).mean(axis=0)
    geometry = Geometry(SHAPE, SPACING, tuple(np.add(ORIGIN, (0, 0, MIDLINE + 0.1 - centre[2]))), direction)
    left = positions(geometry)[..., 2] > MIDLINE
    array = np.where(left, 2, 1).astype(np.uint8)
    array[0, 0, 0] = 0
    return LabelMap(array, geometry, {1: "right lung", 2: "left lung"})


def sides_by_itk(path: Path) -> dict[int, set[str]]:
    """Sides on which SimpleITK, in its own coordinates, finds each label."""
    image = SimpleITK.ReadImage(str(path))
    sides: dict[int, set[str]] = {1: set(), 2: set()}
    for index in itertools.product(*(range(size) for size in image.GetSize())):
        label = image.GetPixel(*index)
        if label:
            x = image.TransformIndexToPhysicalPoint(index)[0]  # LPS: grows to the patient's left
            sides[label].add("left" if x > MIDLINE else "right")
    return sides


@pytest.mark.parametrize("oblique", [False, True], ids=["straight", "oblique"])
@pytest.mark.parametrize("stack", STACKS)
def test_right_and_left_stay_with_the_patient(tmp_path: Path, stack: str, oblique: bool) -> None:
    matrix = direction_of(STACKS[stack])
    labels = sided_labels(turned(np.asarray(matrix)) if oblique else matrix)
    for suffix in (".nii.gz", ".mha", ".seg.nrrd"):
        path = write(labels, tmp_path / f"lungs{suffix}")
        assert sides_by_itk(path) == {1: {"right"}, 2: {"left"}}, suffix
        (found,) = read(path)
        left = positions(found.geometry)[..., 2] > MIDLINE
        assert set(found.array[left].tolist()) <= {0, 2}
        assert set(found.array[~left].tolist()) <= {0, 1}
        standard, _ = found.reoriented()
        if not oblique:
            assert set(standard.array[..., 0].ravel().tolist()) <= {0, 1}  # the patient's right at the viewer's left


def assert_itk_agrees(path: Path, item: Volume | LabelMap) -> None:
    image = SimpleITK.ReadImage(str(path))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), item.array)
    for index in ((0, 0, 0), *(np.eye(3, dtype=int) * (np.array(item.geometry.shape) - 1)).tolist()):
        there = image.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]])[::-1]
        np.testing.assert_allclose(there, item.geometry.position(index), atol=1e-4)
    np.testing.assert_allclose(image.GetSpacing()[::-1], item.geometry.spacing, atol=1e-4)


def assert_nibabel_agrees(path: Path, item: Volume | LabelMap) -> None:
    image = nibabel.load(path)
    np.testing.assert_array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), item.array)
    for index in ((0, 0, 0), *(np.eye(3, dtype=int) * (np.array(item.geometry.shape) - 1)).tolist()):
        x, y, z = (image.affine @ (*index[::-1], 1))[:3]  # RAS
        np.testing.assert_allclose((z, -y, -x), item.geometry.position(index), atol=1e-4)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("suffix", ITK_SUFFIXES)
def test_other_programs_find_the_same_voxels_at_the_same_place(tmp_path: Path, suffix: str, stack: str) -> None:
    labels = sided_labels(turned(np.asarray(direction_of(STACKS[stack]))))
    path = write(labels, tmp_path / f"lungs{suffix}")
    assert_itk_agrees(path, labels)
    if ".nii" in suffix:
        assert_nibabel_agrees(path, labels)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_reading_agrees_with_files_of_other_programs(tmp_path: Path, suffix: str) -> None:
    image = SimpleITK.GetImageFromArray((np.arange(120).reshape(4, 5, 6) * 20 - 1000).astype(np.int16))
    image.SetSpacing((0.9, 0.7, 2.5))
    image.SetOrigin((-249.875, 112.5, -681.25))
    image.SetDirection(np.asarray(turned(np.eye(3)))[::-1, ::-1].ravel().tolist())
    SimpleITK.WriteImage(image, str(tmp_path / f"scan{suffix}"))
    (volume,) = read(tmp_path / f"scan{suffix}")
    assert_itk_agrees(tmp_path / f"scan{suffix}", volume)
    assert volume.unit == "HU"


def test_reading_agrees_with_nibabel_on_a_ras_file(tmp_path: Path) -> None:
    array = (np.arange(120).reshape(6, 5, 4) * 20 - 1000).astype(np.int16)
    affine = np.array([[0.9, 0, 0, -120], [0, 0.7, 0, -80], [0, 0, 2.5, -600], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / "ras.nii.gz")
    (volume,) = read(tmp_path / "ras.nii.gz")
    assert_nibabel_agrees(tmp_path / "ras.nii.gz", volume)
    assert volume.geometry.axis_letters() == ("H", "A", "R")
    np.testing.assert_allclose(volume.geometry.origin, (-600, 80, 120))


@given(
    spacing=st.tuples(*[st.floats(0.1, 8)] * 3),
    origin=st.tuples(*[st.floats(-900, 900)] * 3),
    turn=st.tuples(*[st.floats(-180, 180)] * 3),
    flip=st.booleans(),
    suffix=st.sampled_from((".nii", ".mha", ".nrrd")),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_geometry_survives(tmp_path: Path, spacing, origin, turn, flip, suffix) -> None:
    rotation = np.eye(3)
    for axis, degrees in enumerate(turn):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        rotation = rotation @ np.roll(np.roll([[1, 0, 0], [0, c, -s], [0, s, c]], axis, axis=0), axis, axis=1)
    if flip:
        rotation[:, 2] *= -1
    direction = tuple(tuple(row) for row in rotation.tolist())
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5) * 20 - 1000
    volume = Volume(array, Geometry((3, 4, 5), spacing, origin, direction))
    path = write(volume, tmp_path / f"any{suffix}")
    assert_itk_agrees(path, volume)
    (found,) = read(path)
    assert found.geometry.same_grid(volume.geometry, 1e-4)
    np.testing.assert_array_equal(found.array, volume.array)


def sheared() -> Volume:
    """A stack tilted by 20° without turning its slices, as a CT gantry makes it."""
    tilt = np.radians(20)
    direction = ((np.cos(tilt), 0.0, 0.0), (np.sin(tilt), 1.0, 0.0), (0.0, 0.0, 1.0))
    array = (np.arange(120).reshape(4, 6, 5) * 20 - 1000).astype(np.int16)
    return Volume(array, Geometry(SHAPE, SPACING, ORIGIN, direction))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd", ".tif"])
def test_a_tilted_gantry_survives(tmp_path: Path, suffix: str) -> None:
    volume = sheared()
    path = write(volume, tmp_path / f"tilted{suffix}")
    (found,) = read(path)
    assert found.geometry.same_grid(volume.geometry, 1e-4)
    np.testing.assert_array_equal(found.array, volume.array)
    assert found.geometry.voxel_volume_mm3 == pytest.approx(volume.geometry.voxel_volume_mm3, rel=1e-6)
    if "nii" in suffix:
        assert_nibabel_agrees(path, volume)
        assert "sheared" in [finding.code for finding in found.findings]
    elif suffix != ".tif":
        assert_itk_agrees(path, volume)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".seg.nrrd", ".tif"])
def test_uneven_slices_pixels_and_frames_come_back(tmp_path: Path, suffix: str) -> None:
    array = np.zeros(SHAPE, np.uint8)
    array[1, 2, 3] = 1
    uneven = Geometry(SHAPE, SPACING, ORIGIN, slice_positions=(0.0, 2.5, 5.5, 7.5))
    pixels = Geometry(SHAPE, units="pixel", frames=True)
    for name, geometry in (("uneven", uneven), ("pixels", pixels)):
        (found,) = read(write(LabelMap(array, geometry), tmp_path / f"{name}{suffix}"))
        assert found.geometry == geometry
        np.testing.assert_array_equal(found.array, array)


def test_metres_and_microns_become_millimetres(tmp_path: Path) -> None:
    for unit, factor in (("meter", 1000.0), ("mm", 1.0), ("micron", 0.001)):
        image = nibabel.Nifti1Image(np.full((5, 4, 3), -500, np.int16), np.diag([0.5, 0.25, 2.0, 1.0]))
        image.header.set_xyzt_units(unit)
        nibabel.save(image, tmp_path / f"{unit}.nii")
        (volume,) = read(tmp_path / f"{unit}.nii")
        np.testing.assert_allclose(volume.geometry.spacing, np.array((2.0, 0.25, 0.5)) * factor)
    nrrd = tmp_path / "microns.nrrd"
    header = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: right-anterior-superior\nsizes: 2 2 2\n"
        "space directions: (500,0,0) (0,250,0) (0,0,2000)\nendian: little\nencoding: raw\n"
        'space units: "um" "um" "um"\nspace origin: (1000,2000,3000)\n\n'
    )
    nrrd.write_bytes(header.encode() + np.full(8, -500, "<i2").tobytes())
    (volume,) = read(nrrd)
    np.testing.assert_allclose(volume.geometry.spacing, (2.0, 0.25, 0.5))
    np.testing.assert_allclose(volume.geometry.origin, (3.0, -2.0, -1.0))  # RAS turned to LPS


@pytest.mark.parametrize("name", ["scan.nrrd", "scan.mhd"])
def test_a_file_without_spacing_is_in_pixels(tmp_path: Path, name: str) -> None:
    raw = (np.arange(24, dtype="<i2") * 30 - 700).tobytes()
    nrrd = "NRRD0004\ntype: short\ndimension: 3\nsizes: 4 3 2\nendian: little\nencoding: raw\n\n"
    mhd = "ObjectType = Image\nNDims = 3\nDimSize = 4 3 2\nElementType = MET_SHORT\nElementDataFile = scan.raw\n"
    (tmp_path / "scan.nrrd").write_bytes(nrrd.encode() + raw)
    (tmp_path / "scan.mhd").write_text(mhd)
    (tmp_path / "scan.raw").write_bytes(raw)
    (volume,) = read(tmp_path / name)
    assert volume.geometry.units == "pixel"
    assert "no-spacing" in [finding.code for finding in volume.findings]


def test_a_picture_in_a_volume_format_lies_like_a_radiograph(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(np.arange(300, 320, dtype=np.uint16).reshape(4, 5))
    image.SetSpacing((0.2, 0.3))
    for suffix in (".mha", ".nrrd", ".nii"):
        SimpleITK.WriteImage(image, str(tmp_path / f"flat{suffix}"))
        (volume,) = read(tmp_path / f"flat{suffix}")
        assert volume.geometry.shape == (1, 4, 5)
        np.testing.assert_allclose(volume.geometry.spacing[1:], (0.3, 0.2), rtol=1e-6)
        assert volume.geometry.axis_letters()[1:] == ("F", "L")
        assert "assumed-display" in [finding.code for finding in volume.findings]
