"""Reads the file of ``ECS_HOST_POLICY_FILE``: TOML, with one key for each rule of ``host_policy``.

Reads one file, and looks at who may change it; no other I/O. Whatever is odd is an error: a policy that
is half understood would refuse less than its author meant. The parser is loaded only where there is such
a file.

Tests: ``tests/unit/config/test_host_policy_file.py``.
"""

from __future__ import annotations

import dataclasses
import os
import posixpath
import re
import stat
from typing import TYPE_CHECKING, Any, Final

from agent.config.host_policy import (
    ANY,
    BELOW,
    DEFAULT_BASE,
    HOST_POLICY_BASES,
    NAMESPACES,
    PROPAGATIONS,
    SIZES,
    HostPath,
    HostPolicy,
    rules,
)
from agent.config.image_names import is_registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MOST_BYTES: Final = 256 * 1024
_OTHERS_MAY_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_IMAGE: Final = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*(?:/\*)?"
)
_CAPABILITY: Final = re.compile(r"(?:CAP_)?([A-Z][A-Z_]*)")


def read(path: Path) -> HostPolicy:
    """Return the policy of a file. Blocks.

    Raises:
        ValueError: the file cannot be read, others may write to it, or it is not a policy; one line per
            problem, each with the fix.
    """
    try:
        with open(path, "rb", opener=_opened) as file:
            _check_owner(path, os.fstat(file.fileno()))
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); fix the file") from None
    if len(raw) > MOST_BYTES:
        raise ValueError(f"{path}: is larger than {MOST_BYTES // 1024} KiB; check the path")
    _check_folders(path)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8") from None
    return parse(text, source=str(path))


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # does not wait for the writer of a named pipe


def _check_owner(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path}: is not a regular file; name a file")
    if found.st_uid not in (0, os.geteuid()):
        raise ValueError(
            f"{path}: belongs to user {found.st_uid}, who could change it; chown root {path}"
        )
    if found.st_mode & _OTHERS_MAY_WRITE:
        raise ValueError(f"{path}: other users can write to it; chmod go-w {path}")


def _check_folders(path: Path) -> None:
    """Refuse a file that others can replace, because they can write to a directory that it is in."""
    for folder in path.absolute().parents:
        try:
            found = folder.stat()
        except OSError as error:
            raise ValueError(f"{folder}: cannot be read ({error.strerror}); fix it") from None
        is_open = found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX
        if is_open or found.st_uid not in (0, os.geteuid()):
            raise ValueError(
                f"{path}: other users can replace it, because they can write to {folder}; "
                "move it to a directory of root, such as /etc/ecs"
            )


def parse(text: str, *, source: str) -> HostPolicy:
    """Return the policy in a text; ``source`` begins every problem, and every refusal later.

    Raises:
        ValueError: one line per problem.
    """
    import tomllib  # noqa: PLC0415 - most hosts have no policy

    try:
        given = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{source}: is not TOML: {error}; fix the file") from None
    problems: list[str] = []
    base = given.pop("base", DEFAULT_BASE)
    if not isinstance(base, str) or base not in HOST_POLICY_BASES:
        known = ", ".join(HOST_POLICY_BASES)
        problems.append(f"{source}: base: {str(base)[:40]!r} is unknown; write one of {known}")
        base = DEFAULT_BASE
    table, chosen = rules(), {}
    for key, value in given.items():
        if key not in table:
            problems.append(f"{source}: {key[:60]!r} is not a rule; {_near(key, list(table))}")
            continue
        try:
            chosen[key] = _KINDS[table[key]["kind"]](value)
        except ValueError as error:
            problems.append(f"{source}: {key}: {error}")
    if problems:
        raise ValueError("\n".join(problems))
    return dataclasses.replace(HOST_POLICY_BASES[base], source=source, **chosen)


def _near(key: str, known: list[str]) -> str:
    import difflib  # noqa: PLC0415 - only for a mistake

    found = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {found[0]}?" if found else "see docs/host-policy.md for the rules"


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is not true or false; write one of these, without quotes")  # noqa: TRY004
    return value


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise ValueError('is not a list of texts; write for example ["a", "b"]')
    for each in value:
        if ANY in each[:-1] or each != each.strip():
            raise ValueError(f"{each!r} has a * that is not at its end, or spaces; remove them")
    return tuple(value)


def _of(known: tuple[str, ...]) -> Callable[[Any], tuple[str, ...]]:
    def parsed(value: Any) -> tuple[str, ...]:
        names = _names(value)
        for each in names:
            if each not in known:
                raise ValueError(f"{each!r} is unknown; write names of {', '.join(known)}")
        return names

    return parsed


def _capabilities(value: Any) -> tuple[str, ...]:
    names = []
    for each in _names(value):
        found = _CAPABILITY.fullmatch(each.upper())
        if each != ANY and found is None:
            raise ValueError(f"{each!r} is not a capability; write for example NET_ADMIN")
        names.append(found[1] if found is not None else ANY)
    return tuple(names)


def _path(text: str) -> str:
    if not text.startswith("/") or "\0" in text or ".." in text.split("/"):
        raise ValueError(f"{text!r} is not an absolute path without '..'; write the whole path")
    if ANY in text or ":" in text:
        raise ValueError(f"{text!r} has a '*' or ':' in it; write a path, or a path and /**")
    return "/" + posixpath.normpath(text).lstrip("/")


def _real(path: str) -> str:
    found = os.path.realpath(path)
    if found != path:
        raise ValueError(f"{path!r} leads to {found} by a symbolic link; write {found}")
    return path


def _host_paths(value: Any) -> tuple[HostPath, ...]:
    entries = []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError(
            'is not a list of paths; write for example ["/srv/www:ro", "/srv/data/**"]'
        )
    for each in value:
        text, read_only = each.removesuffix(":ro"), each.endswith(":ro")
        below = text.endswith(BELOW)
        path = _real(_path(text.removesuffix(BELOW) or "/"))
        entries.append(HostPath(path, below=below, read_only=read_only))
    return tuple(entries)


def _paths(value: Any) -> tuple[str, ...]:
    """Return paths, and where they lead: what is forbidden is forbidden by both names."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError('is not a list of paths; write for example ["/srv/secrets"]')
    named = [_path(each) for each in value]
    return tuple(dict.fromkeys([*named, *(os.path.realpath(path) for path in named)]))


def _images(value: Any) -> tuple[str, ...]:
    names = _names(value)
    for each in names:
        if each != ANY and not _IMAGE.fullmatch(each):
            raise ValueError(
                f"{each!r} is not a registry or repository; write it without tag and https://, such as "
                "registry.example:5000/team/*"
            )
        if "/" not in each and is_registry(each):
            raise ValueError(f"{each!r} is a registry without a repository; write {each}/*")
    return names


def _digests(value: Any) -> tuple[str, ...]:
    names = _names(value)
    for each in names:
        if each != ANY and not _DIGEST.fullmatch(each):
            raise ValueError(f"{each!r} is not a digest; write sha256: and 64 digits in lower case")
    return names


def _numbers(known: tuple[str, ...], least: int) -> Callable[[Any], tuple[tuple[str, int], ...]]:
    def parsed(value: Any) -> tuple[tuple[str, int], ...]:
        if not isinstance(value, dict):
            raise ValueError("is not a table; write it in a section of its own")  # noqa: TRY004
        for name, number in value.items():
            if known and name not in known:
                raise ValueError(f"{name!r} is unknown; write one of {', '.join(known)}")
            if not isinstance(number, int) or isinstance(number, bool) or number < least:
                raise ValueError(f"{name} is not a number from {least}; write digits only")
        return tuple(sorted(value.items()))

    return parsed


_KINDS: Final[dict[str, Callable[[Any], Any]]] = {
    "bool": _bool,
    "names": _names,
    "namespaces": _of(NAMESPACES),
    "propagations": _of(PROPAGATIONS),
    "capabilities": _capabilities,
    "host_paths": _host_paths,
    "paths": _paths,
    "images": _images,
    "digests": _digests,
    "sizes": _numbers(SIZES, 1),
    "ulimits": _numbers((), 0),
}
