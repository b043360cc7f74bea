"""Gathers every known secret value of this host, so that it can be removed from text.

Reads the token file, the settings files, AWS credentials files, and the environments of this
process, of the agent and its unit, and of the engine's containers. Values stay in memory. What
cannot be read is skipped; the patterns of ``redact`` still apply.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

from agent.config import SecretText, files, json_file
from agent.config.settings import variables
from agent.doctor import reading
from agent.doctor.bundle.redact import REMOVED, Redactor, is_secret_name
from agent.doctor.checks.service import UNIT
from agent.errors import BAD_JSON

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent.doctor.host import HostFacts

_CONTAINERS = 300
_CONTAINERS_LIMIT_S = 20.0
_LONG = 12
"""Values of container environments at least this long are removed, whatever their name."""
_PLAIN_NAMES = frozenset(
    {"PATH", "HOME", "HOSTNAME", "LANG", "LC_ALL", "PWD", "SHELL", "TERM", "TZ"}
)
_RUNTIME = ("PYTHON", "MALLOC_")
"""Prefixes of variables that a unit sets for the interpreter."""
_CLIPPED = 16
"""Settings messages show this many characters of a line that is not a setting."""
_LEAST = 4
_HARMLESS_KEYS = frozenset({"region", "output", "sso_region", "cli_pager", "source_profile"})
"""Names in credentials files whose values may be shown."""


async def redactor(host: HostFacts) -> Redactor:
    """Return a redactor that knows all secrets of this host that can be found."""
    known = await reading.blocking(lambda: _local(host))
    known |= await _of_agent(host)
    # Without the engine, the archive contains nothing about its containers either.
    with contextlib.suppress(OSError, TimeoutError, ValueError):
        async with asyncio.timeout(_CONTAINERS_LIMIT_S):
            await _add_containers(host, known)
    values = frozenset(known)
    return await reading.blocking(lambda: Redactor(values))


def _local(host: HostFacts) -> set[str]:
    known = set(_of_settings(host))
    if host.settings.control_token_file is not None:
        known |= of_token_file(reading.text_of(host.settings.control_token_file))
    for path in host.files:
        known |= of_settings_file(reading.text_of(path))
    if host.json_file is not None:
        known |= of_settings_json(reading.text_of(host.json_file))
    for path in _keys_files(host):
        known |= of_keys_file(reading.text_of(path))
    known |= of_environment(os.environ)
    return known


def _of_settings(host: HostFacts) -> Iterable[str]:
    for name in variables():
        value = getattr(host.settings, name)
        if isinstance(value, SecretText):
            yield from of_json(value.reveal())
        elif variables()[name].kind.holds_password:
            yield from of_url(value)


def of_token_file(text: str) -> set[str]:
    """Return possible tokens: every line except comments, as a whole and word by word."""
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    return {*lines, *(word for line in lines for word in line.split())}


def of_settings_file(text: str) -> set[str]:
    """Return the values of a settings file that must not be shown."""
    known: set[str] = set()
    for line in text.split("\n"):
        content = files.parse(line, name="")
        for given in content.values.values():
            if not may_show(given.name):
                known |= of_json(given.value) | of_url(given.value)
        if content.problems and line.strip():
            # It could be a pasted secret.
            name, _, value = line.partition("=")
            known |= {line.strip(), value.strip()} | (set() if value else {name.strip()[:_CLIPPED]})
    return {value for value in known if len(value) >= _LEAST}


def of_settings_json(text: str) -> set[str]:
    """Return the values of a JSON file of settings that must not be shown."""
    members = _members(text)
    if members is None:
        return {text.strip()} if len(text.strip()) >= _LEAST else set()
    known: set[str] = set()
    for member, value in members.items():
        if json_file.is_secret(member):
            known |= set(_leaves({member: value}, secret=True))
    return {value for value in known if len(value) >= _LEAST}


def of_keys_file(text: str) -> set[str]:
    """Return the secrets in an AWS credentials file: every value except those of harmless names."""
    pairs = (line.partition("=") for line in text.splitlines())
    found = {value.strip() for name, _, value in pairs if name.strip() not in _HARMLESS_KEYS}
    return {value for value in found if len(value) >= _LEAST}


def _keys_files(host: HostFacts) -> list[Path]:
    """Return the files that contain AWS keys: the rotating file and those of botocore."""
    home = Path("/root")
    told = [os.environ.get(name) for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE")]
    shared = [home / ".aws/credentials", home / ".aws/config", *(Path(t) for t in told if t)]
    return [host.settings.rotating_credentials_file, *shared]


def _members(text: str) -> dict[str, Any] | None:
    """Return the members of a JSON object; None for any other text."""
    try:
        value = msgspec.json.decode(text)
    except BAD_JSON:
        return None
    return value if isinstance(value, dict) else None


def may_show(name: str) -> bool:
    """Tell whether the value of the setting with this name may be shown."""
    kinds = {variable.name: variable.kind for variable in variables().values()}
    return name in kinds and not kinds[name].secret and not kinds[name].holds_password


def of_environment(environ: Mapping[str, str]) -> set[str]:
    """Return the values of variables whose names suggest secrets."""
    secret = {v.name for v in variables().values() if v.kind.secret}
    return {
        value
        for name, text in environ.items()
        if name in secret or is_secret_name(name)
        for value in of_json(text)
        if len(value) >= _LEAST
    } | {
        value
        for name, text in environ.items()
        if name.upper() in _proxies()
        for value in of_url(text)
        if len(value) >= _LEAST
    }


def _proxies() -> set[str]:
    return {v.name for v in variables().values() if v.kind.holds_password}


def of_url(text: str) -> set[str]:
    """Return the user information of a URL, and its password as written and decoded."""
    userinfo, at, _ = text.rpartition("://")[2].rpartition("@")
    if not at:
        return set()
    password = userinfo.partition(":")[2]
    return {part for part in (userinfo, password, unquote(password)) if part}


def of_json(text: str) -> set[str]:
    """Return a secret text and, if it is JSON, every secret inside."""
    known = {text}
    try:
        value = msgspec.json.decode(text)
    except BAD_JSON:
        return known
    if isinstance(value, dict | list):
        known |= set(_leaves(value))
    return known


def _leaves(value: Any, *, secret: bool = False) -> Iterable[str]:
    """Yield the secrets in registry credentials: passwords, and the base64 content of ``auth``.

    With ``secret``, every string counts as a secret.
    """
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for name, item in pairs:
        if isinstance(item, dict | list):
            yield from _leaves(item, secret=secret)
        elif isinstance(item, str) and item:
            if name == "auth":
                yield item
                yield from _decoded(item)
            elif secret or not isinstance(name, str) or is_secret_name(name):
                yield item


def _decoded(auth: str) -> Iterable[str]:
    try:
        text = base64.b64decode(auth, validate=False).decode("utf-8")
    except ValueError:
        return
    yield text
    yield text.partition(":")[2]


async def _of_agent(host: HostFacts) -> set[str]:
    """Return the secrets in the environments of the running agent and of its unit."""
    raw = await host.text(f"proc/{(await host.agent()).pid}/environ")
    known = of_environment(dict(_pairs(raw.split("\0"))))
    unit = await reading.program("systemctl", "show", "--property=Environment", "--value", UNIT)
    return known | of_environment(dict(_pairs(_words(unit.out))))


def _pairs(words: Iterable[str]) -> Iterable[tuple[str, str]]:
    for word in words:
        name, _, value = word.partition("=")
        yield name, value


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


async def _add_containers(host: HostFacts, known: set[str]) -> None:
    """Add the secrets in the environments of the engine's containers, one after the other."""
    if (await host.engine()).trouble:
        return
    raw = await reading.get(host.engine_socket, f"/containers/json?all=1&limit={_CONTAINERS}")
    for row in msgspec.json.decode(raw, type=list[dict[str, Any]]):
        try:
            body = await reading.get(host.engine_socket, f"/containers/{row['Id']}/json")
        except ValueError:
            continue  # it was removed in the meantime
        config = msgspec.json.decode(body, type=dict[str, Any]).get("Config") or {}
        known |= of_container(config.get("Env") or [])


def of_container(environment: Sequence[str]) -> set[str]:
    """Return the secrets in the ``NAME=value`` texts of a container."""
    known: set[str] = set()
    for text in environment:
        name, _, value = text.partition("=")
        if is_secret_name(name) and len(value) >= _LEAST:
            known |= of_json(value)
        elif len(value) >= _LONG and name not in _PLAIN_NAMES:
            known.add(value)
    return known


def shown_settings(text: str, *, name: str) -> str:
    """Return a settings file without the values of names that may hold a secret.

    Lines that are not settings are removed completely.
    """
    lines = []
    for number, line in enumerate(text.split("\n"), start=1):
        content = files.parse(line, name=name)
        if content.problems:
            lines.append(f"[removed: line {number} is not a setting; {len(line)} characters]")
        elif not content.values:
            lines.append(line)
        else:
            given = next(iter(content.values.values()))
            lines.append(line if may_show(given.name) else f"{given.name}=[removed]")
    return "\n".join(lines)


def shown_json(text: str) -> str:
    """Return a JSON settings file without members that may hold a secret.

    Text that is not a JSON object is removed completely.
    """
    members = _members(text)
    if members is None:
        return f"[removed: not a JSON object; {len(text)} characters]" if text.strip() else text
    shown = {
        member: REMOVED if json_file.is_secret(member) else value
        for member, value in members.items()
    }
    return msgspec.json.format(msgspec.json.encode(shown), indent=2).decode() + "\n"


def shown_unit(text: str) -> str:
    """Return the text or properties of a unit without foreign values of its environment."""
    lines = []
    for line in text.splitlines():
        left, equals, right = line.partition("Environment=")
        if not equals or left.strip():
            lines.append(line)
            continue
        shown = [
            word if may_show(name) or name.startswith(_RUNTIME) else f"{name}=[removed]"
            for word, (name, _) in zip(_words(right), _pairs(_words(right)), strict=True)
        ]
        lines.append(f"{left}Environment={' '.join(shown)}")
    return "\n".join(lines)


def file_name(path: Path) -> str:
    """Return the name of a host file inside the archive."""
    return str(path).strip("/").replace("/", "_")
