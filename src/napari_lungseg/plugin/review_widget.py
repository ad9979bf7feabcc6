"""The *Cohort review* widget."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import napari.viewer
from qtpy.QtCore import QCoreApplication, Qt, QTimer
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QLineEdit, QMessageBox, QPushButton, QVBoxLayout

from ..analysis.table import Table
from ..cohort import review
from ..cohort.folder import CohortFolder
from ..cohort.review import Review
from ..cohort.rows import CASE, DOUBTED, FAILED, PREDICTED, REASON, STATE, TOLD, quality_of
from ..errors import LungSegError
from .docked import DockedWidget
from .job_box import JobBox
from .jobs import report
from .review_case import ShownCase, case_steps, kept_steps
from .review_draft import Draft
from .shortcuts import KEYS, Shortcuts
from .table_view import TableView

_VERDICT = "verdict"
_COLUMNS = ("name", _VERDICT, PREDICTED, DOUBTED, STATE, "modality", CASE)


class ReviewWidget(DockedWidget):
    """Look through the results of `lungseg cohort`, worst first: accept, correct or reject each case, by keys alone.

    Parameters
    ----------
    napari_viewer : the viewer it works on
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.folder: CohortFolder | None = None
        self.rows: list[dict[str, Any]] = []
        self.reviews: list[Review] = []
        self.number: int | None = None
        self.shown: ShownCase | None = None
        self._wanted: int | None = None
        self._typed = ""  # the notes, for when their field is gone already
        self._is_saving = False
        self._build()
        self.draft = Draft(self)
        commands: dict[str, Callable[[], object]] = {
            "accept": self.accept,
            "correct": self.correct,
            "reject": self.reject,
            "notes": self.notes.setFocus,
            "next case": self.next_case,
            "previous case": self.previous_case,
        }
        self.shortcuts = Shortcuts(self.viewer, commands)
        self._enable()
        if (application := QCoreApplication.instance()) is not None:
            application.aboutToQuit.connect(self.close_down)

    # Opening

    def ask_folder(self) -> None:
        """Ask for the folder of a cohort, and open it."""
        name = QFileDialog.getExistingDirectory(self, "Open the results of lungseg cohort")
        if name:
            self.open(Path(name))

    def open(self, path: Path) -> None:
        """Open the results of a cohort, and its first case that nobody has judged."""
        if self.box.is_running or not self._may_leave(partial(QTimer.singleShot, 0, partial(self.open, path))):
            return
        try:
            folder = CohortFolder.open(path)
        except LungSegError as error:
            report(error)
            return
        self._clear()
        self.folder, self.rows = folder, review.rows_to_review(folder)
        self.reviews = [review.read_review(folder, str(row[CASE])) for row in self.rows]
        self.table.show_table(self._table())
        if self.rows:
            drafts = (number for number, row in enumerate(self.rows) if review.has_draft(folder, str(row[CASE])))
            self._show(next(drafts, self._next_open(0)))
        self._tell_count()
        self._enable()

    def _table(self) -> Table:
        lines = [
            (str(number), said.verdict, quality_of(row), *(row.get(name) for name in _COLUMNS[3:]))
            for number, (row, said) in enumerate(zip(self.rows, self.reviews, strict=True), start=1)
        ]
        return Table(_COLUMNS, tuple(lines))

    # Going through

    def next_case(self) -> None:
        """Go to the next case."""
        self._step(1)

    def previous_case(self) -> None:
        """Go back to the case before."""
        self._step(-1)

    def _step(self, by: int) -> None:
        if self.number is not None and 0 <= self.number + by < len(self.rows):
            self.go_to(self.number + by)

    def go_to(self, number: int) -> None:
        """Show a case, unless the one that is shown is not to be left."""
        if number != self.number and not self._is_saving and self._may_leave(partial(self.go_to, number)):
            self._show(number)
        elif self.number is not None:
            self.table.mark(self.number)

    def _show(self, number: int) -> None:
        """Read a case in the background; whoever asks for another meanwhile gets that one."""
        self._clear()
        self.number = number
        self.table.mark(number)
        self.table.scrollTo(self.table.currentIndex())
        self._describe()
        if self.box.is_running:
            self._wanted = number
            self.box.cancel()
            return
        row = self.rows[number]
        # Why a scan could not be read then stands below already; it is tried all the same.
        unread = row[STATE] == FAILED and row.get("series") is None
        on_error = (lambda _: self._tell_count()) if unread else None
        self.box.start(partial(case_steps, self._folder, row), partial(self._loaded, number), on_error)

    def _loaded(self, number: int, shown: ShownCase) -> None:
        if number == self.number:
            self.shown = shown
            shown.add_to(self.viewer)
            self.draft.follow(self._folder, shown)
            self._tell_count()
            if shown.is_edited:
                self.box.tell("Changes that were not saved are shown again: save them as corrected, or press As made.")

    def _ended(self) -> None:
        """A job has begun or ended; what was asked for meanwhile is next."""
        self._is_saving = self._is_saving and self.box.is_running
        if self._wanted is not None and not self.box.is_running:
            number, self._wanted = self._wanted, None
            self._show(number)
        self._enable()

    def _clear(self) -> None:
        self.draft.leave()
        if self.shown is not None:
            self.shown.remove_from(self.viewer)
        self.shown = self.number = None

    def _next_open(self, start: int) -> int:
        """The next case without a verdict, from the beginning again after the last; where all have one, the next."""
        order = [*range(start, len(self.rows)), *range(start)]
        return next((number for number in order if not self.reviews[number].verdict), start % len(self.rows))

    # Judging

    def accept(self) -> None:
        """The labels are right as they are shown: as they were made, or as they were corrected before."""
        if self.shown is None or not self._can_judge() or not self._may_leave(self._go_on):
            return
        if not self.shown.is_original:
            self._judge(review.IS_CORRECTED)
        elif self.rows[self._number][STATE] == FAILED:
            self.box.tell("This case has no labels: paint them and save them as corrected, or reject the case.")
        else:
            self._judge(review.IS_ACCEPTED)

    def reject(self) -> None:
        """The labels cannot be used."""
        if self._can_judge() and self._may_leave(self._go_on):
            self._judge(review.IS_REJECTED)

    def correct(self) -> None:
        """Keep the labels as they were changed here."""
        if self._can_judge():
            self._save(self._go_on)

    def restore(self) -> None:
        """Show the labels again as they were made."""
        if self.shown is not None:
            self.shown.restore()

    def _can_judge(self) -> bool:
        return self.number is not None and not self.box.is_running

    def _judge(self, verdict: str) -> None:
        case = str(self.rows[self._number][CASE])
        try:
            if verdict == review.IS_ACCEPTED:
                review.discard_corrected(self._folder, case)
            review.write_review(self._folder, case, Review(verdict, self._typed))
        except LungSegError as error:
            report(error)
            return
        self._note(verdict)
        self._go_on()

    def _save(self, then: Callable[[], object]) -> None:
        """Keep corrected labels in the background, and go on."""
        if self.shown is None:
            return
        if self.shown.is_original:
            self.box.tell("The labels are as they were made. Change them first, or accept them.")
            return
        self._is_saving = True
        steps = partial(kept_steps, self._folder, self.shown, self.shown.snapshot(), self._typed)
        self.box.start(steps, partial(self._saved, self.shown, then))

    def _saved(self, shown: ShownCase, then: Callable[[], object], kept: Any) -> None:
        shown.kept = kept
        self._is_saving = False
        self._note(review.IS_CORRECTED)
        then()

    def _note(self, verdict: str) -> None:
        """Remember what is written already."""
        self.reviews[self._number] = Review(verdict, self._typed)
        self.table.change(self._number, _VERDICT, verdict)
        self._tell_count()

    def _go_on(self) -> None:
        """To the next case that nobody has judged; stays where there is none."""
        following = self._next_open(self._number + 1)
        if not self.reviews[following].verdict:
            self._show(following)
        else:
            self.box.tell(f"All {len(self.rows)} cases are reviewed.")

    def _may_leave(self, after_saving: Callable[[], object] | None = None) -> bool:
        """Whether the case that is shown can be left now. Changed labels are asked about; changed notes are kept."""
        if self.number is None:
            return True
        if self.shown is not None and self.shown.is_edited and not self.shown.is_original:
            answer = self.ask_edits()
            if answer == "save":
                self._save(after_saving or self._tell_count)
            if answer == "discard":
                self.shown.discard()
            return answer == "discard"
        return self._keep_notes()

    def _keep_notes(self) -> bool:
        said = self.reviews[self._number]
        if self._typed == said.notes:
            return True
        changed = Review(said.verdict, self._typed)
        try:
            review.write_review(self._folder, str(self.rows[self._number][CASE]), changed)
        except LungSegError as error:
            report(error)
            return False
        self.reviews[self._number] = changed
        return True

    def ask_edits(self) -> str:
        """Ask what becomes of changed labels: "save", "discard" or "cancel"."""
        buttons = QMessageBox.StandardButton
        answer = QMessageBox.question(
            self,
            "Cohort review",
            "The labels of this case were changed. Save them as corrected?",
            buttons.Save | buttons.Discard | buttons.Cancel,
            buttons.Save,
        )
        return {buttons.Save: "save", buttons.Discard: "discard"}.get(answer, "cancel")

    # Telling

    def _describe(self) -> None:
        row, said = self.rows[self._number], self.reviews[self._number]
        self.notes.setText(said.notes)
        lines = [f"<b>{self._number + 1} of {len(self.rows)}</b> · {row[CASE]} · {row.get('series') or row[STATE]}"]
        if (quality := quality_of(row)) is not None:
            lines.append(f"{'expected' if row.get(PREDICTED) is None else 'predicted'} Dice {quality:.3f}")
        lines += [str(row[REASON])] if row.get(REASON) else []
        lines += [f"• {finding['message']}" for finding in row.get(TOLD, ())]
        self.about.setText("<br>".join(lines))

    def _tell_count(self) -> None:
        judged = sum(bool(said.verdict) for said in self.reviews)
        self.box.tell(
            f"{judged} of {len(self.rows)} cases are reviewed." if self.rows else "There is nothing to review."
        )

    @property
    def _folder(self) -> CohortFolder:
        if self.folder is None:
            raise LungSegError("Open the results of a cohort first.")
        return self.folder

    @property
    def _number(self) -> int:
        if self.number is None:
            raise LungSegError("Choose a case first.")
        return self.number

    # Building

    def _build(self) -> None:
        self.box = JobBox("Open results…", self.ask_folder)
        self.box.changed.connect(self._ended)
        self.table = TableView()
        # Keys are for the viewer: a table would take letters to look for a row.
        self.table.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.table.chosen.connect(self.go_to)
        self.about = QLabel("Open the folder that <i>lungseg cohort INPUT -o FOLDER</i> has made.")
        self.about.setWordWrap(True)
        self.about.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.notes = QLineEdit()
        self.notes.setPlaceholderText("Notes")
        self.notes.setToolTip(f"{KEYS['notes']} begins, Enter ends; kept with the case")
        self.notes.textChanged.connect(self._type)
        self.notes.returnPressed.connect(self._leave_notes)
        layout = QVBoxLayout()
        for widget in (self.box, self.table, self.about, self.notes):
            layout.addWidget(widget)
        layout.addLayout(self._build_verdicts())
        layout.addLayout(self._build_steps())
        layout.addStretch()
        self.show_content(layout, 340)

    def _build_verdicts(self) -> QHBoxLayout:
        self.accept_button = _button("Accept", "accept", "The labels are right", self.accept)
        self.correct_button = _button("Save corrected", "correct", "Keep the labels as you changed them", self.correct)
        self.reject_button = _button("Reject", "reject", "Neither labels nor scan can be used", self.reject)
        return _row(self.accept_button, self.correct_button, self.reject_button)

    def _build_steps(self) -> QHBoxLayout:
        self.previous_button = _button("◀ Previous", "previous case", "The case before", self.previous_case)
        self.next_button = _button("Next ▶", "next case", "The case after", self.next_case)
        self.restore_button = _button("As made", "", "Show the labels again as they were made", self.restore)
        return _row(self.previous_button, self.restore_button, self.next_button)

    def _enable(self) -> None:
        idle, chosen = not self.box.is_running, self.number is not None
        self.box.run_button.setEnabled(idle)
        for button in (self.accept_button, self.correct_button, self.restore_button):
            button.setEnabled(idle and self.shown is not None)
        self.reject_button.setEnabled(idle and chosen)
        for widget in (self.previous_button, self.next_button):
            widget.setEnabled(chosen and not self._is_saving)
        self.notes.setEnabled(chosen and not self._is_saving)
        self.table.setVisible(bool(self.rows))

    def _type(self, text: str) -> None:
        self._typed = text

    def _leave_notes(self) -> None:
        self._keep_notes()
        self.notes.clearFocus()

    # Leaving

    def let_go(self) -> None:
        """Let go of the viewer, whose layers stay; what was changed and not saved is shown when the case is next opened."""
        self.shortcuts.remove()
        self.box.close_down()
        self.draft.close()
        if self.number is not None:
            self._keep_notes()


def _button(text: str, key: str, told: str, command: Callable[[], object]) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(f"{told} ({KEYS[key]})" if key else told)
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    button.clicked.connect(lambda: command())
    return button


def _row(*buttons: QPushButton) -> QHBoxLayout:
    row = QHBoxLayout()
    for button in buttons:
        row.addWidget(button)
    return row
