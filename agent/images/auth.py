"""Credentials for registries from ``ECS_ENGINE_AUTH_TYPE`` and ``ECS_ENGINE_AUTH_DATA``.

There are two formats, both JSON objects with one entry per registry (Amazon ECS agent 1.105.1,
``dockerclient/dockerauth``): ``docker`` has ``username`` and ``password``; ``dockercfg`` has
``auth``, the Base64 of ``username:password``, as ``docker login`` writes it. The key with the
longest matching path wins; Docker Hub's key is ``https://index.docker.io/v1/``. Errors never
contain the credentials.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

import msgspec

from agent.config.values import SecretText
from agent.errors import BAD_JSON, ConfigError
from agent.images.reference import DOCKER_HUB
from agent.runtime.protocol import RegistryAuth

if TYPE_CHECKING:
    from agent.images.reference import Reference

_VARIABLE = "ECS_ENGINE_AUTH_DATA"
_HUB_NAMES = frozenset({"index.docker.io", "registry-1.docker.io", DOCKER_HUB})


class Credentials:
    """User name and password for each registry path.

    Args:
        auth_type: ``docker``, ``dockercfg``, or empty for no credentials.
        auth_data: the JSON text.

    Raises:
        ConfigError: the type is unknown or the data cannot be read.
    """

    def __init__(self, auth_type: str = "", auth_data: SecretText | None = None) -> None:
        self._by_path: dict[str, RegistryAuth] = {}
        text = (auth_data or SecretText()).reveal()
        if not auth_type or not text:
            return
        if auth_type not in {"docker", "dockercfg"}:
            raise ConfigError(
                f"ECS_ENGINE_AUTH_TYPE {auth_type!r} is unknown; use docker or dockercfg"
            )
        for key, entry in _entries(text).items():
            self._by_path[_path(key)] = _auth(auth_type, key, entry)

    def find(self, reference: Reference) -> RegistryAuth | None:
        """Return the credentials for an image, or None to pull it without any."""
        path = reference.path
        while path:
            if path in self._by_path:
                return self._by_path[path]
            path = path.rpartition("/")[0]
        return None


def _entries(text: str) -> dict[str, Any]:
    try:
        entries = msgspec.json.decode(text, type=dict[str, Any])
    except BAD_JSON:
        raise ConfigError(f"{_VARIABLE} is not a JSON object of registries") from None
    # Operators often paste a whole ~/.docker/config.json; its ``auths`` has the entries.
    inner = entries.get("auths")
    return inner if isinstance(inner, dict) else entries


def _path(key: str) -> str:
    """Return a key as a path: without scheme, API version and trailing slash."""
    path = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    for version in ("/v1", "/v2"):
        path = path.removesuffix(version)
    host, slash, rest = path.partition("/")
    return f"{DOCKER_HUB if host in _HUB_NAMES else host}{slash}{rest}"


def _auth(auth_type: str, key: str, entry: Any) -> RegistryAuth:
    if not isinstance(entry, dict):
        raise ConfigError(f"{_VARIABLE}: the entry of {key!r} is not an object")
    if auth_type == "docker":
        username, password = entry.get("username"), entry.get("password")
    else:
        username, password = _decoded(key, entry.get("auth"))
    if not isinstance(username, str) or not isinstance(password, str) or not username:
        wanted = "username and password" if auth_type == "docker" else "auth"
        raise ConfigError(f"{_VARIABLE}: the entry of {key!r} lacks {wanted}")
    return RegistryAuth(username=username, password=password)


def _decoded(key: str, text: Any) -> tuple[str, str]:
    if not isinstance(text, str):
        return "", ""
    try:
        username, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeError):
        raise ConfigError(f"{_VARIABLE}: auth of {key!r} is not valid Base64 text") from None
    if not colon:
        raise ConfigError(f"{_VARIABLE}: auth of {key!r} does not contain username:password")
    # Old versions of ``docker login`` padded the text with NUL bytes.
    return username, password.rstrip("\0")
