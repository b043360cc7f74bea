"""Images that stand for those of other people: whatever command a definition names, it runs.

A stand-in waits until it is stopped, passes its health check, and ends at once where another container
waits for its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support import images

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SCRIPT = b"""#!/bin/busybox sh
if [ -n "$*" ] && /bin/busybox grep -qxF -- "$(echo "$*" | /bin/busybox tr '\\n' ' ')" /etc/health; then
  exit 0
fi
[ -e /etc/ends ] && exit 0
trap 'exit 0' TERM INT
while :; do /bin/busybox sleep 3600 & wait $!; done
"""
_CMD, _SHELL = "CMD", "CMD-SHELL"


def build(client: Any, container: Mapping[str, Any], *, ends: bool) -> str:
    """Make the image of one container and return its reference.

    Args:
        client: a ``docker.APIClient``.
        container: its definition.
        ends: it is waited for until it has ended.
    """
    files = {
        "bin/busybox": images.BUSYBOX.read_bytes(),
        "bin/stand-in": _SCRIPT,
        "etc/health": f"{_health_arguments(container)} \n".encode(),
        "etc/passwd": _users(container),
        "etc/group": _users(container).replace(b":/:/bin/sh", b""),
    }
    if ends:
        files["etc/ends"] = b""
    links = {path.lstrip("/"): "/bin/stand-in" for path in _programs(container)}
    config = {"Entrypoint": ["/bin/stand-in"]}
    return images.build(client, "stand-in", files, links, config=config)


def waited_for(definition: Mapping[str, Any]) -> set[str]:
    """Return the containers whose end another one waits for."""
    return {
        dependency["containerName"]
        for container in definition["containerDefinitions"]
        for dependency in container.get("dependsOn", ())
        if dependency["condition"] in ("COMPLETE", "SUCCESS")
    }


def _programs(container: Mapping[str, Any]) -> Iterator[str]:
    yield "bin/sh"
    words = [container.get("entryPoint") or [""], container.get("command") or [""]]
    check = container.get("healthCheck", {}).get("command") or [_SHELL]
    if check[0] != _SHELL:
        words.append(check[1:] if check[0] == _CMD else check)
    for first in (word[0] for word in words if word and word[0]):
        if first not in ("sh", "/bin/sh") and "\0" not in first:
            yield first if first.startswith("/") else f"bin/{first.rpartition('/')[2]}"


def _health_arguments(container: Mapping[str, Any]) -> str:
    """Return what a stand-in is called with when its health is checked."""
    check = container.get("healthCheck", {}).get("command") or [_SHELL]
    if check[0] != _SHELL:
        return " ".join(check[2:] if check[0] == _CMD else check[1:])
    return " ".join(" ".join(["-c", *check[1:]]).split("\n"))


def _users(container: Mapping[str, Any]) -> bytes:
    names = [name for name in container.get("user", "").split(":") if name and not name.isdigit()]
    lines = [
        "root:x:0:0:root:/:/bin/sh",
        *(f"{n}:x:{900 + i}:{900 + i}::/:/bin/sh" for i, n in enumerate(names)),
    ]
    return "".join(f"{line}\n" for line in lines).encode()
