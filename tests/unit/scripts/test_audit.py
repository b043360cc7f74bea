"""``scripts/audit``: what a database of vulnerabilities says, and that nothing fails for want of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).parents[3] / "scripts" / "audit"


@contextmanager
def database(status: int, answer: Any) -> Iterator[tuple[str, list[Any]]]:
    """Serve an answer; yields the URL and what was asked."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def audit(directory: Path, url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), str(directory)]
    environment = os.environ | {"AUDIT_URL": url}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "requirements.lock").write_text("a==1.0 \\\n    --hash=sha256:0\n")
    (tmp_path / "requirements-dev.lock").write_text("a==1.0\nb[x]==2.0 ; python_version > '3'\n")
    return tmp_path


def test_nothing_is_known(checkout: Path) -> None:
    with database(200, {"results": [{}, {}]}) as (url, asked):
        done = audit(checkout, url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no known vulnerability in 1 packages" in done.stdout
    named = [(one["package"]["name"], one["version"]) for one in asked[0]["queries"]]
    assert named == [("a", "1.0"), ("b", "2.0")]


def test_a_vulnerability_of_what_hosts_have_fails(checkout: Path) -> None:
    with database(200, {"results": [{"vulns": [{"id": "GHSA-1"}]}, {}]}) as (url, _):
        done = audit(checkout, url)
    assert done.returncode == 1
    assert done.stderr == "audit: a 1.0 (hosts have it): GHSA-1\n"


def test_one_of_a_tool_is_told(checkout: Path) -> None:
    with database(200, {"results": [{}, {"vulns": [{"id": "PYSEC-2"}]}]}) as (url, _):
        done = audit(checkout, url)
    assert done.returncode == 0
    assert "b 2.0 (for development alone): PYSEC-2" in done.stderr


@pytest.mark.parametrize(
    ("status", "answer"),
    [(404, {}), (500, {}), (200, {}), (200, []), (200, {"results": [1]}), (200, {"results": [{}]})],
)
def test_what_is_no_database_is_skipped_by_name(checkout: Path, status: int, answer: Any) -> None:
    with database(status, answer) as (url, _):
        done = audit(checkout, url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"audit: skipped, there is no database: {url}")


def test_no_network_is_no_failure(checkout: Path) -> None:
    done = audit(checkout, "http://127.0.0.1:1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "skipped" in done.stdout
