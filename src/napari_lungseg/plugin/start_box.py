"""What to start learning from: a model for such images, a model file, or an architecture from scratch."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QToolButton, QWidget

from ..errors import LungSegError
from ..models.catalog import DEFAULT_MODELS, entries, load_model
from ..training.recipe import load_recipe, recipe_files
from .jobs import report
from .run_folders import title_of

# The recipe made for learning from paint comes first.
_FIRST_RECIPE = "paint"
_WIDTH = 14


class StartBox(QWidget):
    """A list of starts, and a button for files.

    Parameters
    ----------
    parent : owner
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._modality = ""
        # Path → what it is called, and the images it is for.
        self._files: dict[str, tuple[str, str]] = {}
        self.box = QComboBox()
        self.box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.box.setMinimumContentsLength(_WIDTH)
        self.box.setToolTip(
            "A model knows such images already. Of its own classes it keeps those that are in the table (Add known class). "
            "From scratch takes longer."
        )
        pick = QToolButton()
        pick.setText("…")
        pick.setToolTip("Start from a model file (.safetensors)")
        pick.clicked.connect(self._pick)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.box, 1)
        row.addWidget(pick)
        self.show_for("")

    @property
    def start(self) -> str:
        """Name or path of the model, or name of the recipe."""
        return str(self.box.currentData() or "")

    @property
    def is_scratch(self) -> bool:
        """Whether the network begins with random weights."""
        return self.start in recipe_files()

    def choose(self, start: str) -> None:
        """Choose a start; a model file that is not listed yet is added, anything else unknown ignored."""
        if self.box.findData(start) < 0 and Path(start).suffix == ".safetensors" and Path(start).is_file():
            self.add_file(Path(start))
        index = self.box.findData(start)
        if index >= 0:
            self.box.setCurrentIndex(index)

    def add_file(self, path: Path, told: str = "", choose: bool = True) -> None:
        """Offer a model file; a file that is no model is told.

        Parameters
        ----------
        path : of the model file
        told : what it is called in the list; empty for what `title_of` says
        choose : whether to choose it, too
        """
        try:
            modality = load_model(path).spec.modality
            self._files[str(path)] = (told or title_of(path), modality)
        except LungSegError as error:
            report(error)
            return
        self._fill()
        if choose and self.box.findData(str(path)) >= 0:
            self.box.setCurrentIndex(self.box.findData(str(path)))

    def show_for(self, modality: str) -> None:
        """Offer what suits images of a modality; "" for all."""
        if modality != self._modality or not self.box.count():
            self._modality = modality
            self._fill()

    def _fill(self) -> None:
        chosen = self.start
        with QSignalBlocker(self.box):
            self.box.clear()
            for name, text in self._models():
                self.box.addItem(text, name)
            for path, (told, modality) in self._files.items():
                if self._modality in ("", modality) and Path(path).is_file():
                    self.box.addItem(told, path)
            for name in sorted(recipe_files(), key=lambda each: each != _FIRST_RECIPE):
                self.box.addItem(f"from scratch: {name}", name)
                title = load_recipe(name).title
                self.box.setItemData(self.box.count() - 1, title, Qt.ItemDataRole.ToolTipRole)
            self.box.setCurrentIndex(max(0, self.box.findData(chosen)))

    def _models(self) -> list[tuple[str, str]]:
        """Name and description of models that can be started from, the bundled one of the modality first."""
        found = []
        for entry in entries():
            if entry.model is None or entry.model.path is None:
                continue
            if self._modality and entry.spec.modality != self._modality:
                continue
            found.append((entry.spec.name, f"{entry.spec.name} ({entry.state})"))
        return sorted(found, key=lambda each: each[0] != DEFAULT_MODELS.get(self._modality))

    def _pick(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Choose a model file", "", "Models (*.safetensors)")
        if name:
            self.add_file(Path(name))
