"""Codes for what labels show: SNOMED CT, as DICOM asks for it (PS3.16 CID 7150 and CID 7151)."""

from __future__ import annotations

import re
from typing import NamedTuple


class Code(NamedTuple):
    """A coded concept: value, coding scheme and meaning."""

    value: str
    scheme: str
    meaning: str


ANATOMICAL_STRUCTURE = Code("91723000", "SCT", "Anatomical Structure")
ABNORMAL_STRUCTURE = Code("49755003", "SCT", "Morphologically Abnormal Structure")
TISSUE = Code("85756007", "SCT", "Tissue")

# Name of a label → category, SNOMED CT value and meaning of its type. To add one, add a line.
_KNOWN = {
    "lung": (ANATOMICAL_STRUCTURE, "39607008", "Lung"),
    "lungs": (ANATOMICAL_STRUCTURE, "39607008", "Lung"),
    "right lung": (ANATOMICAL_STRUCTURE, "3341006", "Right lung"),
    "left lung": (ANATOMICAL_STRUCTURE, "44029006", "Left lung"),
    "right upper lobe": (ANATOMICAL_STRUCTURE, "42400003", "Upper lobe of right lung"),
    "right middle lobe": (ANATOMICAL_STRUCTURE, "72481006", "Middle lobe of right lung"),
    "right lower lobe": (ANATOMICAL_STRUCTURE, "266005", "Lower lobe of right lung"),
    "left upper lobe": (ANATOMICAL_STRUCTURE, "44714003", "Upper lobe of left lung"),
    "left lower lobe": (ANATOMICAL_STRUCTURE, "41224006", "Lower lobe of left lung"),
    "trachea": (ANATOMICAL_STRUCTURE, "44567001", "Trachea"),
    "bronchus": (ANATOMICAL_STRUCTURE, "955009", "Bronchus"),
    "heart": (ANATOMICAL_STRUCTURE, "80891009", "Heart"),
    "aorta": (ANATOMICAL_STRUCTURE, "15825003", "Aorta"),
    "oesophagus": (ANATOMICAL_STRUCTURE, "32849002", "Esophagus"),
    "esophagus": (ANATOMICAL_STRUCTURE, "32849002", "Esophagus"),
    "spinal cord": (ANATOMICAL_STRUCTURE, "2748008", "Spinal cord"),
    "mediastinum": (ANATOMICAL_STRUCTURE, "72410000", "Mediastinum"),
    "diaphragm": (ANATOMICAL_STRUCTURE, "5798000", "Diaphragm"),
    "liver": (ANATOMICAL_STRUCTURE, "10200004", "Liver"),
    "nodule": (ABNORMAL_STRUCTURE, "27925004", "Nodule"),
    "mass": (ABNORMAL_STRUCTURE, "4147007", "Mass"),
    "lesion": (ABNORMAL_STRUCTURE, "52988006", "Lesion"),
    "tumour": (ABNORMAL_STRUCTURE, "108369006", "Neoplasm"),
    "tumor": (ABNORMAL_STRUCTURE, "108369006", "Neoplasm"),
}


def codes_for(name: str) -> tuple[Code, Code]:
    """Category and type of what a label's name says; a name that no line knows is some tissue.

    Order and case of the words do not matter, nor do "of", "the", and "lung" beside "lobe": ``Lung_R`` is not known,
    ``Lung Right`` and ``upper lobe of left lung`` are.
    """
    return _BY_WORDS.get(_words(name), (TISSUE, TISSUE))


def _words(name: str) -> frozenset[str]:
    words = frozenset(re.split(r"[\W_]+", name.casefold())) - {"", "of", "the"}
    return words - {"lung"} if "lobe" in words else words


_BY_WORDS = {
    _words(name): (category, Code(value, "SCT", meaning)) for name, (category, value, meaning) in _KNOWN.items()
}
