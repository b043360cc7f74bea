"""Decides what `join` writes, from its options and the settings of the host. Only reads files.

A plan contains the token; its other parts are safe to show.

Tests: ``tests/unit/cli/test_join.py``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.cli import config_edit
from agent.cli.client import CliError
from agent.config import DEFAULT_FILES, addresses, json_file_of, load, values
from agent.config import files as config_files
from agent.errors import ConfigError, ExitCode
from agent.model import ids, tokens
from agent.upstream import credentials

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.config import Settings
    from agent.model.views import AgentView

TOKEN_FILE: Final = "control.token"  # noqa: S105 - a file's name
CA_FILE: Final = "control-ca.pem"
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
_CA_MAX_BYTES: Final = 1024 * 1024
"""Larger than a bundle of all public CAs."""


class JoinRequest(NamedTuple):
    """The options of the command line, parsed and checked."""

    url: str
    config: Path
    token: str
    """Empty if none was given."""
    cluster: str
    ca_file: Path | None
    attributes: dict[str, str]
    authority: bytes = b""
    """Of control, as the text of a CA file; empty if it is not trusted by its fingerprint."""


class FileChange(NamedTuple):
    """One file as it should be."""

    path: Path
    data: bytes
    mode: int
    is_new: bool
    """The file is missing, or has other content or another mode."""


class JoinPlan(NamedTuple):
    """Everything that `join` does to files, and the resulting settings."""

    files: list[FileChange]
    """In the order of writing: the configuration last, because it refers to the others."""
    difference: str
    """The changed lines of the configuration; empty if there are none."""
    settings: Settings
    token: str
    ca_file: Path | None
    """Where the CA certificate can be read now."""
    authority: bytes = b""
    """What will be in that file, if it is not there yet."""

    @property
    def cluster(self) -> str:
        """Short name of the cluster that the host will join."""
        return ids.cluster_name(self.settings.cluster)

    @property
    def changes(self) -> list[FileChange]:
        """Files that need to be written."""
        return [file for file in self.files if file.is_new]


def plan(asked: JoinRequest) -> JoinPlan:
    """Return what to write, checked as a whole, so that the agent will accept it.

    A token or CA certificate that is configured for another URL is never reused for this one.

    Raises:
        CliError: a file cannot be read, or a value cannot be used.
        ConfigError: the resulting configuration would be invalid; the line numbers are those of the
            file. Or the host is set up for Amazon ECS, which only its operator may undo.
    """
    text = config_files.text_of(asked.config) or ""
    before = _lenient(asked.config)
    if before is not None and (names := _of_amazon(before)):
        raise ConfigError(
            f"this host is set up for Amazon ECS by {' and '.join(names)}; remove that from its "
            f"settings to join {asked.url}"
        )
    same = before is not None and before.control_endpoint == asked.url
    had_token = before.control_token_file if before is not None and same else None
    had_ca = before.control_ca_file if before is not None and same else None

    written: dict[str, str | None] = {"ECS_CONTROL_ENDPOINT": asked.url}
    files: list[FileChange] = []
    token_file, token = had_token, asked.token
    if asked.token:
        token_file = asked.config.parent / TOKEN_FILE
        files.append(_change(token_file, f"{asked.token}\n".encode(), mode=0o600))
    elif had_token is not None:
        token = _token_in(had_token)
    ca_file = had_ca
    if asked.ca_file is not None:
        # Copy it: the service may not be able to read the original, or it may be removed later.
        ca_file = asked.config.parent / CA_FILE
        files.append(_change(ca_file, _authority_in(asked.ca_file), mode=0o644))
    elif asked.authority:
        ca_file = asked.config.parent / CA_FILE
        files.append(_change(ca_file, asked.authority, mode=0o644))
    written["ECS_CONTROL_TOKEN_FILE"] = None if token_file is None else str(token_file)
    written["ECS_CONTROL_CA_FILE"] = None if ca_file is None else str(ca_file)
    if asked.cluster:
        written["ECS_CLUSTER"] = asked.cluster
    if asked.attributes:
        had = before.instance_attributes if before is not None else {}
        written["ECS_INSTANCE_ATTRIBUTES"] = json.dumps(had | asked.attributes)
    new = config_edit.edited(text, written)
    mode = _mode_of(asked.config, 0o600)
    files.append(_change(asked.config, new.encode(), mode=mode))
    return JoinPlan(
        files=files,
        difference=config_edit.difference(text, new, str(asked.config)),
        settings=checked(asked.config, new),
        token=token,
        ca_file=asked.ca_file or ca_file,
        authority=asked.authority,
    )


def _of_amazon(settings: Settings) -> list[str]:
    """Return the names of settings that select Amazon ECS as control."""
    chosen = {"ECS_EXTERNAL": settings.external, "ECS_BACKEND_HOST": settings.backend_host}
    return [name for name, is_on in chosen.items() if is_on]


def checked(config: Path, text: str) -> Settings:
    """Return the settings of a configuration with this text, as the service would read them.

    The environment of the user who runs join is not that of the service and is ignored.

    Raises:
        ConfigError: the configuration is invalid; each line begins with the name of the file.
    """
    # In memory: the text may hold secrets, and a dry run writes nothing.
    handle = os.memfd_create(config.name)
    trial = Path(f"/proc/self/fd/{handle}")
    try:
        with open(handle, "wb", closefd=False) as out:
            out.write(text.encode())
        return load({}, _read_with(config, trial), json_file=json_file_of(config))
    except ConfigError as error:
        raise ConfigError(str(error).replace(str(trial), str(config))) from None
    finally:
        os.close(handle)


@contextlib.contextmanager
def readable_authority(plan: JoinPlan) -> Iterator[Path | None]:
    """Yield where the CA certificate of a plan can be read now, although nothing is written yet."""
    if not plan.authority:
        yield plan.ca_file
        return
    handle = os.memfd_create(CA_FILE)
    try:
        with open(handle, "wb", closefd=False) as out:
            out.write(plan.authority)
        yield Path(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


def why_not(view: AgentView, plan: JoinPlan, *, force: bool) -> str:
    """Return why a host with this agent must not join as planned; empty if it may. Pure."""
    if not view.instance_arn:
        return ""
    cluster = ids.cluster_name(view.cluster)
    if cluster != plan.cluster:
        return (
            f"this host is registered in cluster {cluster}, and an agent cannot change its cluster; to "
            f"register the host again in {plan.cluster}, stop its tasks and the agent, and remove "
            f"{plan.settings.data_dir}/agent.db"
        )
    tasks = view.running + view.pending
    if view.control_endpoint != plan.settings.control_endpoint and tasks and not force:
        return (
            f"this host runs {tasks} task{'s' * (tasks != 1)} for {view.control_endpoint}, which "
            "would be stopped; drain the host there first, or give --force (also if this is the same "
            "control under another URL)"
        )
    return ""


def url(text: str) -> str:
    """Return the URL of a control endpoint; raises ``CliError``."""
    try:
        return addresses.parse_url(text)
    except ValueError as error:
        shown = "the URL" if "@" in text else text
        raise CliError(f"{shown} {error}", exit_code=ExitCode.USAGE) from None


def token(text: str, file: Path | None, fingerprint: str = "") -> tuple[str, str]:
    """Return the token that was given, and the fingerprint of control's authority; empty for none.

    Args:
        text: the token, or ``-`` for standard input; may have the fingerprint in it.
        file: a file with the token.
        fingerprint: given apart from the token.

    Raises:
        CliError: the token was given twice, a text is not a token or not a fingerprint, or there are two of them.
    """
    token, within = tokens.split(_given(text, file))
    if token:
        _checked_token(token, "the token")
    apart = fingerprint.lower().replace(":", "")
    if apart and not _FINGERPRINT.fullmatch(apart):
        raise CliError(
            "--ca-fingerprint: is not the SHA-256 of a key; give 64 hexadecimal digits",
            exit_code=ExitCode.USAGE,
        )
    if apart and within and apart != within:
        raise CliError(
            "--ca-fingerprint is not the one in the token; give only one of them",
            exit_code=ExitCode.USAGE,
        )
    return token, apart or within


def _given(text: str, file: Path | None) -> str:
    if text and file is not None:
        raise CliError("give --token or --token-file, not both", exit_code=ExitCode.USAGE)
    if file is not None:
        return _token_given_in(file)
    if text != "-":
        return _checked_token(text, "--token") if text else ""
    given = sys.stdin.readline().strip()
    if not given:
        raise CliError("--token -: standard input is empty", exit_code=ExitCode.USAGE)
    return _checked_token(given, "the token on standard input")


def attributes(pairs: Sequence[str]) -> dict[str, str]:
    """Return attributes given as ``NAME=VALUE``; raises ``CliError``."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            text = f"--attribute {pair}: is not NAME=VALUE; use, for example, rack=a1"
            raise CliError(text, exit_code=ExitCode.USAGE)
        try:
            values.check_attributes({name: value})
        except ValueError as error:
            raise CliError(f"--attribute {pair}: {error}", exit_code=ExitCode.USAGE) from None
        found[name] = value
    return found


def cluster(text: str) -> str:
    """Return the name of a cluster, empty if none was given; raises ``CliError``."""
    try:
        return values.parse_cluster(text) if text else ""
    except ValueError as error:
        raise CliError(f"--cluster {text}: {error}", exit_code=ExitCode.USAGE) from None


def _checked_token(given: str, what: str) -> str:
    try:
        tokens.check(given)
    except ValueError as error:
        raise CliError(f"{what} {error}", exit_code=ExitCode.USAGE) from None
    return given


def _token_given_in(file: Path) -> str:
    if not file.exists():
        raise CliError(f"--token-file {file}: no such file; check the path")
    return _token_in(file)


def _token_in(file: Path) -> str:
    try:
        return credentials.read_token(file)
    except (OSError, ValueError) as error:
        raise CliError(f"token file {credentials.worded(file, error)}") from None


def _lenient(config: Path) -> Settings | None:
    """Return the current settings; None if they are invalid, which ``checked`` reports."""
    try:
        return load({}, _read_with(config, config), json_file=json_file_of(config))
    except ConfigError:
        return None


def _read_with(config: Path, instead: Path) -> list[Path]:
    """Return the files that an agent with ``config`` reads, with ``instead`` in its place."""
    if config not in DEFAULT_FILES:
        return [instead]
    return [instead if file == config else file for file in DEFAULT_FILES]


def _change(path: Path, data: bytes, *, mode: int) -> FileChange:
    try:
        same = path.read_bytes() == data and _mode_of(path, -1) == mode
    except FileNotFoundError:
        same = False
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}; check the file") from None
    return FileChange(path, data, mode, is_new=not same)


def _mode_of(path: Path, otherwise: int) -> int:
    try:
        return path.stat().st_mode & 0o777
    except FileNotFoundError:
        return otherwise


def _authority_in(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_CA_MAX_BYTES + 1)
    except FileNotFoundError:
        raise CliError(f"--ca-file {path}: no such file; check the path") from None
    except IsADirectoryError:
        raise CliError(f"--ca-file {path}: is a directory; give a PEM file") from None
    except OSError as error:
        raise CliError(f"--ca-file {path}: {error.strerror}; give a PEM file") from None
    if len(data) > _CA_MAX_BYTES:
        raise CliError(f"--ca-file {path}: is larger than 1 MiB; give a PEM file")
    return data


def shown(plan: JoinPlan) -> dict[str, Any]:
    """Return a plan as JSON fields, without the token."""
    return {
        "changes": [str(file.path) for file in plan.changes],
        "difference": plan.difference.splitlines(),
        "cluster": plan.cluster,
        "controlEndpoint": plan.settings.control_endpoint,
    }
