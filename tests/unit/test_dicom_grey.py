"""What DICOM voxels mean: rescale, padding, inversion, windows, lookup tables, codings, colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_phantom import (
    COLUMNS,
    ROWS,
    ct_series,
    ct_slice,
    dataset,
    lookup_table,
    places,
    radiograph,
    save,
    voxels,
)
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from napari_lungseg.io.dicom import read_dicom
from napari_lungseg.volume import Volume

AXIAL = (1, 0, 0, 0, 1, 0)
PIXELS = np.arange(ROWS * COLUMNS, dtype=np.uint16).reshape(ROWS, COLUMNS)
TOLD = {"PatientOrientation": ["L", "F"], "PixelSpacing": [0.2, 0.2]}


def codes(volume: Volume) -> list[str]:
    return [finding.code for finding in volume.findings]


def read_one(image: Any, folder: Path) -> Volume:
    (volume,) = read_dicom([save(image, folder / "image")])
    return volume


def read_xray(folder: Path, pixels: np.ndarray = PIXELS, **elements: Any) -> Volume:
    return read_one(radiograph(pixels, **(TOLD | elements)), folder)


def test_every_instance_is_rescaled_by_its_own_header(tmp_path: Path) -> None:
    stored = np.full((3, ROWS, COLUMNS), 100, np.uint16)
    paths = []
    for number, (slope, intercept) in enumerate([(1, -1024), (2, -1000), (3, -500)]):
        image = ct_slice(stored[number], (0, 0, number), RescaleSlope=slope, RescaleIntercept=intercept)
        paths.append(save(image, tmp_path / f"{number}"))
    (volume,) = read_dicom(paths)
    assert volume.array[:, 0, 0].tolist() == [-924, -800, -200]
    assert volume.array.dtype == np.int16 and volume.unit == "HU"


def test_a_broken_slope_gives_floats(tmp_path: Path) -> None:
    volume = read_one(ct_slice(PIXELS, (0, 0, 0), RescaleSlope="1.5", RescaleIntercept="-1000.25"), tmp_path)
    np.testing.assert_allclose(volume.array[0], PIXELS * 1.5 - 1000.25)
    assert volume.array.dtype == np.float32


def test_signed_pixels_stay_signed(tmp_path: Path) -> None:
    volume = read_one(ct_slice(PIXELS.astype(np.int16) - 1000, (0, 0, 0), RescaleIntercept=0), tmp_path)
    np.testing.assert_array_equal(volume.array[0], PIXELS.astype(np.int16) - 1000)


def test_bits_above_the_stored_ones_are_not_values(tmp_path: Path) -> None:
    volume = read_one(ct_slice(PIXELS | 0xF000, (0, 0, 0), BitsStored=12, HighBit=11), tmp_path)
    np.testing.assert_array_equal(volume.array[0], PIXELS.astype(int) - 1024)


def test_signed_bits_are_extended(tmp_path: Path) -> None:
    pixels = (PIXELS.astype(np.int16) - 30).view(np.uint16) & 0x0FFF
    image = ct_slice(pixels, (0, 0, 0), BitsStored=12, HighBit=11, PixelRepresentation=1, RescaleIntercept=0)
    np.testing.assert_array_equal(read_one(image, tmp_path).array[0], PIXELS.astype(int) - 30)


@pytest.mark.parametrize(
    ("elements", "unit"),
    [
        ({}, "HU"),
        ({"RescaleType": "HU"}, "HU"),
        ({"RescaleType": "Houndsfield Unit"}, "HU"),
        ({"RescaleType": "US"}, "HU"),
        ({"RescaleType": "Z_EFF"}, "a.u."),
        ({"RescaleIntercept": None, "RescaleSlope": None}, "a.u."),
        ({"Modality": "MR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, "a.u."),
        ({"Modality": "MR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4", "RescaleType": "HU"}, "HU"),
    ],
)
def test_hounsfield_only_where_the_header_says_so(tmp_path: Path, elements: dict[str, Any], unit: str) -> None:
    image = ct_slice(PIXELS, (0, 0, 0), **{key: value for key, value in elements.items() if value is not None})
    for keyword in (key for key, value in elements.items() if value is None):
        del image[keyword]
    volume = read_one(image, tmp_path)
    assert volume.unit == unit
    assert ("not-hounsfield" in codes(volume)) == (unit != "HU" and image.Modality == "CT")


def test_an_offset_ct_is_told(tmp_path: Path) -> None:
    assert codes(read_one(ct_slice(PIXELS, (0, 0, 0), RescaleIntercept=0), tmp_path)) == ["offset-values"]


@pytest.mark.parametrize("intercept", [-1024, 0])
@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian])
def test_padding_becomes_air(tmp_path: Path, intercept: int, syntax: str | None) -> None:
    pixels = PIXELS.astype(np.int16)
    pixels[0, :3] = -2000
    image = ct_slice(pixels, (0, 0, 0), PixelPaddingValue=-2000, RescaleIntercept=intercept)
    image["PixelPaddingValue"].VR = "SS"
    if syntax:
        image.file_meta.TransferSyntaxUID = syntax
    expected = PIXELS.astype(int) + intercept
    expected[0, :3] = -1000
    np.testing.assert_array_equal(read_one(image, tmp_path).array[0], expected)


def test_padding_written_unsigned_and_a_range_of_it(tmp_path: Path) -> None:
    pixels = PIXELS.astype(np.int16)
    pixels[0, :3] = (-2000, -1990, -2010)
    image = ct_slice(pixels, (0, 0, 0), RescaleIntercept=0)
    image.add_new("PixelPaddingValue", "US", 63536)
    image.add_new("PixelPaddingRangeLimit", "US", 63546)
    values = read_one(image, tmp_path).array[0]
    assert values[0, :4].tolist() == [-1000, -1000, -2010, 3]


def test_padding_with_a_value_of_tissue_is_air_only_at_the_border(tmp_path: Path) -> None:
    pixels = np.full((ROWS, COLUMNS), 50, np.int16)
    pixels[:2, :2] = 0
    pixels[3, 4] = 0
    values = read_one(ct_slice(pixels, (0, 0, 0), PixelPaddingValue=0, RescaleIntercept=0), tmp_path).array[0]
    assert (values[:2, :2] == -1000).all() and values[3, 4] == 0


def test_values_no_hounsfield_unit_can_have_do_not_turn_over(tmp_path: Path) -> None:
    pixels = PIXELS.copy()
    pixels[0, 0] = 65535
    volume = read_one(ct_slice(pixels, (0, 0, 0)), tmp_path)
    assert volume.array[0, 0, :2].tolist() == [32767, -1023]


@pytest.mark.parametrize("shape", [None, "INVERSE"])
def test_monochrome1_is_inverted_exactly_once(tmp_path: Path, shape: str | None) -> None:
    elements = {"PhotometricInterpretation": "MONOCHROME1"} | ({"PresentationLUTShape": shape} if shape else {})
    volume = read_xray(tmp_path, **elements)
    np.testing.assert_array_equal(volume.array[0], 4095 - PIXELS.astype(int))
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "image"))))
    assert codes(volume) == ["inverted-greys"]


def test_a_presentation_shape_alone_never_inverts(tmp_path: Path) -> None:
    volume = read_xray(tmp_path, PresentationLUTShape="INVERSE")
    np.testing.assert_array_equal(volume.array[0], PIXELS)
    assert codes(volume) == ["contradictory-greys"]


def test_inversion_after_rescale_and_of_signed_values(tmp_path: Path) -> None:
    elements = {"PhotometricInterpretation": "MONOCHROME1", "RescaleSlope": 2, "RescaleIntercept": 10}
    np.testing.assert_array_equal(read_xray(tmp_path, **elements).array[0], 8210 - (2 * PIXELS.astype(int) + 10))
    signed = read_xray(tmp_path, PIXELS.astype(np.int16) - 20, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(signed.array[0], -1 - (PIXELS.astype(int) - 20))


def test_hounsfield_units_are_never_inverted(tmp_path: Path) -> None:
    volume = read_one(ct_slice(PIXELS, (0, 0, 0), PhotometricInterpretation="MONOCHROME1"), tmp_path)
    np.testing.assert_array_equal(volume.array[0], PIXELS.astype(int) - 1024)
    assert codes(volume) == ["inverted-display"]


WINDOW = {"WindowCenter": 20, "WindowWidth": 11}


@pytest.mark.parametrize(
    ("elements", "window"),
    [
        (WINDOW, (14.5, 24.5)),
        (WINDOW | {"VOILUTFunction": "LINEAR_EXACT"}, (14.5, 25.5)),
        (WINDOW | {"VOILUTFunction": "SIGMOID"}, (14.5, 25.5)),
        ({"WindowCenter": [20, 3], "WindowWidth": [11, 7]}, (14.5, 24.5)),
        ({"WindowCenter": 20, "WindowWidth": 1}, (19.0, 20.0)),
        ({"WindowCenter": 20, "WindowWidth": 0}, None),
        (WINDOW | {"PhotometricInterpretation": "MONOCHROME1"}, (4095 - 24.5, 4095 - 14.5)),
    ],
)
def test_a_window_is_what_to_show_and_clips_nothing(
    tmp_path: Path, elements: dict[str, Any], window: tuple[float, float] | None
) -> None:
    volume = read_xray(tmp_path, **elements)
    assert volume.window == window
    inverted = "PhotometricInterpretation" in elements
    np.testing.assert_array_equal(volume.array[0], 4095 - PIXELS.astype(int) if inverted else PIXELS)


TABLE = (np.arange(40) ** 2).tolist()


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_a_voi_lut_sequence_is_applied_before_inverting(tmp_path: Path, photometric: str) -> None:
    elements = WINDOW | {"VOILUTSequence": [lookup_table(TABLE, 5)], "PhotometricInterpretation": photometric}
    volume = read_xray(tmp_path, **elements)
    shown = np.array(TABLE)[np.clip(PIXELS.astype(int) - 5, 0, 39)]
    np.testing.assert_array_equal(volume.array[0], shown if photometric == "MONOCHROME2" else 4095 - shown)
    assert "voi-lut-applied" in codes(volume) and volume.window is None


def test_a_voi_lut_never_touches_hounsfield_units(tmp_path: Path) -> None:
    volume = read_one(ct_slice(PIXELS, (0, 0, 0), VOILUTSequence=[lookup_table(TABLE, -1000)]), tmp_path)
    np.testing.assert_array_equal(volume.array[0], PIXELS.astype(int) - 1024)


def test_a_modality_lut_takes_the_place_of_the_rescale(tmp_path: Path) -> None:
    volume = read_xray(tmp_path, ModalityLUTSequence=[lookup_table(TABLE, 5)])
    np.testing.assert_array_equal(volume.array[0], np.array(TABLE)[np.clip(PIXELS.astype(int) - 5, 0, 39)])


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("frames", [1, 3])
def test_compressed_pixels_equal_the_plain_ones(tmp_path: Path, syntax: str, frames: int) -> None:
    big = np.random.default_rng(1).integers(0, 4096, (frames, 40, 48)).astype(np.uint16)
    image = radiograph(big if frames > 1 else big[0], **TOLD)
    image.compress(syntax, generate_instance_uid=False)
    np.testing.assert_array_equal(read_one(image, tmp_path).array, big)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_plain_codings(tmp_path: Path, syntax: str) -> None:
    image = ct_slice(PIXELS, (0, 0, 0))
    image.file_meta.TransferSyntaxUID = syntax
    np.testing.assert_array_equal(read_one(image, tmp_path).array[0], PIXELS.astype(int) - 1024)


def test_big_endian(tmp_path: Path) -> None:
    image = ct_slice(PIXELS, (0, 0, 0), PixelData=PIXELS.astype(">u2").tobytes())
    image.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dcmwrite(tmp_path / "image", image, implicit_vr=False, little_endian=False, enforce_file_format=True)
    (volume,) = read_dicom([tmp_path / "image"])
    np.testing.assert_array_equal(volume.array[0], PIXELS.astype(int) - 1024)


def test_a_file_without_preamble_and_meta_header(tmp_path: Path) -> None:
    image = ct_slice(PIXELS, (0, 0, 0))
    path = tmp_path / "no suffix"
    del image.file_meta
    image.preamble = None
    dcmwrite(path, image, implicit_vr=True, little_endian=True)
    assert path.read_bytes()[128:132] != b"DICM"
    (volume,) = read_dicom([path])
    np.testing.assert_array_equal(volume.array[0], PIXELS.astype(int) - 1024)


def rgb(colours: np.ndarray, **elements: Any) -> Any:
    return dataset(colours, SecondaryCaptureImageStorage, Modality="OT", **(TOLD | elements))


def test_grey_colours_become_grey(tmp_path: Path) -> None:
    volume = read_one(rgb(np.repeat(PIXELS.astype(np.uint8)[..., None], 3, axis=2)), tmp_path)
    np.testing.assert_array_equal(volume.array[0], PIXELS)
    assert (volume.modality, volume.unit) == ("xray", "a.u.") and "grey-colours" in codes(volume)


def test_true_colours_stay(tmp_path: Path) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (ROWS, COLUMNS, 3)).astype(np.uint8)
    volume = read_one(rgb(colours), tmp_path)
    np.testing.assert_array_equal(volume.array[0], colours)
    assert (volume.modality, volume.unit) == ("photo", "rgb") and "colour-image" in codes(volume)


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    image = dataset(PIXELS.astype(np.uint8), SecondaryCaptureImageStorage, Modality="OT", **TOLD)
    image.PhotometricInterpretation = "PALETTE COLOR"
    ramp = (np.arange(256, dtype="<u2") * 257)[::-1]
    for colour in ("Red", "Green", "Blue"):
        setattr(image, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(image, f"{colour}PaletteColorLookupTableData", ramp.tobytes())
    np.testing.assert_array_equal(read_one(image, tmp_path).array[0], 255 - PIXELS)


def test_a_lazy_series_reads_the_same_voxels_one_slice_at_a_time(tmp_path: Path) -> None:
    stored = voxels(70)
    (volume,) = read_dicom(ct_series(tmp_path, stored, places(70, AXIAL), AXIAL))
    assert volume.is_lazy and volume.array.chunks == ((1,) * 70, (ROWS,), (COLUMNS,))
    for path in list(tmp_path.iterdir()):
        if path.name != "000.dcm":
            path.rename(path.with_suffix(".away"))
    shuffled = np.random.default_rng(1).permutation(70)
    np.testing.assert_array_equal(np.asarray(volume.array[int(shuffled[0])]), stored[shuffled[0]].astype(int) - 1024)
    for path in list(tmp_path.glob("*.away")):
        path.rename(path.with_suffix(".dcm"))
    loaded = volume.load()
    np.testing.assert_array_equal(loaded.array, stored.astype(int) - 1024)
    assert loaded.array.dtype == volume.array.dtype == np.int16
    np.testing.assert_array_equal(np.asarray(volume.array[3:9:2, 1:4, ::-1]), loaded.array[3:9:2, 1:4, ::-1])
    turned, _ = volume.reoriented()
    assert turned.is_lazy
