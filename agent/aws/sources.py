"""The sources of keys: one class per kind of source, and their order.

Uses the given environment, credential files, helper programs that those name, and instance
metadata. Every source raises ``CredentialsMissing`` or ``AwsUnavailable``, whose text contains no
secret. The sources are botocore's own providers without its session, which would load service
models. Providers that need calls to STS or SSO are left out. Instance metadata is read by
`agent.aws.imds`, because botocore's client blocks a thread while it retries.

Tests: ``tests/unit/aws/test_credential_sources.py``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from botocore import configloader
from botocore import credentials as providers
from botocore.exceptions import (
    BotoCoreError,
    ConfigNotFound,
    CredentialRetrievalError,
    PartialCredentialsError,
)

from agent.aws import rotating
from agent.aws.keys import checked
from agent.errors import CredentialsMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.aws.imds import Imds
    from agent.aws.keys import Keys
    from agent.aws.reading import Reader

FILE_S: Final = 10.0
"""Limit for reading a file."""
HELPER_S: Final = 30.0
"""Limit for a ``credential_process`` and for a container's credential service."""
_SLACK_S: Final = 5.0
_ROLES: Final = "meta-data/iam/security-credentials/"


class Source(Protocol):
    """One source of keys."""

    name: str
    """Name of the source in texts."""
    paths: tuple[Path, ...]
    """Files whose change means new keys; empty if the source has none."""

    async def load(self) -> Keys | None:
        """Return the current keys; None if there are none.

        Raises:
            CredentialsMissing: there are keys, but they cannot be used (now).
            AwsUnavailable: the source does not answer.
        """


class ConfiguredKeys:
    """Keys in the settings."""

    paths: tuple[Path, ...] = ()

    def __init__(self, keys: Keys) -> None:
        self.name = "settings"
        self._keys = keys

    async def load(self) -> Keys | None:
        """Return the keys."""
        return checked(
            self._keys.access_key,
            self._keys.secret_key,
            self._keys.session_token,
            self._keys.expires_at,
        )


class Read:
    """A source that is read by blocking code."""

    def __init__(
        self,
        name: str,
        work: Callable[[], Keys | None],
        reader: Reader,
        *,
        paths: tuple[Path, ...] = (),
        limit_s: float = FILE_S,
    ) -> None:
        self.name = name
        self.paths = paths
        self._work = work
        self._reader = reader
        self._limit_s = limit_s

    async def load(self) -> Keys | None:
        """Return what the code finds within its limit."""
        try:
            return await self._reader.read(self._work, self._limit_s)
        except TimeoutError:
            raise CredentialsMissing(f"not read within {self._limit_s:g} s") from None


class MetadataSource:
    """The role of an EC2 instance."""

    name = "instance metadata"
    paths: tuple[Path, ...] = ()

    def __init__(self, imds: Imds) -> None:
        self._imds = imds

    async def load(self) -> Keys | None:
        """Return the role's keys; None if the instance has no role or metadata is not used."""
        if not self._imds.enabled:
            return None
        roles = await self._imds.text(_ROLES)
        if not roles:
            return None
        role = roles.splitlines()[0].strip()
        answer = await self._imds.json(f"{_ROLES}{role}")
        if not isinstance(answer, dict):
            raise CredentialsMissing("the role's credentials are missing")
        code = answer.get("Code", "Success")
        if code != "Success":
            told = code if isinstance(code, str) and code.isalnum() else "an error"
            raise CredentialsMissing(f"the role's credentials are not available ({told[:100]})")
        return checked(
            answer.get("AccessKeyId"),
            answer.get("SecretAccessKey"),
            answer.get("Token"),
            rotating.unix_time(answer.get("Expiration")),
        )


def in_order(
    *,
    given: Keys | None,
    external: bool,
    profile: str,
    rotating_file: Path,
    imds: Imds,
    environ: Mapping[str, str],
    reader: Reader,
) -> list[Source]:
    """Return the sources in the order in which they are asked.

    On EC2: settings, environment, shared files, container, instance role, rotating file. On
    external hosts, the rotating file comes right after the environment. Source: Amazon ECS agent
    1.105.1, ecs-agent/credentials/providers.
    """
    first: list[Source] = [] if given is None else [ConfiguredKeys(given)]
    turning = Read(
        f"{rotating_file} (profile {profile!r})",
        lambda: rotating.read(rotating_file, profile),
        reader,
        paths=(rotating_file,),
    )
    environment, *others = usual(imds=imds, environ=environ, reader=reader)
    if external:
        return [*first, environment, turning, *others]
    return [*first, environment, *others, turning]


def usual(*, imds: Imds, environ: Mapping[str, str], reader: Reader) -> list[Source]:
    """Return the sources that every program of AWS asks, in its order.

    Environment, shared files, container, instance role. Source: ``botocore.credentials``, less the
    providers that need calls to STS or SSO.
    """
    return [
        Read("environment variables", lambda: _environment(environ), reader),
        _shared(environ, reader),
        Read("container credentials", lambda: _container(environ), reader, limit_s=HELPER_S),
        MetadataSource(imds),
    ]


def _environment(environ: Mapping[str, str]) -> Keys | None:
    return _found(providers.EnvProvider(environ=environ))


def _container(environ: Mapping[str, str]) -> Keys | None:
    return _found(providers.ContainerProvider(environ=environ))


def _shared(environ: Mapping[str, str], reader: Reader) -> Read:
    keys_file = _path(environ, "AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")
    config_file = _path(environ, "AWS_CONFIG_FILE", ".aws/config")
    profile = environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE") or "default"
    return Read(
        f"{keys_file} and {config_file} (profile {profile!r})",
        lambda: _from_files(keys_file, config_file, profile),
        reader,
        paths=(keys_file, config_file),
        limit_s=HELPER_S + _SLACK_S,
    )


def _from_files(keys_file: Path, config_file: Path, profile: str) -> Keys | None:
    """Return the keys from the shared files, or from the program that they name."""
    section: dict[str, Any] = {}
    for path, parse in (
        (config_file, configloader.load_config),
        (keys_file, lambda name: {"profiles": configloader.raw_config_parse(name)}),
    ):
        with contextlib.suppress(ConfigNotFound):
            section |= parse(str(path))["profiles"].get(profile, {})
    for provider in (
        providers.SharedCredentialProvider(str(keys_file), profile),
        providers.ProcessProvider(profile, lambda: {"profiles": {profile: section}}, popen=_Helper),
        providers.ConfigProvider(str(config_file), profile),
    ):
        keys = _found(provider)
        if keys is not None:
            return keys
    for name in ("role_arn", "sso_session", "sso_start_url", "login_session"):
        if name in section:
            raise CredentialsMissing(
                f"the profile uses {name}, which is not supported; use credential_process"
            )
    return None


def _found(provider: Any) -> Keys | None:
    """Return the keys that a botocore provider finds; errors do not quote file contents."""
    try:
        found = provider.load()
        if found is None:
            return None
        keys = found.get_frozen_credentials()
    except PartialCredentialsError as error:
        raise CredentialsMissing(f"{error.kwargs.get('cred_var')} is missing") from None
    except CredentialRetrievalError:
        raise CredentialsMissing(
            f"{provider.METHOD}: failed; run the program or call the address manually to see why"
        ) from None
    except (BotoCoreError, OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise CredentialsMissing(f"{provider.METHOD}: {_reason(error)}") from None
    except subprocess.SubprocessError:
        raise CredentialsMissing(f"credential_process took longer than {HELPER_S:g} s") from None
    # botocore keeps the expiry only here.
    expiry = getattr(found, "_expiry_time", None)
    return checked(keys.access_key, keys.secret_key, keys.token, rotating.unix_time(expiry))


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"cannot be used ({type(error).__name__})"


class _Helper(subprocess.Popen[bytes]):
    """A ``credential_process`` program in its own session, which is killed at its limit."""

    def __init__(self, command: list[str], **options: Any) -> None:
        super().__init__(command, stdin=subprocess.DEVNULL, start_new_session=True, **options)

    def communicate(self, *args: Any, **options: Any) -> tuple[bytes, bytes]:
        """Return the output; at the limit, kill program and children, raise ``TimeoutExpired``."""
        options["timeout"] = HELPER_S
        try:
            return super().communicate(*args, **options)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.wait()
            for pipe in (self.stdout, self.stderr):
                if pipe is not None:
                    pipe.close()
            raise


def _path(environ: Mapping[str, str], variable: str, default: str) -> Path:
    home = environ.get("HOME") or "/root"
    told = environ.get(variable) or f"~/{default}"
    return Path(home, told[2:]) if told.startswith("~/") else Path(told)
