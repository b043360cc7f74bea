"""The test back end was written from the wire alone and shares no code with what it tests."""

import ast
from pathlib import Path

import pytest

BACKEND = Path(__file__).parents[2] / "backend"
MODULES = sorted(BACKEND.glob("**/*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.name)
def test_imports_nothing_of_the_agent(path: Path) -> None:
    named: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative import"
            named.add(node.module or "")
    ours = {n for n in named if n.split(".")[0] == "agent"}
    # Other test support may use the agent's code: nothing of it either.
    ours |= {n for n in named if n.startswith("tests") and not n.startswith("tests.backend")}
    assert not ours


def test_there_is_something_to_look_at() -> None:
    assert len(MODULES) > 10
