"""Who may speak for a container instance: only the host that it was bound to when it registered. Pure.

A token says that an agent may speak, a binding says for which instance. It is one of these texts:

- ``host:<id>``: of the identity in the certificate that control's authority signed for the host (``pki``);
- ``key:<digest>``: of the key that our agent makes once per state directory and sends with every call;
- ``token:<name>``: of a token that the file gives to one host (``model.tokens``);
- ``token:``: the tokens without a name, which hosts with Amazon's agent share;
- empty: nobody yet. The instance is of a time before there were bindings, or its agent is.

The first call that shows something binds an instance that is not bound, so that hosts stay members while control and
agents are upgraded. Later, only a registration binds it to something else, and it must be proved (``is_proved``).

Tests: ``tests/unit/controlplane/agents/test_bindings.py``.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.controlplane.records import AttributeRecord

if TYPE_CHECKING:
    from agent.controlplane.records import InstanceRecord

ATTRIBUTE: Final = "ecs-host-agent.identity"
"""Tells operators what an instance is bound to: ``certificate``, ``key``, ``token`` or ``shared-token``."""
KEY_MOST: Final = 256
HOST: Final = "host:"
SHARED: Final = "token:"
_KEY: Final = "key:"


class Shown(NamedTuple):
    """What a call shows of the host that it comes from; digests and names, never secrets."""

    key: str = ""
    """``key:<digest>``; empty if the call has no key."""
    host: str = ""
    """The identity in the certificate of the connection; empty for none."""
    name: str = ""
    """Whose token it is; empty for one that several hosts may have."""
    is_signed: bool = False
    """Whether it came by Amazon's wire, whose agents have no key."""
    is_open: bool = False
    """Whether control asks for no tokens at all, so that nothing is known of a call that has no key."""
    session: str = ""
    """Digest of the secret of its registration; empty if it has none."""
    peer: str = ""
    """Where the call comes from, to tell of it."""

    @property
    def proof(self) -> str:
        """What an instance is bound to by this call; empty for nothing."""
        if self.host:
            return f"{HOST}{self.host}"
        if self.key:
            return self.key
        return f"{SHARED}{self.name}" if self.name or self.is_signed else ""


class Verdict(enum.Enum):
    """What a call may do with an instance."""

    ALLOWED = enum.auto()
    BINDS = enum.auto()
    """It is allowed, and from now on only calls that show the same."""
    REFUSED = enum.auto()


def key_of(sent: str) -> str:
    """Return what is kept of the key that a call sends; empty if it sends none, or no possible one."""
    if not sent or len(sent) > KEY_MOST:
        return ""
    return f"{_KEY}{hashlib.sha256(sent.encode('utf-8', 'surrogatepass')).hexdigest()}"


def session_of(sent: str) -> str:
    """Return what is kept of the session that a call sends; empty if it sends none, or no possible one."""
    return key_of(sent).removeprefix(_KEY)


def verdict(bound_to: str, shown: Shown) -> Verdict:
    """Return whether a call may speak for an instance that is bound to ``bound_to``."""
    proof = shown.proof
    if not bound_to:
        return Verdict.BINDS if proof else Verdict.ALLOWED
    if _is_shown(bound_to, shown):
        return Verdict.ALLOWED
    if bound_to == SHARED and shown.is_signed:
        # One of many hosts got a token of its own.
        return Verdict.BINDS
    if shown.is_open and shown.is_signed and bound_to.startswith(SHARED):
        return Verdict.ALLOWED
    return Verdict.REFUSED


def is_proved(instance: InstanceRecord, shown: Shown, *, machine: str, client_token: str) -> bool:
    """Return whether the caller may register as an instance whose ARN it knows.

    An ARN is no secret. What the instance is bound to proves it, and so do the machine (for a host that
    lost its state) and the client token (for one that has an older copy of it). One that is bound to nothing, and
    of which no machine is known, is open to everyone who knows its ARN.
    """
    if verdict(instance.bound_to, shown) is not Verdict.REFUSED and (
        instance.bound_to or not instance.machine
    ):
        return True
    return bool(machine and instance.machine == machine) or hmac.compare_digest(
        instance.client_token.encode(), client_token.encode("utf-8", "surrogatepass")
    )


def attribute(bound_to: str) -> dict[str, AttributeRecord]:
    """Return the attribute that shows a binding, for an instance that has one."""
    if not bound_to:
        return {}
    if bound_to.startswith(HOST):
        return {ATTRIBUTE: AttributeRecord(value="certificate")}
    if bound_to == SHARED:
        return {ATTRIBUTE: AttributeRecord(value="shared-token")}
    return {ATTRIBUTE: AttributeRecord(value=bound_to.partition(":")[0])}


def _is_shown(bound_to: str, shown: Shown) -> bool:
    if bound_to.startswith(HOST):
        return bound_to == f"{HOST}{shown.host}"
    if bound_to.startswith(_KEY):
        return hmac.compare_digest(bound_to, shown.key)
    return bound_to == f"{SHARED}{shown.name}" and bool(shown.name or shown.is_signed)
