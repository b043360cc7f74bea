"""Who may speak as an agent on Amazon's wire: those whose signature was made with one of our tokens.

Amazon's agent cannot carry a bearer token, but it signs every call and both websocket upgrades with
Signature Version 4. So a token of control's file is the **secret** access key; the access key id and
the region may be anything. botocore computes what the signature must be; it is compared in constant
time, with every token of the file. Without a token file nothing is verified.

The frames of TCS carry signatures too. They are not verified: the connection that they come by was
admitted by its upgrade, the answers to them command nothing, and ACS, which does, has none in its
frames at all. Who can write into an admitted connection is kept out by TLS.

Pure but for the clock and one rate-limited log line.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final

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
        """Return what lets the call in.

        Raises:
            SignatureRefused: it is not signed, by nobody we know, or at another time.
        """
        if self._agent_tokens.file is None:
            return Admission()
        with self._noted(peer):
            return self._check(call)

    def expect(self, call: SignedRequest, peer: str) -> None:
        """Return when a call carries what a token may have signed; its body is not needed.

        Raises:
            SignatureRefused: whatever its body is, it will not be let in.
        """
        if self._agent_tokens.file is not None:
            with self._noted(peer):
                self._claim(call)

    def may_know(self, call: SignedRequest) -> bool:
        """Tell whether ``knows`` may be true, whatever the body is."""
        if self._agent_tokens.file is None:
            return False
        try:
            self._claim(call)
        except SignatureRefused:
            return False
        return True

    def knows(self, call: SignedRequest) -> bool:
        """Tell whether a call is signed with a token of the file; no one is told of a refusal."""
        if self._agent_tokens.file is None:
            return False
        try:
            self._check(call)
        except SignatureRefused:
            return False
        return True

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
                f"control asks agents for a signature and this call has none; {_NO_TOKENS}",
            )
        claim = signatures.read_claim(call)
        if claim.service != _SERVICE:
            raise signatures.broken(f"the credential must be scoped to the service {_SERVICE}")
        signatures.check_time(claim, self._clock())
        return claim

    def _check(self, call: SignedRequest) -> Admission:
        claim = self._claim(call)
        signatures.check_whole(call, claim)
        # All of them, also behind one that fits: the time tells nothing of the file.
        fitting = signatures.makers(self._agent_tokens.tokens, call, claim)
        if not fitting:
            raise signatures.mismatch(_NO_TOKENS)
        return self._agent_tokens.admission(fitting[0])
