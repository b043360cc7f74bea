"""Authentication of Amazon's agents: by a signature that was made with one of our tokens.

Amazon's agent cannot send a bearer token, but it signs every call and both websocket upgrades with
Signature Version 4. So a token of control's file is the **secret** access key; the access key id and
the region may be anything. botocore computes the expected signature; it is compared in constant time,
with every token of the file. Without a token file nothing is verified.

The frames of TCS have signatures too. They are not verified: their connection was admitted by its
upgrade, responses to them have no effect on the agent, and ACS, which sends orders, has no signatures
in its frames at all. TLS protects an admitted connection from injected data.

Pure except for the clock and one rate-limited log line.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final

from agent.controlplane.agents.bindings import Shown
from agent.controlplane.agents.tokens import Admission
from agent.controlplane.front import signatures
from agent.controlplane.front.signatures import SignatureRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.controlplane.agents.tokens import AgentTokens
    from agent.controlplane.front.signatures import Claim, SignedRequest

_SERVICE: Final = "ecs"
_NO_TOKENS: Final = "set AWS_SECRET_ACCESS_KEY of the agent to a token of control's --token-file"


class Verifier:
    """Checks signatures with ``AgentTokens``; for one event loop."""

    def __init__(
        self, agent_tokens: AgentTokens, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._agent_tokens = agent_tokens
        self._clock = clock

    def check(self, call: SignedRequest, peer: str) -> Admission:
        """Return the admission of a call.

        Raises:
            SignatureRefused: it is not signed, not with a known token, or not recently.
        """
        if self._agent_tokens.file is None:
            return Admission()
        with self._noted(peer):
            return self._check(call)

    def expect(self, call: SignedRequest, peer: str) -> None:
        """Check that a token may have signed a call; does not need its body.

        Raises:
            SignatureRefused: with any body, it will not be admitted.
        """
        if self._agent_tokens.file is not None:
            with self._noted(peer):
                self._claim(call)

    def may_know(self, call: SignedRequest) -> bool:
        """Return whether ``known`` could give an admission with some body."""
        if self._agent_tokens.file is None:
            return False
        try:
            self._claim(call)
        except SignatureRefused:
            return False
        return True

    def known(self, call: SignedRequest) -> Admission | None:
        """Return the admission of a call that a token of the file signed, else None; logs nothing."""
        if self._agent_tokens.file is None:
            return None
        try:
            return self._check(call)
        except SignatureRefused:
            return None

    @contextlib.contextmanager
    def _noted(self, peer: str) -> Iterator[None]:
        try:
            yield
        except SignatureRefused as error:
            self._agent_tokens.note(peer, f"{error.code}: {error}")
            raise

    def _claim(self, call: SignedRequest) -> Claim:
        if not signatures.is_signed(call):
            raise SignatureRefused(
                "MissingAuthenticationTokenException",
                f"control requires a signature and this call has none; {_NO_TOKENS}",
            )
        claim = signatures.read_claim(call)
        if claim.service != _SERVICE:
            raise signatures.broken(f"the credential must be scoped to the service {_SERVICE}")
        signatures.check_time(claim, self._clock())
        return claim

    def _check(self, call: SignedRequest) -> Admission:
        claim = self._claim(call)
        signatures.check_whole(call, claim)
        # Try all of them, even after a match: the duration must reveal nothing about the file.
        fitting = signatures.makers(self._agent_tokens.tokens, call, claim)
        if not fitting:
            raise signatures.mismatch(_NO_TOKENS)
        return self._agent_tokens.admission(fitting[0])

    def shown(self, admission: Admission, peer: str) -> Shown:
        """Return what an admitted call shows of its host: whose token it was signed with."""
        is_open = self._agent_tokens.file is None
        return Shown(name=admission.name, is_signed=True, is_open=is_open, peer=peer)
