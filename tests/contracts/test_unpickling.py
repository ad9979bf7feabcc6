"""Nothing is unpickled that could run code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    path for folder in ("src", "scripts", "examples", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)
UNPICKLERS = {"dill", "joblib", "pickle", "cPickle", "shelve", "cloudpickle", "marshal"}


def dotted(node: ast.expr) -> str:
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def dangerous(code: str) -> list[str]:
    """Calls that would unpickle whatever is in a file."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
        if (name in ("torch.load", "Fabric.load") or name.startswith("torch.hub.load")) and given.get(
            "weights_only"
        ) is not True:
            found.append(name)
        if name in ("np.load", "numpy.load") and given.get("allow_pickle"):
            found.append(name)
        if name.partition(".")[0] in UNPICKLERS and name.rpartition(".")[2] in ("load", "loads", "Unpickler", "open"):
            found.append(name)
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_can_run_code(module: Path) -> None:
    code = module.read_text(encoding="utf-8")
    assert dangerous(code) == []
    imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
    hidden = UNPICKLERS | {"torch.serialization"}
    imported = [
        f"{node.module}.{alias.name}"
        for node in imports
        for alias in node.names
        if node.module in hidden or (node.module == "torch" and alias.name == "load")
    ]
    assert imported == []


def test_the_test_sees_what_it_looks_for() -> None:
    assert dangerous("torch.load(path)") and dangerous("torch.load(path, weights_only=False)")
    assert dangerous("pickle.loads(data)") and dangerous("np.load(path, allow_pickle=True)")
    assert not dangerous("torch.load(path, weights_only=True); np.load(path); json.load(file)")
