"""The conformance table of docs/reference/dicom.md: every row is read, and compared with GDCM and highdicom.

``python tests/unit/dicom_conformance.py`` writes it; a test compares what is written with what the code makes.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import highdicom.spatial
import numpy as np
import pydicom
import pydicom.data
import SimpleITK as sitk
from dicom_phantom import (
    ORIENTATIONS,
    SPACING,
    ct_series,
    ct_slice,
    dataset,
    enhanced_ct,
    lookup_table,
    places,
    radiograph,
)
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    JPEG2000,
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from napari_lungseg.errors import ReadError
from napari_lungseg.io.dicom import read_dicom
from napari_lungseg.volume import Volume

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "dicom.md"
BEGIN, END = "<!-- conformance: written by tests/unit/dicom_conformance.py -->", "<!-- end of conformance -->"
TOOLS = ("dcmcjpeg", "dcmcjpls", "dcmcrle", "dcmconv", "gdcmconv")
LOSSY_HU = 30.0
# As the reader: half the error that a rounded header makes.
SAME_PLACE_MM = 0.01


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    kind: str
    maker: str
    voxels: str
    geometry: str

    def line(self) -> str:
        """As Markdown."""
        return f"| {self.kind} | {self.maker} | {self.voxels} | {self.geometry} |"


def thorax() -> np.ndarray:
    """(64, 72) Hounsfield units of a phantom slice: smooth inside, air around, different left and right."""
    y, x = np.mgrid[:64, :72]
    body = ((x - 36) / 32) ** 2 + ((y - 32) / 27) ** 2 < 1
    lungs = (((x - 22) / 9) ** 2 + ((y - 32) / 17) ** 2 < 1) | (((x - 50) / 8) ** 2 + ((y - 30) / 15) ** 2 < 1)
    hounsfield = np.where(lungs, -850 + x, np.where(body, 40 + y, -1000))
    return hounsfield.astype(np.int16)


def volumes_of(paths: list[Path]) -> list[Volume]:
    return [item.load() for item in read_dicom(paths) if isinstance(item, Volume)]


def gdcm(path: Path) -> np.ndarray | None:
    """Voxels that SimpleITK (GDCM) gets, None where it does not open the file."""
    try:
        return sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))
    except RuntimeError:
        return None


def against(volume: Volume, other: np.ndarray | None, name: str = "GDCM", within: float = 0.0) -> str:
    """How a volume's voxels compare with another reader's."""
    if other is None:
        return f"{name} does not open it"
    mine = np.asarray(volume.array).squeeze().astype(float)
    if other.squeeze().shape != mine.shape:
        return f"{name} makes {' × '.join(map(str, other.squeeze().shape))}"
    apart = float(np.abs(mine - other.squeeze().astype(float)).max())
    if apart <= 1e-3:
        return f"equal to {name}"
    return f"within {within:g} of {name}" if apart <= within else f"up to {apart:.6g} from {name}"


def places_agree(volume: Volume, slices: list[Any]) -> str:
    """Whether every corner of every slice lies where highdicom puts it, and left is the patient's left."""
    transforms = [
        highdicom.spatial.ImageToReferenceTransformer(
            image_position=[float(v) for v in position],
            image_orientation=[float(v) for v in orientation],
            pixel_spacing=[float(v) for v in spacing],
        )
        for position, orientation, spacing in slices
    ]
    rows, columns = volume.geometry.shape[1:]
    corners = np.array([(0, 0), (columns - 1, 0), (0, rows - 1), (columns - 1, rows - 1)], float)
    worst = 0.0
    mine = [[volume.geometry.position((z, y, x))[::-1] for x, y in corners] for z in range(len(transforms))]
    for z, transform in enumerate(transforms):
        # Image coordinates count from the corner of the first pixel, positions are those of its centre.
        worst = max(worst, float(np.abs(transform(corners + 0.5) - np.array(mine[z])).max()))
    if worst > SAME_PLACE_MM:
        return f"up to {worst:.3g} mm from highdicom"
    letters = volume.reoriented()[0].geometry.axis_letters()
    return "equal to highdicom" + (
        ", left is left" if volume.geometry.shape[0] > 1 and letters == ("H", "P", "L") else ""
    )


def _one(folder: Path, image: Any, **how: bool) -> Path:
    path = folder / "image"
    dcmwrite(path, image, enforce_file_format=True, **how)
    return path


def plain_slice() -> Any:
    return ct_slice((thorax() + 1024).astype(np.uint16), (-10.5, -20.25, 5.0), BitsStored=12, HighBit=11)


def _packed_by_pydicom(syntax: str, **options: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        image = plain_slice()
        image.compress(syntax, generate_instance_uid=False, **options)
        return _one(folder, image)

    return make


def _written_as(syntax: str, **how: bool) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        image = plain_slice()
        if how:
            image.PixelData = (thorax() + 1024).astype(">u2").tobytes()
        image.file_meta.TransferSyntaxUID = syntax
        return _one(folder, image, **how)

    return make


def _by_tool(*command: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        source, target = _one(folder, plain_slice()), folder / "converted"
        subprocess.run([*command, str(source), str(target)], check=True, capture_output=True)
        return target

    return make


def _eight_bits(*command: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        pixels = ((thorax() + 1024) >> 4).astype(np.uint8)
        source = _one(folder, ct_slice(pixels, (-10.5, -20.25, 5.0), RescaleSlope=16))
        subprocess.run([*command, str(source), str(folder / "converted")], check=True, capture_output=True)
        return folder / "converted"

    return make


SYNTAXES: tuple[tuple[str, Callable[[Path], Path], bool], ...] = (
    ("pydicom", _written_as(ImplicitVRLittleEndian), False),
    ("pydicom", lambda folder: _one(folder, plain_slice()), False),
    ("pydicom", _written_as(ExplicitVRBigEndian, implicit_vr=False, little_endian=False), False),
    ("pydicom", _written_as(DeflatedExplicitVRLittleEndian), False),
    ("pydicom", _packed_by_pydicom(RLELossless), False),
    ("pydicom", _packed_by_pydicom(JPEGLSLossless), False),
    ("pydicom", _packed_by_pydicom(JPEGLSNearLossless, jls_error=3), True),
    ("pydicom", _packed_by_pydicom(JPEG2000Lossless), False),
    ("pydicom", _packed_by_pydicom(JPEG2000, j2k_cr=[4]), True),
    ("dcmconv", _by_tool("dcmconv", "+ti"), False),
    ("dcmconv", _by_tool("dcmconv", "+tb"), False),
    ("dcmconv", _by_tool("dcmconv", "+td"), False),
    ("dcmcrle", _by_tool("dcmcrle"), False),
    ("dcmcjpls", _by_tool("dcmcjpls", "+el"), False),
    ("dcmcjpls", _by_tool("dcmcjpls", "+en", "+md", "3"), True),
    ("dcmcjpeg", _by_tool("dcmcjpeg", "+e1"), False),
    ("dcmcjpeg", _by_tool("dcmcjpeg", "+el"), False),
    ("dcmcjpeg, 12 bits", _by_tool("dcmcjpeg", "+ee", "+q", "99"), True),
    ("dcmcjpeg, 8 bits", _eight_bits("dcmcjpeg", "+eb", "+q", "99"), True),
    ("gdcmconv", _by_tool("gdcmconv", "--rle"), False),
    ("gdcmconv", _by_tool("gdcmconv", "--jpeg"), False),
    ("gdcmconv", _by_tool("gdcmconv", "--jpegls"), False),
    ("gdcmconv", _by_tool("gdcmconv", "--j2k"), False),
)


def syntax_rows(folder: Path) -> Iterator[Row]:
    """One CT slice in every transfer syntax, by every program that writes it."""
    for number, (maker, make, lossy) in enumerate(SYNTAXES):
        if maker.split(",")[0] in TOOLS and not shutil.which(maker.split(",")[0]):
            continue
        home = folder / f"syntax-{number}"
        home.mkdir()
        path = make(home)
        (volume,) = volumes_of([path])
        header = pydicom.dcmread(path, stop_before_pixels=True)
        original = (thorax() + 1024 >> 4) * 16 - 1024 if "8 bits" in maker else thorax()
        bound = LOSSY_HU if lossy else 0.0
        voxels = f"{against(volume, original, 'the original', bound)}, {against(volume, gdcm(path), within=bound)}"
        place = (header.ImagePositionPatient, header.ImageOrientationPatient, header.PixelSpacing)
        yield Row(header.file_meta.TransferSyntaxUID.name, maker, voxels, places_agree(volume, [place]))


def geometry_rows(folder: Path) -> Iterator[Row]:
    """Series of every way to lie and to be sliced."""
    angle = np.radians(20)
    tilted = (1, 0, 0, 0, np.cos(angle), -np.sin(angle))
    axial = ORIENTATIONS["axial head first supine"]
    cases = {name: (axes, places(5, axes)) for name, axes in ORIENTATIONS.items()}
    cases["tilted gantry, 20°"] = (tilted, np.outer(np.arange(5), [0, 0, 2.5]) - 40.0)
    cases["uneven slices"] = (axial, np.outer([0, 1.0, 2.3, 3.4, 7.0], [0, 0, 1.0]))
    cases["a missing slice"] = (axial, places(6, axial)[[0, 1, 2, 4, 5]])
    cases["overlapping slices"] = (axial, places(5, axial, gap=1.25))
    stored = _all_different()
    for number, (name, (axes, positions)) in enumerate(cases.items()):
        paths = ct_series(folder / f"series-{number}", stored, positions, axes)
        yield _series_row(f"CT series, {name}", volumes_of(paths), stored, positions, axes)
    for number, (name, axes) in enumerate(ORIENTATIONS.items()):
        home = folder / f"enhanced-{number}"
        home.mkdir()
        order = [3, 0, 4, 1, 2]
        image = enhanced_ct(stored[order], places(5, axes)[order], axes)
        for groups in image.PerFrameFunctionalGroupsSequence:
            groups.PixelValueTransformationSequence[0].RescaleIntercept = -1024
        yield _series_row(f"enhanced CT, {name}", volumes_of([_one(home, image)]), stored, places(5, axes), axes)


def _all_different() -> np.ndarray:
    return np.random.default_rng(3).permutation(5 * 12 * 14).astype(np.uint16).reshape(5, 12, 14)


def _series_row(kind: str, volumes: list[Volume], stored: np.ndarray, positions: np.ndarray, axes: Any) -> Row:
    voxels = against(volumes[0], stored.astype(int) - 1024, "what was written")
    geometry = places_agree(volumes[0], [(position, axes, SPACING) for position in positions])
    return Row(kind, "pydicom", voxels if len(volumes) == 1 else f"{len(volumes)} volumes", geometry)


RAMP = np.arange(20 * 24, dtype=np.uint16).reshape(20, 24)
TOLD = {"PatientOrientation": ["L", "F"], "PixelSpacing": [0.2, 0.2]}


def _xray(**elements: Any) -> Any:
    return radiograph(RAMP, **(TOLD | elements))


def _palette() -> Any:
    image = dataset((RAMP // 2).astype(np.uint8), SecondaryCaptureImageStorage, Modality="OT", **TOLD)
    image.PhotometricInterpretation = "PALETTE COLOR"
    for shift, colour in enumerate(("Red", "Green", "Blue")):
        setattr(image, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        ramp = np.roll(np.arange(256, dtype="<u2") * 257, shift)
        setattr(image, f"{colour}PaletteColorLookupTableData", ramp.tobytes())
    return image


def _without(image: Any, *keywords: str) -> Any:
    for keyword in keywords:
        delattr(image, keyword)
    return image


def _private() -> Any:
    image = plain_slice()
    block = image.private_block(0x0029, "A VENDOR", create=True)
    block.add_new(0x01, "UN", b"\x01\x02\x03\x04")
    return image


def _padded() -> Any:
    pixels = thorax()
    pixels[:6] = -2000
    return ct_slice(pixels, (0, 0, 0), PixelPaddingValue=-2000, RescaleIntercept=0)


PLACE = (-10.5, -20.25, 5.0)
PIXELS: dict[str, Callable[[], Any]] = {
    "CT, 16 bits signed": lambda: ct_slice(thorax(), PLACE, RescaleIntercept=0),
    "CT, 16 bits unsigned": lambda: ct_slice((thorax() + 1024).astype(np.uint16), PLACE),
    "CT, 12 bits unsigned": plain_slice,
    "CT, 12 bits signed": lambda: ct_slice(
        thorax().view(np.uint16) & 0x0FFF, PLACE, BitsStored=12, HighBit=11, PixelRepresentation=1, RescaleIntercept=0
    ),
    "CT, 8 bits unsigned": lambda: ct_slice(((thorax() + 1024) >> 4).astype(np.uint8), PLACE, RescaleSlope=16),
    "CT, 8 bits signed": lambda: ct_slice((thorax() // 16).astype(np.int8), PLACE, RescaleSlope=16, RescaleIntercept=0),
    "CT, slope 0.5": lambda: ct_slice(
        (thorax() + 1024).astype(np.uint16), PLACE, RescaleSlope=0.5, RescaleIntercept=-1000.25
    ),
    "CT, PixelPaddingValue": _padded,
    "CT, private elements": _private,
    "CT, without PixelSpacing": lambda: _without(plain_slice(), "PixelSpacing"),
    "CT, without position": lambda: _without(plain_slice(), "ImagePositionPatient", "ImageOrientationPatient"),
    "DX, MONOCHROME2": _xray,
    "DX, MONOCHROME1": lambda: _xray(PhotometricInterpretation="MONOCHROME1"),
    "DX, MONOCHROME1 with INVERSE": lambda: _xray(
        PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"
    ),
    "DX, VOI LUT Sequence": lambda: _xray(VOILUTSequence=[lookup_table(range(0, 4000, 8), 0)]),
    "DX, sigmoid window": lambda: _xray(WindowCenter=200, WindowWidth=80, VOILUTFunction="SIGMOID"),
    "CR": lambda: dataset(RAMP, ComputedRadiographyImageStorage, Modality="CR", **TOLD),
    "DR (as some write it)": lambda: dataset(RAMP, SecondaryCaptureImageStorage, Modality="DR", **TOLD),
    "secondary capture, grey": lambda: dataset(RAMP, SecondaryCaptureImageStorage, Modality="OT", **TOLD),
    "secondary capture, palette": _palette,
}


def pixel_rows(folder: Path) -> Iterator[Row]:
    """What pixels may be like, one image each."""
    for number, (kind, make) in enumerate(PIXELS.items()):
        home = folder / f"pixels-{number}"
        home.mkdir()
        yield _row_of_file(kind, "pydicom", _one(home, make()))
    bare = plain_slice()
    del bare.file_meta
    bare.preamble = None
    dcmwrite(folder / "bare", bare, implicit_vr=True, little_endian=True)
    yield _row_of_file("CT without preamble and meta header", "pydicom", folder / "bare")


def real_rows(folder: Path) -> Iterator[Row]:
    """Every file that pydicom's wheel brings for its own tests, wherever it came from."""
    home = Path(pydicom.data.__file__).parent / "test_files"
    for path in sorted(home.rglob("*"), key=lambda path: path.relative_to(home).as_posix().lower()):
        if path.is_file() and (path.suffix == ".dcm" or ("dicomdirtests" in path.parts and "TINY" not in str(path))):
            yield _row_of_file(f"`{path.relative_to(home).as_posix()}`", "pydicom's tests", path)


# Colours of 16 and 32 bits in RLE, whose bytes GDCM puts together in the wrong order: the same picture with 8 bits.
TWINS = {
    f"SC_rgb_rle_{bits}bit{frames}.dcm": f"SC_rgb_rle{frames}.dcm" for bits in (16, 32) for frames in ("", "_2frame")
}
# Where another reader means something else, why.
MEANT = {
    "voi-lut-applied": "the VOI LUT is applied, GDCM leaves it to the viewer",
}


def _row_of_file(kind: str, maker: str, path: Path) -> Row:
    try:
        volumes = volumes_of([path])
    except ReadError as error:
        return Row(kind, maker, f"refused: {_short(str(error), path)}", "–")
    other = gdcm(path)
    voxels = against(volumes[0], other, within=3.0 if volumes[0].unit == "rgb" else 1.0)
    if voxels.startswith(("up to", "GDCM makes")):
        codes = {finding.code for finding in volumes[0].findings}
        why = next((reason for code, reason in MEANT.items() if code in codes), "")
        voxels = why or _padding_alone(volumes[0], path) or voxels
    if path.name in TWINS:
        (twin,) = volumes_of([path.with_name(TWINS[path.name])])
        voxels = f"{against(volumes[0], twin.array, 'the same in 8 bits')}; GDCM mixes up its bytes"
    header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    told = all(keyword in header for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"))
    place = [(header.ImagePositionPatient, header.ImageOrientationPatient, header.PixelSpacing)] if told else []
    return Row(kind, maker, voxels, places_agree(volumes[0], place) if told else "not told by the file")


def _padding_alone(volume: Volume, path: Path) -> str:
    other = gdcm(path)
    if volume.unit != "HU" or other is None or other.squeeze().shape != volume.array.squeeze().shape:
        return ""
    same = (np.asarray(volume.array) == -1000) | (np.asarray(volume.array) == other)
    return "equal to GDCM; padding is air" if same.all() else ""


def _short(message: str, path: Path) -> str:
    """The reason alone, without anything that a library's next version may word anew."""
    if "no image (" in message:
        return message.split("no image (")[1].split(")")[0]
    if "holds contours" in message:
        return "contours without their scan"
    if "damaged DICOM segmentation" in message:
        return "a segmentation that describes other frames than it holds"
    for reason in ("cut off", "cannot be decoded", "damaged", "no DICOM"):
        if reason in message:
            return reason + ("; GDCM opens it" if gdcm(path) is not None else "")
    return "no image"


def rows() -> list[Row]:
    """All rows that can be made on this machine."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as name:
        warnings.simplefilter("ignore")
        pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
        folder = Path(name)
        makers = (syntax_rows, pixel_rows, geometry_rows, real_rows)
        return [row for maker in makers for row in maker(folder)]


def table(found: list[Row]) -> str:
    """The Markdown table."""
    head = "| what | made by | voxels | geometry |\n|---|---|---|---|\n"
    return head + "\n".join(row.line() for row in found)


def committed() -> list[str]:
    """The lines of the table in the page."""
    text = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    return [line for line in text.strip().splitlines()[2:] if line]


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{table(rows())}\n\n{END}{after}", encoding="utf-8")
