"""Roles by STS: AssumeRole with keys of control's own.

Keys come from where every program of AWS finds them: the environment, the shared files
(``AWS_PROFILE``), a container's service, the role of an EC2 instance. Keys of this control endpoint
itself, which ``ecs-agent env`` puts into a shell's environment, are none of AWS and are passed over.

Uses the network. Tests: ``tests/unit/controlplane/roles/test_sts.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from agent.aws import faults
from agent.aws.clock import AwsClock
from agent.aws.credentials import usual_chain
from agent.aws.ec2_host import asks_metadata
from agent.aws.http import AwsHttp, Proxies
from agent.aws.imds import ENDPOINT as IMDS_ENDPOINT
from agent.aws.imds import Imds
from agent.aws.places import fips_enabled, service_url
from agent.aws.query import STS_VERSION, QueryApi
from agent.aws.signing import Signer
from agent.aws.sts import Sts
from agent.controlplane.front import keys as own_keys
from agent.controlplane.roles import words
from agent.controlplane.roles.contract import Assumed, RoleAwaited, RoleRefused
from agent.controlplane.roles.settings import DURATION_S
from agent.errors import AwsFailure, AwsRefused, CredentialsMissing
from agent.model.payload import Credentials

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.aws.credentials import CredentialChain
    from agent.controlplane.roles.settings import RoleSettings

KEYS_LIMIT_S: Final = 15.0
"""How long a call of an operator waits to know whether there are keys."""
_KEY_VARIABLES: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL")
_REGIONS: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")


class StsRoles:
    """Assumes roles; one per control endpoint, for one event loop."""

    def __init__(
        self, sts: Sts, chain: CredentialChain, clock: AwsClock, *, duration_s: float = DURATION_S
    ) -> None:
        """Take what to ask with; ``duration_s`` is how long credentials are to be valid."""
        self._sts = sts
        self._chain = chain
        self._clock = clock
        self._duration_s = duration_s
        self._account = ""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, settings: RoleSettings, *, region: str) -> AsyncIterator[StsRoles]:
        """Open the way to STS, and close it at the end of the block. Asks nobody yet.

        Args:
            settings: where keys are found, and how long credentials are to be valid.
            region: where the environment names none.

        Raises:
            ConfigError: a variable cannot be used; the text names it.
        """
        given = Environment.read(settings.environ, region)
        clock = AwsClock()
        proxies = Proxies(given.http_proxy, given.https_proxy, given.no_proxy)
        endpoint = service_url(
            "sts",
            given.region,
            override=given.endpoint,
            setting=given.endpoint_variable,
            fips=await fips_enabled(),
        )
        async with AwsHttp(proxies, given.ca_file) as http:
            asks = partial(
                asks_metadata,
                disabled=given.metadata_disabled,
                endpoint=given.metadata_endpoint,
            )
            imds = Imds(
                http,
                enabled=await asyncio.to_thread(asks),
                endpoint=given.metadata_endpoint or IMDS_ENDPOINT,
            )
            chain = usual_chain(imds=imds, environ=given.of_keys, clock=clock)
            api = QueryApi(http, chain, Signer(given.region, "sts", clock), endpoint, STS_VERSION)
            try:
                yield cls(Sts(api), chain, clock, duration_s=settings.duration_s)
            finally:
                await chain.close()

    def now(self) -> float:
        """Return the Unix time by AWS's clock, as far as it is known."""
        return self._clock.time()

    async def problem(self) -> str:
        """Return why no role can be assumed: there are no keys; empty where there are some."""
        try:
            async with asyncio.timeout(KEYS_LIMIT_S):
                await self._chain.keys()
        except TimeoutError:
            return words.no_keys(f"nothing found within {KEYS_LIMIT_S:g} s")
        except CredentialsMissing as error:
            return words.no_keys(str(error))
        return ""

    async def assume(self, role: str, session: str) -> Assumed:
        """Return fresh credentials of a role, by ARN or, in the account of the keys, by name.

        Raises:
            RoleRefused: STS refuses this role.
            RoleAwaited: STS is away or busy, or there are no keys that it takes.
        """
        try:
            arn = role if ":" in role else await self._arn(role)
            found = await self._sts.assume_role(arn, session, self._duration_s)
        except AwsRefused as error:
            if error.code in faults.STALE_KEYS:
                raise RoleAwaited(f"STS refuses the keys of control ({error})") from None
            raise RoleRefused(str(error)) from None
        except CredentialsMissing as error:
            raise RoleAwaited(words.no_keys(str(error))) from None
        except AwsFailure as error:
            raise RoleAwaited(str(error)) from None
        return Assumed(
            Credentials(
                access_key_id=found.keys.access_key,
                secret_access_key=found.keys.secret_key,
                session_token=found.keys.session_token,
                role_arn=arn,
                expiration=found.expiration,
            ),
            # Checked to be there when the answer was read.
            found.keys.expires_at or 0.0,
        )

    async def _arn(self, name: str) -> str:
        if not self._account:
            caller = await self._sts.caller()
            self._account = f"arn:{caller.partition}:iam::{caller.account}"
        return f"{self._account}:role/{name}"


class Environment(Struct, frozen=True, kw_only=True):
    """What of the environment matters here. Pure; shows nothing."""

    region: str
    endpoint: str
    endpoint_variable: str
    http_proxy: str
    https_proxy: str
    no_proxy: str
    ca_file: Path | None
    metadata_disabled: bool
    metadata_endpoint: str
    of_keys: Mapping[str, str]
    """For whoever looks for keys."""

    def __repr__(self) -> str:
        return f"Environment(region={self.region!r})"

    @classmethod
    def read(cls, environ: Mapping[str, str], region: str) -> Environment:
        """Read the variables that all programs of AWS read; ``region`` is that of none."""
        environ = _without_own(environ)
        variable = next((name for name in _ENDPOINTS if environ.get(name)), _ENDPOINTS[0])
        http_proxy = _either_case(environ, "HTTP_PROXY")
        ca_file = environ.get("AWS_CA_BUNDLE", "")
        return cls(
            region=next((environ[name] for name in _REGIONS if environ.get(name)), region),
            endpoint=environ.get(variable, ""),
            endpoint_variable=variable,
            http_proxy=http_proxy,
            https_proxy=_either_case(environ, "HTTPS_PROXY") or http_proxy,
            no_proxy=_either_case(environ, "NO_PROXY"),
            ca_file=Path(ca_file) if ca_file else None,
            metadata_disabled=environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true",
            metadata_endpoint=environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", ""),
            of_keys=environ,
        )


def _either_case(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.lower()) or ""


def _without_own(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without keys and addresses of a control endpoint, which are none of AWS."""
    if not own_keys.is_own(environ.get("AWS_ACCESS_KEY_ID", "")):
        return dict(environ)
    own = (*_KEY_VARIABLES, *_ENDPOINTS)
    return {name: value for name, value in environ.items() if name not in own}
