"""What a DICOM image is: its modality, whether its values are Hounsfield units, and a name without the patient in it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..findings import Finding
from ..volume import Modality, Unit
from .dicom_header import Frame

# Modalities (0008,0060) whose images are projections: DICOM PS3.3 C.7.3.1.1.1.
_RADIOGRAPHS = frozenset({"CR", "DX", "DR", "RG", "RF", "XA", "PX", "IO", "MG", "RTIMAGE"})
_RADIOGRAPH_CLASSES = ("1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1.1")
_CT_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.2.2",
)
_IDENTIFYING = (
    *("PatientName", "PatientID", "OtherPatientNames", "OtherPatientIDs", "PatientBirthDate", "AccessionNumber"),
    *("ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "StudyID"),
)
_LONGEST_DESCRIPTION = 40
_EMPTY = ("", "none", "null", "n/a", "unknown", "unnamed")


def is_localizer(frame: Frame) -> bool:
    """Whether the image is a scanner's overview projection (scout, topogram)."""
    return "LOCALIZER" in frame.image_type


def is_colour(frame: Frame) -> bool:
    """Whether the file stores colours."""
    return frame.count("SamplesPerPixel", 1) >= 3 or frame.text("PhotometricInterpretation").startswith("PALETTE")


def says_ct(frame: Frame) -> bool:
    """Whether the header calls the image a CT slice."""
    return str(frame.get("SOPClassUID")) in _CT_CLASSES or frame.text("Modality") == "CT"


def says_radiograph(frame: Frame) -> bool:
    """Whether the header calls the image a projection radiograph."""
    return str(frame.get("SOPClassUID")) in _RADIOGRAPH_CLASSES or frame.text("Modality") in _RADIOGRAPHS


def modality_of(frame: Frame, wanted: Modality | None) -> Modality:
    """Modality of an image: as the caller wants it, else as the header says, else by whether it lies in space."""
    if wanted is not None:
        return wanted
    if is_localizer(frame) or says_radiograph(frame):
        return "xray"
    if says_ct(frame):
        return "ct"
    return "ct" if frame.position is not None else "xray"


def unit_of(frame: Frame, modality: Modality, wanted: Modality | None) -> Unit:
    """``"HU"`` only where RescaleType or CT says so, and a rescale is there to get to them."""
    if modality != "ct" or is_colour(frame) or frame.number("RescaleIntercept") is None:
        return "a.u."
    kind = frame.text("RescaleType")
    if kind in ("HU", "HOUNSFIELD") or kind.startswith("HOUN"):
        return "HU"
    # US means "unspecified"; scanners write it on ordinary CT images too.
    return "HU" if kind in ("", "US") and (says_ct(frame) or wanted == "ct") else "a.u."


def kind_findings(frame: Frame, modality: Modality, unit: Unit) -> list[Finding]:
    """What is worth telling about the kind of image."""
    findings = []
    tag = frame.text("Modality")[:4] or "an unknown kind"
    if is_localizer(frame):
        findings.append(Finding("localizer", "This is a scanner's overview image (localizer), not part of a CT stack."))
    elif not says_ct(frame) and not says_radiograph(frame):
        taken = {"ct": "a stack of slices", "xray": "a radiograph", "photo": "a picture"}[modality]
        findings.append(
            Finding("modality-inferred", f"The header says {tag}, neither CT nor radiograph; it is taken for {taken}.")
        )
    if modality == "ct" and unit != "HU" and says_ct(frame):
        findings.append(
            Finding(
                "not-hounsfield",
                f"This CT is not in Hounsfield units (rescale type: {frame.text('RescaleType') or 'no rescale at all'}). "
                "Models for CT need Hounsfield units: open the original axial series.",
            )
        )
    elif unit == "HU" and _cannot_be_negative(frame):
        findings.append(
            Finding(
                "offset-values",
                "No value can lie below 0 by this header, though air is -1000 HU: the rescale may have been lost. "
                "Compare air and tissue with what you expect before trusting numbers.",
            )
        )
    return findings


def _cannot_be_negative(frame: Frame) -> bool:
    intercept = frame.number("RescaleIntercept") or 0.0
    return intercept >= 0 and frame.count("PixelRepresentation", 0) == 0 and frame.get("PixelPaddingValue") is None


def neutral_name(frame: Frame) -> str:
    """Name for a layer: modality, series number, and the description where it tells nothing of the patient."""
    modality = re.sub(r"[^A-Z]", "", frame.text("Modality"))[:8] or "DICOM"
    number = frame.number("SeriesNumber")
    # Eight digits may be a date or an identifier.
    name = modality if number is None or abs(number) > 99_999 else f"{modality} series {int(number)}"
    description = " ".join(str(frame.get("SeriesDescription") or "").split())[:_LONGEST_DESCRIPTION].strip()
    telling = description.casefold() not in _EMPTY and _is_neutral(description, frame)
    return f"{name}, {description}" if telling else name


def _is_neutral(description: str, frame: Frame) -> bool:
    return is_neutral(description, (word for keyword in _IDENTIFYING for word in frame.words(keyword)))


def is_neutral(description: str, identifying: Iterable[str]) -> bool:
    """Whether a description looks like no date or identifier, and holds nothing of a person's names and identifiers."""
    if re.search(r"\d{5}|[\\/@^]|\d[-.]\d+[-.]\d", description):
        return False
    return not tells_of(description, identifying)


def tells_of(text: str, identifying: Iterable[str]) -> bool:
    """Whether a text holds any part of a person's names and identifiers."""
    private = {part for part in re.split(r"[\W_]+", " ".join(identifying).casefold()) if len(part) > 1}
    words = re.split(r"[\W_]+", text.casefold())
    inside = any(part in text.casefold() for part in private if len(part) > 3)
    return inside or not private.isdisjoint(words)
