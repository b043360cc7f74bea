"""The page as control serves it: its files, their headers, and that it loads nothing from elsewhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from agent.controlplane.console import files
from agent.controlplane.console.admission import Console
from tests.support.control_endpoint import control_endpoint

if TYPE_CHECKING:
    from pathlib import Path

SCRIPTS = sorted(files.FOLDER.glob("*.js"))


async def test_every_file_comes_with_a_policy_and_a_validator(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path, console=Console.KEYS) as endpoint:
        names = [path.name for path in files.FOLDER.iterdir() if path.is_file()]
        assert "index.html" in names
        for name in ["", *names, files.SETTINGS]:
            url = f"{endpoint.url}/console/{name}"
            async with endpoint.session.get(url) as answer:
                assert answer.status == 200, name
                assert answer.headers["Content-Security-Policy"] == files.POLICY
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Cache-Control"] == "no-cache"
                body, tag = await answer.read(), answer.headers["ETag"]
            if name and name != files.SETTINGS:
                assert body == (files.FOLDER / name).read_bytes()
            async with endpoint.session.get(url, headers={"If-None-Match": tag}) as answer:
                assert (answer.status, await answer.read()) == (304, b"")
                assert answer.headers["ETag"] == tag
            async with endpoint.session.get(url, headers={"If-None-Match": '"another"'}) as answer:
                assert answer.status == 200
        async with endpoint.session.get(f"{endpoint.url}/console") as answer:
            assert answer.status == 200
            assert str(answer.url) == f"{endpoint.url}/console/"


@pytest.mark.parametrize(
    "path", ["x.js", "../files.py", "%2e%2e/files.py", "..%2ffiles.py", "page/app.js", "app.js/"]
)
async def test_nothing_else_is_a_file(tmp_path: Path, path: str) -> None:
    async with (
        control_endpoint(tmp_path, console=Console.KEYS) as endpoint,
        endpoint.session.get(f"{endpoint.url}/console/{path}") as answer,
    ):
        assert answer.status == 404


async def test_there_is_no_console_unless_it_is_on(tmp_path: Path) -> None:
    async with (
        control_endpoint(tmp_path) as endpoint,
        endpoint.session.get(f"{endpoint.url}/console/") as answer,
    ):
        assert answer.status == 404


@pytest.mark.parametrize(
    ("console", "has_keys", "sign_in"),
    [
        (Console.KEYS, True, "needed"),
        (Console.READ_ONLY, True, "optional"),
        (Console.KEYS, False, "never"),
        (Console.READ_ONLY, False, "never"),
    ],
)
async def test_the_page_is_told_whether_to_sign_in(
    tmp_path: Path, console: Console, has_keys: bool, sign_in: str
) -> None:
    keys = tmp_path / "credentials" if has_keys else None
    async with (
        control_endpoint(tmp_path, console=console, keys_file=keys) as endpoint,
        endpoint.session.get(f"{endpoint.url}/console/settings.json") as answer,
    ):
        assert await answer.json() == {"region": "us-east-1", "signIn": sign_in}


def test_a_policy_without_exceptions() -> None:
    assert "default-src 'none'" in files.POLICY
    assert "unsafe" not in files.POLICY
    assert "*" not in files.POLICY
    assert "http" not in files.POLICY


def test_the_page_has_no_script_and_no_style_in_itself_and_loads_nothing_from_elsewhere() -> None:
    page = (files.FOLDER / "index.html").read_text()
    assert re.findall(r"<script[^>]*>[^<]", page) == []
    assert re.findall(r"\son\w+=|\sstyle=|<style", page) == []
    assert re.findall(r"(?:src|href)=\"(?!#|[a-z.]+\")", page) == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_write_texts_and_never_markup(script: Path) -> None:
    code = script.read_text()
    found = re.findall(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser",
        code,
    )
    assert found == []
    assert len(code.splitlines()) <= 400
    for imported in re.findall(r"from \"(.+)\"", code):
        assert (script.parent / imported).is_file(), imported
