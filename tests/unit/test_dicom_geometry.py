"""Where DICOM voxels are, against the coordinates that were written, SimpleITK and highdicom."""

from __future__ import annotations

from pathlib import Path

import highdicom.spatial
import numpy as np
import pytest
import SimpleITK as sitk
from dicom_phantom import COLUMNS, ORIENTATIONS, ROWS, SPACING, ct_series, ct_slice, places, radiograph, save, voxels
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_lungseg.findings import has_finding
from napari_lungseg.io.dicom import read_dicom
from napari_lungseg.volume import FRONTAL, Volume

ORIENTATION = pytest.mark.parametrize("orientation", ORIENTATIONS.values(), ids=list(ORIENTATIONS))


def where_written(position: np.ndarray, orientation: tuple[float, ...], row: int, column: int) -> np.ndarray:
    """DICOM PS3.3 equation C.7.6.2.1-1, (x, y, z)."""
    along_row, along_column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    return position + along_row * SPACING[1] * column + along_column * SPACING[0] * row


def assert_voxels_in_place(
    volume: Volume, stored: np.ndarray, positions: np.ndarray, orientation: tuple[float, ...]
) -> None:
    """Every value lies at the patient coordinates that it was written for."""
    array = np.asarray(volume.array)
    assert array.shape == stored.shape
    for (slice_, row, column), value in np.ndenumerate(stored):
        (index,) = np.argwhere(array == int(value) - 1024)
        expected = where_written(positions[slice_], orientation, row, column)
        np.testing.assert_allclose(volume.geometry.position(index)[::-1], expected, atol=1e-4)


@ORIENTATION
def test_every_voxel_lies_where_it_was_written(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    stored, positions = voxels(), places(5, orientation)
    (volume,) = read_dicom(ct_series(tmp_path, stored, positions, orientation))
    assert_voxels_in_place(volume, stored, positions, orientation)
    np.testing.assert_allclose(volume.geometry.spacing, (2.5, *SPACING), atol=1e-6)
    turned, _ = volume.reoriented()
    assert_same_places(volume, turned)


def assert_same_places(one: Volume, other: Volume) -> None:
    for value in np.unique(one.array)[::17]:
        places = [
            volume.geometry.position(np.argwhere(np.asarray(volume.array) == value)[0]) for volume in (one, other)
        ]
        np.testing.assert_allclose(*places, atol=1e-6)


@ORIENTATION
def test_geometry_equals_simpleitk(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    ct_series(tmp_path, voxels(), places(5, orientation), orientation)
    (volume,) = read_dicom(sorted(tmp_path.iterdir()))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    geometry = volume.geometry
    np.testing.assert_allclose(geometry.origin[::-1], image.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(geometry.spacing[::-1], image.GetSpacing(), atol=1e-4)
    np.testing.assert_allclose(np.array(geometry.direction)[::-1, ::-1].ravel(), image.GetDirection(), atol=1e-4)
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(image))


@ORIENTATION
def test_geometry_equals_highdicom(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    positions = places(5, orientation)
    (volume,) = read_dicom(ct_series(tmp_path, voxels(), positions, orientation))
    affine = highdicom.spatial.create_affine_matrix_from_attributes(
        image_position=positions[0].tolist(),
        image_orientation=orientation,
        pixel_spacing=SPACING,
        spacing_between_slices=2.5,
        index_convention=("R", "D"),
        handedness="RIGHT_HANDED",
    )
    xyz = [2, 1, 0, 3]
    np.testing.assert_allclose(volume.geometry.affine[np.ix_(xyz, xyz)], affine, atol=1e-4)


def test_slices_of_a_tilted_gantry_keep_their_places(tmp_path: Path) -> None:
    angle = np.radians(20)
    orientation = (1, 0, 0, 0, np.cos(angle), -np.sin(angle))
    stored = voxels()
    positions = np.array([-120.5, -80.25, 33.0]) + np.outer(np.arange(5), [0, 0, 2.5])
    (volume,) = read_dicom(ct_series(tmp_path, stored, positions, orientation))
    assert_voxels_in_place(volume, stored, positions, orientation)
    assert has_finding(volume.findings, "gantry-tilt")
    assert volume.geometry.voxel_volume_mm3 == pytest.approx(2.5 * SPACING[0] * SPACING[1] * np.cos(angle))


def test_a_straight_stack_is_not_called_tilted(tmp_path: Path) -> None:
    (volume,) = read_dicom(ct_series(tmp_path, voxels(), places(5, ORIENTATIONS["oblique"]), ORIENTATIONS["oblique"]))
    assert volume.findings == ()


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(6)), gaps=st.lists(st.floats(0.5, 9.0), min_size=6, max_size=6), down=st.booleans())
def test_any_order_and_any_gaps_keep_every_voxel_in_place(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], gaps: list[float], down: bool
) -> None:
    folder, stored = tmp_path_factory.mktemp("series"), voxels(6)
    orientation = ORIENTATIONS["axial feet first supine" if down else "axial head first supine"]
    along = np.cumsum(np.round(gaps, 3)) * (-1 if down else 1)
    positions = np.array([-120.5, -80.25, 33.0]) + np.outer(along, [0, 0, 1])
    for number, index in enumerate(order):
        image = ct_slice(stored[index], positions[index], ImageOrientationPatient=list(map(float, orientation)))
        image.InstanceNumber = number
        save(image, folder / f"{number}")
    (volume,) = read_dicom(sorted(folder.iterdir()))
    assert_voxels_in_place(volume, stored, positions, orientation)


def test_missing_slices_are_told_and_leave_a_gap(tmp_path: Path) -> None:
    orientation = ORIENTATIONS["axial head first supine"]
    keep = [0, 1, 2, 5, 6, 7]
    stored, positions = voxels(8)[keep], places(8, orientation)[keep]
    (volume,) = read_dicom(ct_series(tmp_path, stored, positions, orientation))
    assert_voxels_in_place(volume, stored, positions, orientation)
    (finding,) = volume.findings
    assert finding.code == "missing-slices" and finding.message.startswith("2 slices are missing in 1 place")
    assert volume.geometry.spacing[0] == pytest.approx(2.5)
    assert volume.geometry.slice_positions == pytest.approx((0, 2.5, 5, 12.5, 15, 17.5))


def test_uneven_slices_keep_their_positions(tmp_path: Path) -> None:
    stored, positions = voxels(4), np.outer([0, 1.0, 2.3, 3.4], [0, 0, 1.0])
    (volume,) = read_dicom(ct_series(tmp_path, stored, positions))
    assert_voxels_in_place(volume, stored, positions, ORIENTATIONS["axial head first supine"])
    assert [finding.code for finding in volume.findings] == ["uneven-spacing"]


def test_slices_shifted_sideways_are_told(tmp_path: Path) -> None:
    positions = places(5, ORIENTATIONS["axial head first supine"])
    positions[2, 0] += 4
    (volume,) = read_dicom(ct_series(tmp_path, voxels(), positions))
    assert has_finding(volume.findings, "shifted-slices")


def test_one_slice_has_its_thickness_and_place(tmp_path: Path) -> None:
    orientation = ORIENTATIONS["coronal"]
    stored, positions = voxels(1), places(1, orientation)
    (volume,) = read_dicom(ct_series(tmp_path, stored, positions, orientation, SliceThickness=7))
    assert_voxels_in_place(volume, stored, positions, orientation)
    assert volume.geometry.spacing[0] == 7 and volume.findings == ()


def test_slices_without_places_are_told_and_follow_their_numbers(tmp_path: Path) -> None:
    elements = {"ImagePositionPatient": None, "ImageOrientationPatient": None}
    for number in (2, 0, 1):
        pixels = np.full((ROWS, COLUMNS), number, np.uint16)
        image = ct_slice(pixels, (0, 0, 0))
        for keyword in elements:
            del image[keyword]
        image.InstanceNumber = number
        save(image, tmp_path / f"{9 - number}.dcm")
    (volume,) = read_dicom(sorted(tmp_path.iterdir()))
    assert [int(value) + 1024 for value in volume.array[:, 0, 0]] == [0, 1, 2]
    assert has_finding(volume.findings, "no-position")


def test_ct_without_spacing_is_in_pixels(tmp_path: Path) -> None:
    image = ct_slice(voxels(1)[0], (0, 0, 0))
    del image.PixelSpacing
    (volume,) = read_dicom([save(image, tmp_path / "a")])
    assert not volume.geometry.is_mm and has_finding(volume.findings, "no-spacing")


def read_radiograph(folder: Path, **elements: object) -> Volume:
    pixels = np.arange(ROWS * COLUMNS, dtype=np.uint16).reshape(ROWS, COLUMNS)
    (volume,) = read_dicom([save(radiograph(pixels, **elements), folder / "image")])
    return volume


CALIBRATED = {"PixelSpacing": [0.2, 0.3], "EstimatedRadiographicMagnificationFactor": 1.25}
DETECTOR = {"ImagerPixelSpacing": [0.2, 0.3], "EstimatedRadiographicMagnificationFactor": 1.25}


@pytest.mark.parametrize(
    ("elements", "spacing", "finding"),
    [
        (CALIBRATED, (0.2, 0.3), None),
        (CALIBRATED | {"ImagerPixelSpacing": [0.25, 0.375]}, (0.2, 0.3), None),
        (CALIBRATED | DETECTOR | {"PixelSpacingCalibrationType": "FIDUCIAL"}, (0.2, 0.3), None),
        (CALIBRATED | DETECTOR, (0.16, 0.24), None),
        (DETECTOR, (0.16, 0.24), None),
        ({"ImagerPixelSpacing": [0.2, 0.3]}, (0.2, 0.3), "detector-spacing"),
        ({"NominalScannedPixelSpacing": [0.2, 0.3]}, (0.2, 0.3), "detector-spacing"),
    ],
)
def test_pixel_size_of_a_radiograph(
    tmp_path: Path, elements: dict[str, object], spacing: tuple[float, float], finding: str | None
) -> None:
    volume = read_radiograph(tmp_path, PatientOrientation=["L", "F"], **elements)
    assert volume.geometry.spacing[1:] == pytest.approx(spacing)
    assert [found.code for found in volume.findings] == ([finding] if finding else [])


def test_a_radiograph_without_spacing_is_in_pixels(tmp_path: Path) -> None:
    volume = read_radiograph(tmp_path, PixelAspectRatio=[4, 2])
    assert volume.geometry.units == "pixel" and volume.geometry.spacing == (1, 2, 1)
    assert has_finding(volume.findings, "no-spacing")


LEFT, RIGHT, BACK, FRONT, HEAD, FEET = (0, 0, 1), (0, 0, -1), (0, 1, 0), (0, -1, 0), (1, 0, 0), (-1, 0, 0)


@pytest.mark.parametrize(
    ("elements", "columns", "rows", "finding"),
    [
        ({"PatientOrientation": ["L", "F"]}, LEFT, FEET, None),
        ({"PatientOrientation": ["R", "F"]}, RIGHT, FEET, None),
        ({"PatientOrientation": ["R", "H"]}, RIGHT, HEAD, None),
        ({"PatientOrientation": ["F", "R"]}, FEET, RIGHT, None),
        ({"PatientOrientation": ["P", "F"], "ViewPosition": "PA"}, BACK, FEET, None),
        ({"PatientOrientation": ["AR", "FP"]}, FRONT, FEET, None),
        ({"ViewPosition": "AP", "FieldOfViewHorizontalFlip": "NO"}, LEFT, FEET, "sides-inferred"),
        ({"ViewPosition": "AP", "FieldOfViewHorizontalFlip": "YES"}, RIGHT, FEET, "sides-inferred"),
        ({"ViewPosition": "PA", "FieldOfViewHorizontalFlip": "YES"}, LEFT, FEET, "sides-inferred"),
        ({"ViewPosition": "PA", "FieldOfViewHorizontalFlip": "NO"}, RIGHT, FEET, "sides-inferred"),
        (
            {"ViewPosition": "PA", "FieldOfViewHorizontalFlip": "NO", "PresentationIntentType": "FOR PRESENTATION"},
            *(LEFT, FEET, "sides-assumed"),
        ),
        ({"ViewPosition": "LL"}, BACK, FEET, "lateral-view"),
        ({"PatientOrientation": ["L", "L"]}, LEFT, FEET, "sides-assumed"),
        ({}, LEFT, FEET, "sides-assumed"),
    ],
)
def test_sides_of_a_radiograph(
    tmp_path: Path,
    elements: dict[str, object],
    columns: tuple[int, ...],
    rows: tuple[int, ...],
    finding: str | None,
) -> None:
    volume = read_radiograph(tmp_path, PixelSpacing=[0.2, 0.2], **elements)
    direction = np.array(volume.geometry.direction)
    np.testing.assert_allclose(direction[:, 2], columns)
    np.testing.assert_allclose(direction[:, 1], rows)
    assert np.linalg.det(direction) == pytest.approx(1)
    assert [found.code for found in volume.findings] == ([finding] if finding else [])


def test_the_usual_display_is_frontal(tmp_path: Path) -> None:
    assert read_radiograph(tmp_path, PatientOrientation=["L", "F"]).geometry.direction == FRONTAL
