"""The shape of the code and the promises of the README's first screen."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted((ROOT / "src" / "napari_lungseg").rglob("*.py"))
LONGEST_FILE, LONGEST_FUNCTION = 400, 70
COMMANDS = ['pip install ".[all]" && lungseg demo', "pip install tox && tox"]


def functions(module: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(MODULES[0].parent).as_posix())
def test_a_module_is_one_thing(module: Path) -> None:
    assert len(module.read_text(encoding="utf-8").splitlines()) < LONGEST_FILE
    long = [node.name for node in functions(module) if (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION]
    assert not long


def test_no_module_is_a_drawer() -> None:
    assert len(MODULES) > 10
    assert not {"utils", "helpers", "misc", "common"} & {module.stem for module in MODULES}


def code_lines(text: str) -> list[str]:
    """Lines of the indented and fenced shell blocks, without comments."""
    return [line.split("   #")[0].strip() for line in text.splitlines()]


def test_the_readme_begins_with_the_two_commands() -> None:
    first_screen = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:30]
    commands = [line for line in code_lines("\n".join(first_screen)) if re.match(r"(pip|tox|lungseg|python) ", line)]
    assert commands == COMMANDS


def test_ci_runs_the_readmes_test_command_and_installs_nothing_else() -> None:
    lines = code_lines((ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    assert lines[-1] == COMMANDS[1]
    assert not [line for line in lines[:-1] if re.search(r"\b(pip|uv|apt|apt-get|conda)\b", line) and line[0] != "#"]


def test_the_pages_that_documents_point_to_are_there() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    targets = [
        (page, target) for page in pages for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    ]
    local = [(page, target) for page, target in targets if "://" not in target]
    assert len(local) > 5
    assert not [f"{page.name}: {target}" for page, target in local if not (page.parent / target).exists()]
