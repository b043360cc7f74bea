"""Libraries that are loaded in part; each test in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_only_named_parts_are_loaded() -> None:
    loaded = run("""
import sys
from agent.cli import lean_imports
lean_imports.begin()
lean_imports.begin()
import agent.start
print([name for name, module in sys.modules.items() if module is not None])
""")
    assert "'pyroute2.iproute.linux'" in loaded
    assert "'docker.api.client'" in loaded
    for part in ("pyroute2.ndb", "pyroute2.ipdb", "docker.models", "charset_normalizer", "rich"):
        assert f"'{part}" not in loaded
    assert "'unittest.mock'" in loaded
    for part in ("unittest.case", "difflib"):
        assert f"'{part}'" not in loaded


def test_whoever_wants_the_whole_package_gets_it() -> None:
    run("""
from agent.cli import lean_imports
lean_imports.begin()
from pyroute2.iproute.linux import AsyncIPRoute
from pyroute2 import IPRoute, NDB
import pyroute2, docker, docker.errors
assert pyroute2.AsyncIPRoute is AsyncIPRoute
assert issubclass(docker.DockerClient, object)
assert docker.errors.APIError
import io, tarfile, zipfile
with tarfile.open(mode="w", fileobj=io.BytesIO()) as archive:
    assert archive.getnames() == []
with zipfile.ZipFile(io.BytesIO(), "w") as archive:
    assert archive.namelist() == []
""")


def test_a_loaded_package_and_one_that_is_not_installed_stay_as_they_are() -> None:
    run("""
import sys, json
from agent.cli import lean_imports
before = sys.modules["json"]
lean_imports.load_lazily("json")
lean_imports.load_lazily("no_such_package")
assert sys.modules["json"] is before
assert "no_such_package" not in sys.modules
""")


def test_the_engines_client_reads_answers_without_a_detector() -> None:
    run("""
from agent.cli import lean_imports
lean_imports.begin()
import requests
answer = requests.Response()
answer._content = '{"name": "ü"}'.encode()
assert answer.json() == {"name": "ü"}
assert "ü" in answer.text
""")
