"""Holds the arrows of docs/architecture.md: read from its table, checked against every import."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
PACKAGE = ROOT / "agent"
ONLY_FOR_COLLECTORS = ("agent.otlp",)
ONLY_FOR_NAMES = ("agent.dns",)
ONLY_FOR_COMMANDS = ("agent.endpoints.exec_channel", "agent.upstream.longpoll.commands")
ONLY_FOR_AMAZON_ECS = ("agent.aws", "agent.upstream.amazon", "botocore")
TOO_HEAVY_OF_BOTOCORE = ("botocore.session", "botocore.client", "botocore.loaders")
FORBIDDEN_IN_THE_AGENT = ("click", "rich", "boto3", "agent.controlplane", "agent.cli.app")
_NOTHING = "nothing of ours"
_INHERITS = "and what those may"


def _table() -> dict[str, str]:
    """Return the right column of the arrows table by each room of the left one."""
    rooms = PAGE.read_text().partition("### Packages of ")[0]
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \| (.+) \|$", rooms, flags=re.MULTILINE)
    return {room: may for left, may in rows for room in re.findall(r"`([a-z_]+)`", left)}


def _rooms() -> set[str]:
    """Return every room that exists: packages and modules below ``agent``."""
    names = {path.stem if path.is_file() else path.name for path in PACKAGE.iterdir()}
    return {n for n in names if not n.startswith("__")}


def _allowed(room: str, table: dict[str, str]) -> set[str]:
    """Return the prefixes below ``agent.`` that a room may import, itself included."""
    may = table[room].partition(";")[0].partition("(never")[0]
    if may == _NOTHING:
        return {room}
    if may.startswith("everything but"):
        return set(table) - set(re.findall(r"`([a-z_.]+)`", may))
    named = set(re.findall(r"`([a-z_.]+)`", may))
    if _INHERITS in may:
        for other in [name for name in named if "." not in name]:
            named |= _allowed(other, table)
        # runtime.protocol stands for what it may import, not for the rest of runtime.
        named |= {"config", "errors", "model"}
    return named | {room}


def _imports(path: Path) -> list[tuple[int, str]]:
    """Return line and full name of everything of ours that a module imports, anywhere in it."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write imports in full"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return [(line, name) for line, name in found if name.split(".")[0] == "agent"]


def _is_allowed(name: str, allowed: set[str]) -> bool:
    below = name.removeprefix("agent.")
    if below == "__version__":
        return True
    return any(below == prefix or below.startswith(f"{prefix}.") for prefix in allowed)


def test_the_table_names_every_room() -> None:
    assert _rooms() <= set(_table())


@pytest.mark.parametrize("room", sorted(_rooms()))
def test_a_room_imports_only_what_the_table_allows(room: str) -> None:
    allowed = _allowed(room, _table())
    place = PACKAGE / room
    modules = place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules
        for line, name in _imports(path)
        if not _is_allowed(name, allowed)
    ]
    assert not wrong, "\n".join(wrong)


def _packages(room: str) -> tuple[set[str], dict[str, set[str]]]:
    """Return what all of a room may import, and what each package or module in it may besides."""
    page = PAGE.read_text()
    _, found, rest = page.partition(f"| in `{room}` | may import |\n")
    assert found, f"{PAGE.name} has no table of the packages of {room}"
    shared = re.search(rf"Shared by all of `{room}`: ([^.]+(?:\.[a-z_]+[^.]*)*)\.\s", page)
    assert shared is not None
    rows = rest.partition("\n\n")[0].splitlines()[1:]
    cells = [row.strip("| ").split(" | ") for row in rows]
    names = {name for left, _ in cells for name in re.findall(r"`([a-z_]+)`", left)}
    table = {
        name: names if may == "all of them" else set(re.findall(r"`([a-z_.]+)`", may))
        for left, may in cells
        for name in re.findall(r"`([a-z_]+)`", left)
    }
    return set(re.findall(r"`([a-z_.]+)`", shared[1])), table


def _within_room(room: str) -> dict[str, list[tuple[Path, int, str]]]:
    """Return the imports of each package or module of a room from the rest of that room."""
    found: dict[str, list[tuple[Path, int, str]]] = {}
    for path in (PACKAGE / room).rglob("*.py"):
        package = path.relative_to(PACKAGE / room).parts[0].removesuffix(".py")
        rows = found.setdefault(package, [])
        for line, name in _imports(path):
            below = name.removeprefix(f"agent.{room}.")
            if below not in (name, package) and not below.startswith(f"{package}."):
                rows.append((path, line, below))
    return found


@pytest.mark.parametrize("room", ["controlplane", "network"])
def test_a_package_imports_only_what_the_table_of_its_room_allows(room: str) -> None:
    shared, table = _packages(room)
    imports = _within_room(room)
    assert set(imports) - {"__init__"} <= set(table) | shared, "the table lacks a package"
    assert set(table) | {name for name in shared if "." not in name} <= set(imports)
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {below}"
        for package, rows in imports.items()
        for path, line, below in rows
        if not any(
            below == name or below.startswith(f"{name}.")
            for name in shared | table.get(package, set())
        )
    ]
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_by_way_of_others() -> None:
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }
    graph = {name: _at_import(path, set(modules)) for name, path in modules.items()}
    circles = [name for name in graph if name in _reached(graph, name)]
    assert not circles


def _at_import(path: Path, modules: set[str]) -> set[str]:
    """Return the modules that are imported with one: not for types alone, not in functions."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(), filename=str(path)).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            whole = (f"{node.module}.{alias.name}" for alias in node.names)
            names |= {name if name in modules else node.module for name in whole}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names & modules


def _reached(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    left = [start]
    while left:
        for name in graph[left.pop()] - seen:
            seen.add(name)
            left.append(name)
    return seen


def _loaded_by(statements: str) -> set[str]:
    """Return the modules of a fresh interpreter after it ran these statements."""
    script = f"""
import json, sys
{statements}
print(json.dumps([name for name, module in sys.modules.items() if module is not None]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def _within(modules: set[str], prefixes: tuple[str, ...]) -> list[str]:
    return sorted(m for m in modules if any(m == p or m.startswith(f"{p}.") for p in prefixes))


def test_the_agent_process_loads_nothing_made_for_people_or_control() -> None:
    loaded = _loaded_by(
        "from agent.cli import lean_imports; lean_imports.begin(); import agent.start"
    )
    assert not _within(loaded, FORBIDDEN_IN_THE_AGENT)


def test_an_agent_of_our_own_control_loads_nothing_of_aws() -> None:
    loaded = _loaded_by(
        "from agent.cli import lean_imports; lean_imports.begin(); import agent.start"
    )
    assert not _within(loaded, ONLY_FOR_AMAZON_ECS)
    assert not _within(loaded, ONLY_FOR_COLLECTORS)
    assert not _within(loaded, ONLY_FOR_NAMES)
    assert not _within(loaded, ONLY_FOR_COMMANDS)


def test_an_agent_of_amazon_ecs_loads_only_the_signing_half_of_botocore() -> None:
    backend = "from agent.cli import lean_imports; lean_imports.begin(); import agent.start, agent.upstream.amazon.backend"
    loaded = _loaded_by(backend)
    assert not _within(loaded, (*FORBIDDEN_IN_THE_AGENT, *TOO_HEAVY_OF_BOTOCORE))
    assert "botocore.auth" in loaded


def test_the_agent_process_reads_no_service_model() -> None:
    opened = _loaded_by("""
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
from agent.cli import lean_imports; lean_imports.begin()
import agent.start, agent.upstream.amazon.backend
data = [path for path in opened if "/botocore/data/" in path]
assert not data, data
""")
    assert "agent.daemon" in opened


def test_the_command_for_people_is_quick_to_start() -> None:
    loaded = _loaded_by("import agent.cli, agent.cli.app, agent.cli.inspect, agent.cli.render")
    assert not _within(loaded, ("rich", "aiohttp", "docker", "agent.daemon", "agent.controlplane"))
