"""Weights that are not on this computer yet: asked for in the window, fetched in the background."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from qtpy.QtWidgets import QMessageBox, QWidget

from ..models.catalog import find_entry
from ..models.fetch import address, iter_fetch
from ..models.published import Offer
from ..progress import Progress


def offer_to_fetch(name: str | None) -> Offer | None:
    """What would have to be fetched before a model can run; None where it is here, or its error is to be told."""
    entry = find_entry(name) if name and Path(name).suffix != ".safetensors" else None
    return entry.offer if entry is not None and entry.model is None and not entry.problem else None


def agreed(parent: QWidget, offer: Offer) -> bool:
    """Ask whether weights may be fetched."""
    question = (
        f"The model {offer.spec.name} is not on this computer yet.\n\nFetch about {offer.megabytes} MB from "
        f"{address(offer)}?\nLicence of the weights: {offer.spec.licence}. This is done once."
    )
    yes, no = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No
    return bool(QMessageBox.question(parent, "Fetch the model?", question, yes | no, no) == yes)


def fetch_steps(name: str | None) -> Generator[Progress, None, None]:
    """Fetch what a model lacks, if anything; progress in kilobytes, which a progress bar can count."""
    offer = offer_to_fetch(name)
    if offer is None:
        return
    for step in iter_fetch(offer):
        yield Progress(step.done // 1000, step.total // 1000, f"Fetching {offer.spec.name}: {step.message}")
