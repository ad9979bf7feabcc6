"""What a step noticed but could live with; shown to the user, never swallowed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One observation about a scan or a result.

    Parameters
    ----------
    code : stable, kebab-case name for machines, e.g. ``"missing-slices"``
    message : a sentence for a person: what was found and what it means
    """

    code: str
    message: str

    def __str__(self) -> str:
        return self.message


def has_finding(findings: tuple[Finding, ...], code: str) -> bool:
    """Whether one of the findings carries this code."""
    return any(finding.code == code for finding in findings)
