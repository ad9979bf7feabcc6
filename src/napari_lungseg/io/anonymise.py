"""De-identify DICOM files by the basic profile of the standard (PS3.15 Annex E, table E.1-1 of 2024b).

What is done to which attribute comes from dicom-anonymizer, whose tables are made of the standard's. That library looks
at the top level alone; here the same actions go through every sequence, so that references between objects (a
segmentation's to its scan) still hold. What the table does not name but tells of the patient is taken out as well.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ..errors import ReadError
from ..findings import Finding
from ..progress import Progress
from . import atomic
from .dicom_header import is_dicom
from .dicom_kind import tells_of
from .discover import files_of

Rules: TypeAlias = Mapping[tuple[int, ...], Callable[[Any, tuple[int, int]], object]]

# PS3.16 CID 7050.
_BASIC_PROFILE = ("113100", "DCM", "Basic Application Confidentiality Profile")
_IDENTIFYING = (
    "PatientName",
    "PatientID",
    "OtherPatientNames",
    "OtherPatientIDs",
    "PatientBirthDate",
    "AccessionNumber",
)
_TEXTS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
# The library's dummy is of the year 1, which validators refuse.
_NO_YEAR, _DUMMY = "0001", {"DA": "19000101", "DT": "19000101000000"}
# Pictures of these kinds often have the patient's name in the pixels.
_OFTEN_BURNED_IN = frozenset({"US", "ES", "XC", "OT", "SC", "GM", "SM", "RF", "XA"})


def anonymise(paths: Sequence[Path], folder: Path) -> Generator[Progress, None, list[Finding]]:
    """Write de-identified copies of DICOM files into a new folder, one subfolder per series.

    Pixels, their coding and geometry are kept. UIDs are replaced consistently within this process, so that series stay
    together and references hold; a patient's files get one random pseudonym. Nothing else in the folder, and no
    name in it, is taken from the input.

    Parameters
    ----------
    paths : files and folders, those of one study together
    folder : to be made; it appears complete or not at all

    Returns
    -------
    what is left to look at: pixels that may show the patient's name, and how many private elements were taken out

    Raises
    ------
    ReadError
        Where there is no DICOM, or a file is damaged.
    WriteError
        Where the folder holds something, or the disk refuses.
    """
    files = [file for path in paths for file in files_of(path)[0] if is_dicom(file)]
    if not files:
        raise ReadError("There is no DICOM file in what was named, and no other kind can be anonymised.")
    rules = _rules()
    burned_in: dict[str, int] = {}
    private = 0
    series: dict[str, str] = {}
    with atomic.replacing_folder(folder) as temporary:
        for done, path in enumerate(files):
            yield Progress(done, len(files), f"Anonymised {done} of {len(files)} files")
            image, removed = _anonymised(path, rules)
            private += removed
            kind = str(image.get("Modality", "")) or "DICOM"
            name = series.setdefault(str(image.get("SeriesInstanceUID", "")), f"{len(series) + 1:03d}-{kind}")
            if _may_be_burned_in(image):
                burned_in[name] = burned_in.get(name, 0) + 1
            (temporary / name).mkdir(exist_ok=True)
            image.save_as(temporary / name / f"{done + 1:06d}.dcm", enforce_file_format=True)
    told = [Finding("burned-in", _burned_in_sentence(name, count)) for name, count in burned_in.items()]
    lost = (
        f"{private} private or unknown element(s) were taken out; what only the maker's software reads of them is lost."
    )
    return [*told, Finding("private-removed", lost)] if private else told


def _rules() -> Rules:
    from dicomanonymizer.simpledicomanonymizer import delete_or_empty_or_replace_UID, initialize_actions_2024b

    # X/Z/U*: of its choices "U", replace the UIDs inside; going through every sequence does that.
    table = initialize_actions_2024b()
    return {tag: action for tag, action in table.items() if action is not delete_or_empty_or_replace_UID}


def _anonymised(path: Path, rules: Rules) -> tuple[Any, int]:
    """The data set, and how many private or unknown elements it had."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        image = pydicom.dcmread(path, force=True)
        private = sum(element.tag.is_private or element.VR == "UN" for element in image.iterall())
        whose = [str(image.get(keyword, "") or "") for keyword in _IDENTIFYING]
        _clean(image, rules, [text for text in whose if text])
    except (InvalidDicomError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReadError(f"{path.name} is damaged ({type(error).__name__}); leave it out or export it again.") from None
    _label(image, whose[1] or whose[0])
    return image, private


def _clean(dataset: Any, rules: Rules, whose: Sequence[str]) -> None:
    """Apply the table to a dataset and to all that is nested in it."""
    for tag in list(dataset.keys()):
        element = dataset[tag]
        if tag.is_private or element.VR == "UN":
            del dataset[tag]
            continue
        _apply(dataset, (tag.group, tag.element), rules)
        element = dataset.get(tag)
        if element is None:
            continue
        if element.VR == "SQ":
            for item in element.value:
                _clean(item, rules, whose)
        elif element.VR in _DUMMY and str(element.value).startswith(_NO_YEAR):
            element.value = _DUMMY[element.VR]
        elif element.VR in _TEXTS and tells_of(str(element.value), whose):
            element.value = ""


def _apply(dataset: Any, tag: tuple[int, int], rules: Rules) -> None:
    action = rules.get(tag)
    if action is None and tag[0] & 0xFF00 in (0x5000, 0x6000):  # repeating groups: curves and overlays
        masked = [rule for rule in rules if len(rule) == 4 and _in_group(tag, rule)]
        action = rules[masked[0]] if masked else None
    if action is None:
        return
    try:
        action(dataset, tag)
    except NotImplementedError:  # a value representation for which the library knows no dummy
        del dataset[tag]


def _in_group(tag: tuple[int, int], rule: tuple[int, ...]) -> bool:
    return (tag[0] & rule[2], tag[1] & rule[3]) == (rule[0] & rule[2], rule[1] & rule[3])


def _label(image: Any, patient: str) -> None:
    """Say what was done, give the patient a pseudonym, and make a file header that tells of nobody."""
    from dicomanonymizer.simpledicomanonymizer import get_UID
    from pydicom.dataset import Dataset, FileMetaDataset

    pseudonym = f"ANON-{get_UID(f'patient {patient}')[-10:]}"
    image.PatientID, image.PatientName = pseudonym, pseudonym
    image.PatientIdentityRemoved = "YES"
    image.DeidentificationMethod = "napari-lungseg, PS3.15 2024b basic profile"
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = _BASIC_PROFILE
    image.DeidentificationMethodCodeSequence = [code]
    image.LongitudinalTemporalInformationModified = "REMOVED"
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = getattr(image.file_meta, "TransferSyntaxUID", None) or _syntax(image)
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    image.file_meta, image.preamble = meta, b"\0" * 128


def _syntax(image: Any) -> Any:
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    return ImplicitVRLittleEndian if image.original_encoding[0] else ExplicitVRLittleEndian


def _may_be_burned_in(image: Any) -> bool:
    if "PixelData" not in image:
        return False
    told = str(image.get("BurnedInAnnotation", "")).upper()
    if told in ("YES", "NO"):
        return told == "YES"
    secondary = str(image.get("SOPClassUID", "")).startswith("1.2.840.10008.5.1.4.1.1.7")
    return secondary or str(image.get("Modality", "")) in _OFTEN_BURNED_IN


def _burned_in_sentence(name: str, count: int) -> str:
    return f"{count} image(s) in {name} may show the patient's name in their pixels, which are kept; look at them."
