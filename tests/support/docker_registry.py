"""Debian's ``docker-registry`` on the loopback: plain, with TLS, with a password.

The engine accepts both plain HTTP and any certificate from the loopback.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import certificates

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START_LIMIT_S = 30.0
USER, PASSWORD = "shop", "canary-password"
_HTPASSWD = "shop:$2b$04$BtzW/vv4U33j6A0aBsXdK./ZU.6uY6uM7Ya6K/jzW79k4KEje9Ad."


class DockerRegistry:
    """A running registry."""

    def __init__(self, host: str) -> None:
        self.host = host

    def push(self, client: Any, image: str, name: str, *, login: bool = False) -> str:
        """Push an image of the engine under another name; return that name, with the registry."""
        repository, _, tag = name.partition(":")
        full = f"{self.host}/{repository}"
        client.tag(image, full, tag or "latest", force=True)
        auth = {"username": USER, "password": PASSWORD} if login else {}
        for line in client.push(full, tag or "latest", stream=True, decode=True, auth_config=auth):
            assert "error" not in line, line
        return f"{full}:{tag or 'latest'}"


@contextlib.contextmanager
def running(
    directory: Path, *, tls: bool = False, password: bool = False
) -> Iterator[DockerRegistry]:
    """Run one; its images are below ``directory``."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.fail(
            "this test needs docker-registry: apt-get install docker-registry", pytrace=False
        )
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        host = f"127.0.0.1:{chosen.getsockname()[1]}"
    http: dict[str, Any] = {"addr": host, "secret": "none"}
    config: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "images")}},
        "http": http,
    }
    if tls:
        made = certificates.make(directory)
        http["tls"] = {"certificate": str(made.certificate), "key": str(made.key)}
    if password:
        (directory / "htpasswd").write_text(f"{_HTPASSWD}\n")
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}}
    (directory / "registry.yml").write_text(json.dumps(config))  # JSON is YAML, too
    with (directory / "registry.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "serve", str(directory / "registry.yml")], stdout=log, stderr=log
        )
    try:
        _wait(process, host, directory)
        yield DockerRegistry(host)
    finally:
        process.terminate()
        process.wait(10)


def _wait(process: subprocess.Popen[bytes], host: str, directory: Path) -> None:
    address, port = host.split(":")
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, (directory / "registry.log").read_text()
        with contextlib.suppress(OSError), socket.create_connection((address, int(port)), 1):
            return
        time.sleep(0.05)
    raise AssertionError("docker-registry does not listen")
