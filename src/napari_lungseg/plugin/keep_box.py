"""The third part of *Train on painted labels*: using the model, saving it, and saving the work."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any, Literal

from napari.utils.notifications import show_info
from qtpy.QtCore import Signal  # type: ignore[attr-defined]
from qtpy.QtWidgets import QFileDialog, QGridLayout, QGroupBox, QMessageBox, QPushButton, QWidget

from ..progress import Progress
from ..training.rounds import Round
from .jobs import Job
from .warm import load_torch

_SUFFIX = ".safetensors"


class KeepBox(QGroupBox):
    """Buttons for what was learned and painted.

    Signals
    -------
    save_wanted, open_wanted : (`Path`) folder of work to save or open

    Parameters
    ----------
    viewer : napari viewer or viewer model
    parent : owner
    """

    save_wanted = Signal(object)
    open_wanted = Signal(object)

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__("3  Keep", parent)
        self._viewer = viewer
        self.model: Path | None = None
        self.best: Round | None = None
        self.is_training = False
        self.folder: Path | None = None
        """Where the work was last saved, or opened from."""
        layout = QGridLayout(self)
        self.use_button = _button("Use this model", "Choose it in Segment lungs", self.use)
        self.save_model_button = _button(
            "Save model …", "Save it as one file, under a name of yours", self.ask_and_save
        )
        told = "Save the painted layers, classes, complete slices and the model in a folder, to go on another day"
        self.save_button = _button("Save work …", told, self._ask_to_save_work)
        self.open_button = _button("Open work …", "Open a folder that Save work made", self._ask_to_open_work)
        for place, button in enumerate((self.use_button, self.save_model_button, self.save_button, self.open_button)):
            layout.addWidget(button, *divmod(place, 2))
        self.show_model(None, None)

    def show_model(self, model: Path | None, best: Round | None) -> None:
        """Offer a model file.

        Parameters
        ----------
        model : the best so far, or None while there is none
        best : the figures of the round that it comes from
        """
        self.model, self.best = model, best
        for button in (self.use_button, self.save_model_button):
            button.setEnabled(model is not None)

    def use(self) -> None:
        """Hand the model to the *Segment lungs* widget, which is opened where it is not."""
        window = getattr(self._viewer, "window", None)
        if self.model is None or window is None or not self._is_wanted():
            return
        dock, widget = window.add_plugin_dock_widget("napari-lungseg", "Segment lungs", tabify=True)
        widget.add_model(self.model)
        dock.show()
        dock.raise_()
        show_info(self._taken())

    def ask_and_save(self) -> None:
        """Ask for a file name and save the model there."""
        if self.model is None or not self._is_wanted():
            return
        name, _ = QFileDialog.getSaveFileName(self, "Save the model", f"painted{_SUFFIX}", f"Models (*{_SUFFIX})")
        if name:
            self.save_model(Path(name))

    def save_model(self, target: Path) -> None:
        """Save the model under the name of a file."""
        source = self.model
        if source is None:
            return
        target = target if target.suffix == _SUFFIX else target.with_name(f"{target.name}{_SUFFIX}")
        Job(lambda: _copy_steps(source, target), on_result=lambda path: show_info(f"Saved {path.name}."))

    def _taken(self) -> str:
        """Which round it is that Segment lungs has now."""
        which = "the model" if self.best is None else f"round {self.best.number}"
        if self.is_training:
            return f"Segment lungs uses {which} now. As training goes on, it uses what is kept by the time you press Segment."
        return f"Segment lungs uses {which}."

    def _is_wanted(self) -> bool:
        """Whether the model is wanted although nothing that was learned is better than the start."""
        if self.best is None or self.best.number > 0:
            return True
        return agreed(
            self,
            "No round was better on the held-out paint than the network before it learned anything. What is kept is "
            "therefore the start, as it was. Train longer or paint more.\n\nTake it all the same?",
        )

    def _ask_to_save_work(self) -> None:
        folder: Path | Literal["cancel"] | None = None
        if self.folder is not None and self.folder.is_dir():
            # A dialog for file names would enter a folder that is there, and never return it.
            folder = ask_where_to_save(self, self.folder)
        if folder is None:
            name, _ = QFileDialog.getSaveFileName(self, "Folder to save the work in", "painted-work")
            folder = Path(name) if name else None
        if isinstance(folder, Path):
            self.folder = folder
            self.save_wanted.emit(folder)

    def _ask_to_open_work(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Folder of saved work")
        if name:
            self.open_wanted.emit(Path(name))


def agreed(parent: QWidget, question: str) -> bool:
    """Ask a question that is answered by Yes or No."""
    yes, no = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No
    return bool(QMessageBox.question(parent, "Train on painted labels", question, yes | no, no) == yes)


def ask_where_to_save(parent: QWidget, last: Path) -> Path | Literal["cancel"] | None:
    """Ask whether to save where it was saved last; None for elsewhere."""
    box = QMessageBox(QMessageBox.Icon.Question, "Save work", f"Save into {last.name} again?", parent=parent)
    again = box.addButton(f"Save into {last.name}", QMessageBox.ButtonRole.AcceptRole)
    elsewhere = box.addButton("Another folder …", QMessageBox.ButtonRole.ActionRole)
    box.addButton(QMessageBox.StandardButton.Cancel)
    box.exec()
    return last if box.clickedButton() is again else None if box.clickedButton() is elsewhere else "cancel"


def ask_for_image(parent: QWidget, question: str) -> Path | Literal["leave out", "cancel"]:
    """Ask where an image is."""
    box = QMessageBox(QMessageBox.Icon.Question, "Open work", question, parent=parent)
    file = box.addButton("Choose a file …", QMessageBox.ButtonRole.AcceptRole)
    folder = box.addButton("Choose a folder …", QMessageBox.ButtonRole.AcceptRole)
    without = box.addButton("Leave it out", QMessageBox.ButtonRole.DestructiveRole)
    box.addButton(QMessageBox.StandardButton.Cancel)
    while True:
        box.exec()
        clicked = box.clickedButton()
        if clicked is without:
            return "leave out"
        if clicked is file:
            name, _ = QFileDialog.getOpenFileName(parent, question)
        elif clicked is folder:
            name = QFileDialog.getExistingDirectory(parent, question)
        else:
            return "cancel"
        if name:
            return Path(name)


def _copy_steps(source: Path, target: Path) -> Generator[Progress, None, Path]:
    yield Progress(0, 1, "Saving the model …")
    load_torch()
    from ..models.library import save_copy

    return save_copy(source, target)


def _button(text: str, told: str, command: Any) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(told)
    button.clicked.connect(lambda: command())
    return button
