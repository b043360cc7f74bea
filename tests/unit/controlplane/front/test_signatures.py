"""What a stranger's head may cost and do, before anything of it was proved."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from agent.controlplane.front import signatures
from agent.controlplane.front.signatures import SignatureRefused, SignedRequest

SIGNED_AT = datetime.now(UTC)
"""A long run may come here more than a signature's life after these tests were collected."""
STAMP = SIGNED_AT.strftime("%Y%m%dT%H%M%SZ")
ANY = st.text(
    st.one_of(st.characters(exclude_characters="\r\n\0"), st.sampled_from("\udcff;=%&/[]@:")),
    max_size=40,
)


def call(
    signed: str = "host;x-amz-date", *more: tuple[str, str], host: str = "x", target: str = "/"
) -> SignedRequest:
    """Return what somebody sent who knows no secret."""
    scope = f"{'A' * 16}/{STAMP[:8]}/us-east-1/ecs/aws4_request"
    claim = f"Credential={scope}, SignedHeaders={signed}, Signature={'0' * 64}"
    headers = CIMultiDict(
        [
            ("Host", host),
            ("X-Amz-Date", STAMP),
            ("Authorization", f"AWS4-HMAC-SHA256 {claim}"),
            *more,
        ]
    )
    return SignedRequest("POST", target, CIMultiDictProxy(headers))


def makers(sent: SignedRequest, *secrets: str) -> list[str]:
    claim = signatures.read_claim(sent)
    signatures.check_time(claim, SIGNED_AT.timestamp())
    signatures.check_whole(sent, claim)
    return signatures.makers(secrets or ("secret" * 6,), sent, claim)


@pytest.mark.parametrize("signed", ["host;x-amz-date;a;a", "host;A;x-amz-date;a", "host;host"])
def test_a_header_is_signed_once(signed: str) -> None:
    with pytest.raises(SignatureRefused, match=r"a header twice|x-amz-date must be signed"):
        makers(call(signed, ("a", "b")))


def test_what_was_signed_is_put_together_once_for_all_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []
    own = SigV4Auth.canonical_request

    def counted(self: SigV4Auth, request: Any) -> Any:
        made.append(request)
        return own(self, request)

    monkeypatch.setattr(SigV4Auth, "canonical_request", counted)
    assert makers(call(), *(f"secret-{n}" for n in range(50))) == []
    assert len(made) == 1


@pytest.mark.parametrize(
    "sent",
    [
        call("host;x-amz-date;a", ("a", "\udcff")),
        call(host="\udcff"),
        call(host="[::"),
        call(target="/\udcff"),
        call(target="/?\udcff=\udcff"),
    ],
)
def test_what_is_no_text_cannot_be_signed(sent: SignedRequest) -> None:
    with pytest.raises(SignatureRefused, match="characters that cannot be signed"):
        makers(sent)


@given(signed=ANY, name=ANY, value=ANY, host=ANY, path=ANY)
def test_whatever_a_stranger_sends_is_refused(
    signed: str, name: str, value: str, host: str, path: str
) -> None:
    sent = call(f"host;x-amz-date;{signed}", (name, value), host=host, target=f"/{path}")
    with contextlib.suppress(SignatureRefused):
        assert makers(sent) == []
