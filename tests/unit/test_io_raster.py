"""Pictures: every depth, sign and colour, pages, spacing, orientation, folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_lungseg.errors import ReadError, WriteError
from napari_lungseg.io import read, write
from napari_lungseg.volume import FRONTAL, Geometry, LabelMap, Volume

GREY = np.linspace(10, 250, 12 * 9).astype(np.uint8).reshape(12, 9)


def codes(item: Volume | LabelMap) -> list[str]:
    return [finding.code for finding in item.findings]


def test_a_plain_picture_is_a_frontal_radiograph_in_pixels(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "chest.png", dpi=(300, 300))
    (volume,) = read(tmp_path / "chest.png")
    np.testing.assert_array_equal(volume.array, GREY[None])
    assert volume.geometry == Geometry((1, 12, 9), direction=FRONTAL, units="pixel")
    assert (volume.modality, volume.unit) == ("xray", "a.u.")
    assert codes(volume) == ["modality-inferred", "assumed-display", "no-spacing"]


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i1", "i2", "i4", "f4", "f8"])
def test_tiff_of_every_depth(tmp_path: Path, dtype: str) -> None:
    array = (np.linspace(-100, 100, 108) if dtype[0] != "u" else np.linspace(1, 200, 108)).reshape(12, 9).astype(dtype)
    tifffile.imwrite(tmp_path / "chest.tif", array)
    (volume,) = read(tmp_path / "chest.tif")
    np.testing.assert_array_equal(volume.array, array[None])
    assert volume.array.dtype == array.dtype
    assert volume.modality == "xray"


def test_sixteen_bit_png(tmp_path: Path) -> None:
    deep = GREY.astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    (volume,) = read(tmp_path / "deep.png")
    np.testing.assert_array_equal(volume.array[0], deep)


def test_grey_stored_as_colour_is_grey(tmp_path: Path) -> None:
    rgb = np.stack([GREY] * 3, axis=-1)
    Image.fromarray(rgb).save(tmp_path / "chest.png")
    Image.fromarray(np.dstack([rgb, np.full((12, 9), 90, np.uint8)])).save(tmp_path / "clear.png")
    tifffile.imwrite(tmp_path / "chest.tif", rgb.astype(np.uint16) * 257, photometric="rgb")
    for name, scale in (("chest.png", 1), ("clear.png", 1), ("chest.tif", 257)):
        (volume,) = read(tmp_path / name)
        np.testing.assert_array_equal(volume.array[0], GREY.astype(int) * scale)
        assert volume.modality == "xray"


def test_a_coloured_arrow_does_not_make_a_photograph(tmp_path: Path) -> None:
    rgb = np.repeat(np.linspace(0, 255, 6400).astype(np.uint8).reshape(80, 80, 1), 3, axis=2)
    rgb[3, 3:20] = (255, 0, 0)
    Image.fromarray(rgb).save(tmp_path / "chest.png")
    (volume,) = read(tmp_path / "chest.png")
    assert volume.modality == "xray"
    assert "colour-to-grey" in codes(volume)
    np.testing.assert_array_equal(volume.array[0, 40], rgb[40, :, 0])


def test_true_colour_is_a_photograph_unless_overruled(tmp_path: Path, rng: np.random.Generator) -> None:
    colour = rng.integers(0, 256, (12, 9, 3), dtype=np.uint8)
    Image.fromarray(colour).save(tmp_path / "skin.png")
    (photo,) = read(tmp_path / "skin.png")
    assert (photo.modality, photo.unit) == ("photo", "rgb")
    np.testing.assert_array_equal(photo.array[0], colour)
    (xray,) = read(tmp_path / "skin.png", modality="xray")
    assert xray.array.shape == (1, 12, 9)
    (written,) = read(write(photo, tmp_path / "again.png"))
    np.testing.assert_array_equal(written.array, photo.array)


def test_sixteen_bit_colour_png_keeps_its_depth(tmp_path: Path) -> None:
    import SimpleITK

    deep = np.repeat((GREY.astype(np.uint16) * 250 + 3)[..., None], 3, axis=2)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(deep, isVector=True), str(tmp_path / "deep.png"))
    (volume,) = read(tmp_path / "deep.png")
    np.testing.assert_array_equal(volume.array[0], deep[..., 0])


def test_photographs_of_films_stand_upright(tmp_path: Path) -> None:
    picture = Image.fromarray(np.kron(GREY, np.ones((8, 8), np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right to show
    picture.save(tmp_path / "film.jpg", quality=95, exif=exif)
    (volume,) = read(tmp_path / "film.jpg")
    upright = np.rot90(np.asarray(picture), -1)
    assert volume.array.shape[1:] == upright.shape
    assert np.abs(volume.array[0].astype(int) - upright).mean() < 3


@pytest.mark.parametrize("turn", range(1, 9))
def test_tiff_orientation_is_that_of_pillow(tmp_path: Path, turn: int) -> None:
    from PIL import ImageOps

    tifffile.imwrite(tmp_path / "film.tif", GREY, extratags=[(274, "H", 1, turn, True)])
    picture = Image.fromarray(GREY)
    picture.getexif()[0x0112] = turn
    expected = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(read(tmp_path / "film.tif")[0].array[0], expected)


def test_white_zero_is_inverted_once(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "film.tif", GREY, photometric="miniswhite")
    (volume,) = read(tmp_path / "film.tif")
    np.testing.assert_array_equal(volume.array[0], 255 - GREY)
    assert "inverted" in codes(volume)


def test_imagej_spacing_makes_slices_in_mm(tmp_path: Path) -> None:
    stack = np.stack([GREY, GREY + 1, GREY + 2]).astype(np.uint16)
    facts = {"axes": "ZYX", "spacing": 2.5, "unit": "mm"}
    tifffile.imwrite(tmp_path / "stack.tif", stack, imagej=True, resolution=(1 / 0.5, 1 / 0.8), metadata=facts)
    (volume,) = read(tmp_path / "stack.tif")
    assert volume.modality == "ct"
    assert not volume.is_frames
    np.testing.assert_allclose(volume.geometry.spacing, (2.5, 0.8, 0.5), rtol=1e-6)
    assert "pages-as-slices" in codes(volume)


def test_ome_spacing_in_microns(tmp_path: Path) -> None:
    facts = {"axes": "YX", "PhysicalSizeX": 200.0, "PhysicalSizeY": 300.0}  # OME's own unit is the micron
    tifffile.imwrite(tmp_path / "chest.ome.tif", GREY, ome=True, metadata=facts)
    (volume,) = read(tmp_path / "chest.ome.tif")
    assert volume.geometry.is_mm
    np.testing.assert_allclose(volume.geometry.spacing[1:], (0.3, 0.2))


def test_pages_without_spacing_are_frames_unless_they_hold_hounsfield(tmp_path: Path) -> None:
    pages = np.stack([GREY, 255 - GREY])
    tifffile.imwrite(tmp_path / "pages.tif", pages, photometric="minisblack")
    (stack,) = read(tmp_path / "pages.tif")
    assert stack.is_frames
    assert "pages-as-frames" in codes(stack)
    tifffile.imwrite(tmp_path / "ct.tif", pages.astype(np.int16) - 1000, photometric="minisblack")
    (ct,) = read(tmp_path / "ct.tif")
    assert (ct.modality, ct.unit, ct.is_frames) == ("ct", "HU", False)


def test_more_axes_than_space_are_refused_by_name(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "movie.tif", np.zeros((3, 4, 12, 9), np.uint16), imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(ReadError, match="T: 3, Z: 4"):
        read(tmp_path / "movie.tif")


def test_lzw_is_unpacked(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "packed.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(read(tmp_path / "packed.tif")[0].array[0], GREY)


def test_a_palette_mask_keeps_its_labels_and_colours(tmp_path: Path) -> None:
    picture = Image.fromarray(np.where(GREY > 200, 2, np.where(GREY > 180, 1, 0)).astype(np.uint8)).convert("P")
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    picture.save(tmp_path / "voc.png")
    (labels,) = read(tmp_path / "voc.png")
    assert isinstance(labels, LabelMap)
    assert labels.colours == {1: "#800000", 2: "#008000"}
    assert labels.array.max() == 2


def test_one_pixel_is_an_image(tmp_path: Path) -> None:
    Image.fromarray(np.full((1, 1), 77, np.uint8)).save(tmp_path / "dot.png")
    (volume,) = read(tmp_path / "dot.png")
    assert volume.array.tolist() == [[[77]]]


def test_a_folder_of_equal_pictures_is_a_stack(tmp_path: Path) -> None:
    for index in range(3):
        Image.fromarray(GREY + index).save(tmp_path / f"p{index}.png")
    (stack,) = read(tmp_path)
    assert stack.geometry.shape == (3, 12, 9)
    assert stack.is_frames
    assert "stacked" in codes(stack)
    np.testing.assert_array_equal(stack.array[2], GREY + 2)
    (slices,) = read(tmp_path, modality="ct")
    assert not slices.is_frames
    (pair,) = read([tmp_path / "p2.png", tmp_path / "p0.png"])
    np.testing.assert_array_equal(pair.array[0], GREY + 2)
    Image.fromarray(GREY.T.copy()).save(tmp_path / "p9.png")
    assert [item.geometry.shape for item in read(tmp_path)] == [(1, 12, 9)] * 3 + [(1, 9, 12)]


def test_masks_beside_pictures_are_a_stack_of_their_own(tmp_path: Path) -> None:
    for index in range(2):
        Image.fromarray(GREY).save(tmp_path / f"p{index}.png")
        Image.fromarray(np.greater(GREY, 200 + index).astype(np.uint8) * 255).save(tmp_path / f"p{index}_mask.png")
    volume, labels = read(tmp_path)
    assert (volume.geometry.shape, labels.geometry.shape) == ((2, 12, 9), (2, 12, 9))
    assert labels.geometry.frames
    assert labels.array.max() == 1


def test_png_says_what_it_cannot_hold(tmp_path: Path) -> None:
    deep = Volume(np.full((3, 4, 5), -500, np.int16), Geometry((3, 4, 5)))
    with pytest.raises(WriteError, match=r"one slice.*\.nii\.gz"):
        write(deep, tmp_path / "a.png")
    flat = Volume(np.full((1, 4, 5), -500, np.int16), Geometry((1, 4, 5)))
    with pytest.raises(WriteError, match=r"65535.*\.nii\.gz"):
        write(flat, tmp_path / "a.png")
    many = LabelMap(np.full((1, 4, 5), 70_000, np.uint32), Geometry((1, 4, 5)))
    with pytest.raises(WriteError, match="65535"):
        write(many, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_many_labels_take_a_deep_png(tmp_path: Path) -> None:
    array = np.arange(300, dtype=np.uint16).reshape(1, 15, 20)
    path = write(LabelMap(array, Geometry((1, 15, 20))), tmp_path / "many.png")
    with Image.open(path) as picture:
        assert picture.mode.startswith("I;16")
        np.testing.assert_array_equal(np.asarray(picture), array[0])
    np.testing.assert_array_equal(read(path)[0].array, array)


def test_tiff_is_read_by_others_with_its_spacing(tmp_path: Path) -> None:
    array = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    path = write(LabelMap(array, Geometry((3, 4, 5), (2.5, 0.7, 0.9))), tmp_path / "lungs.tif")
    with tifffile.TiffFile(path) as tiff:
        np.testing.assert_array_equal(tiff.asarray(), array)
        assert 'PhysicalSizeZ="2.5"' in tiff.ome_metadata
        assert 'PhysicalSizeX="0.9"' in tiff.ome_metadata
    (path.with_name("lungs.labels.json")).unlink()
    (bare,) = read(path, labels=True)
    np.testing.assert_allclose(bare.geometry.spacing, (2.5, 0.7, 0.9))
