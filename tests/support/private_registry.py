"""Debian's ``docker-registry`` with TLS and passwords, under any host name, on a host of its own.

Only below ``scripts/own-host``: it hides ``/etc/hosts`` and ``/etc/docker`` of its mount namespace.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import certificates

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import docker

PORT = 443
_START_S = 30.0


class PrivateRegistry:
    """A running registry."""

    def __init__(self, names: tuple[str, ...], users: Path) -> None:
        self.names = names
        self._users = users

    def set_passwords(self, passwords: Mapping[str, str]) -> None:
        """Let in these users and nobody else, from the next request on."""
        self._users.write_text(
            "".join(f"{user}:{_bcrypt(password)}\n" for user, password in passwords.items())
        )

    def push(self, sdk: docker.APIClient, image: str, name: str, user: str, password: str) -> None:
        """Give an image of the engine this name, push it, and remove the name again."""
        repository, _, tag = name.rpartition(":")
        sdk.tag(image, repository, tag)
        auth = {"username": user, "password": password}
        for message in sdk.push(repository, tag, auth_config=auth, stream=True, decode=True):
            assert "error" not in message, message
        sdk.remove_image(name)


@contextlib.contextmanager
def private_registry(directory: Path, *names: str) -> Iterator[PrivateRegistry]:
    """Run a registry on port 443 of the loopback, under these host names."""
    if "OWN_HOST" not in os.environ:
        pytest.fail("this test hides /etc/hosts: run it with scripts/own-host", pytrace=False)
    program = shutil.which("docker-registry")
    if program is None:
        pytest.fail("docker-registry is missing: run 'make tools'", pytrace=False)
    made = certificates.make(
        directory / "tls", names=",".join([f"DNS:{name}" for name in names] + ["IP:127.0.0.1"])
    )
    users = directory / "htpasswd"
    users.write_text("")
    config = directory / "registry.yml"
    config.write_text(
        f"""version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {directory / "images"}}}}}
http: {{addr: '127.0.0.1:{PORT}', tls: {{certificate: {made.certificate}, key: {made.key}}}}}
auth: {{htpasswd: {{realm: test, path: {users}}}}}
"""
    )
    with _hidden(directory, names, made.ca):
        with (directory / "registry.log").open("wb") as log:
            process = subprocess.Popen(
                [program, "serve", str(config)], stdout=log, stderr=subprocess.STDOUT
            )
        try:
            _wait(process, directory / "registry.log")
            yield PrivateRegistry(names, users)
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _hidden(directory: Path, names: tuple[str, ...], authority: Path) -> Iterator[None]:
    """Have this mount namespace, the engine's too, know the names and trust the authority."""
    hosts = directory / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {' '.join(names)}\n")
    trusted = directory / "etc-docker"
    for name in names:
        folder = trusted / "certs.d" / name
        folder.mkdir(parents=True)
        shutil.copy(authority, folder / "ca.crt")
    Path("/etc/docker").mkdir(exist_ok=True)
    mounts = ((hosts, "/etc/hosts"), (trusted, "/etc/docker"))
    for source, target in mounts:
        subprocess.run(["mount", "--bind", source, target], check=True)
    try:
        yield
    finally:
        for _, target in mounts:
            subprocess.run(["umount", target], check=True)


def _wait(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", PORT), 1):
            return
        assert time.monotonic() < deadline, "the registry does not listen"
        time.sleep(0.02)


def _bcrypt(password: str) -> str:
    """Return the only kind of hash that the registry takes, by the C library through Perl."""
    script = "print crypt($ENV{PASSWORD}, '$2y$05$' . 'abcdefghijklmnopqrstuu')"
    done = subprocess.run(
        ["perl", "-e", script],
        env={"PASSWORD": password},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout
