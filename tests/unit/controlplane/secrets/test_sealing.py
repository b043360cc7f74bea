from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.controlplane.secrets.key_file import new_key
from agent.controlplane.secrets.sealing import KeyMissing, SealBroken, Sealer

KEY, OTHER = new_key(), new_key()
SEALER = Sealer([KEY, OTHER])
WHAT = ("parameter", "/app/db", "3")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_sealed_opens_again(value: str) -> None:
    sealed = SEALER.seal(value, WHAT)
    assert SEALER.open(sealed, WHAT) == value
    assert sealed.key == KEY.id


def test_nothing_shows_the_value() -> None:
    sealed = SEALER.seal("canary", WHAT)
    assert "canary" not in repr(sealed)
    assert b"canary" not in base64.b64decode(sealed.text)
    assert SEALER.seal("canary", WHAT).text != sealed.text
    assert KEY.key.hex() not in repr(SEALER)


@pytest.mark.parametrize(
    "what",
    [
        ("secret", "/app/db", "3"),
        ("parameter", "/app/other", "3"),
        ("parameter", "/app/db", "2"),
        ("parameter", "/app/db3", ""),
    ],
)
def test_it_opens_as_nothing_else(what: tuple[str, str, str]) -> None:
    with pytest.raises(SealBroken, match="is damaged"):
        SEALER.open(SEALER.seal("canary", WHAT), what)


@pytest.mark.parametrize("text", ["", "AAAA", "not base64!", "A" * 64])
def test_a_damaged_one_does_not_open(text: str) -> None:
    with pytest.raises(SealBroken, match="parameter /app/db is damaged; store it again"):
        SEALER.open(replace(SEALER.seal("x", WHAT), text=text), WHAT)


def test_a_changed_byte_is_noticed() -> None:
    sealed = SEALER.seal("canary", WHAT)
    raw = bytearray(base64.b64decode(sealed.text))
    for place in (0, 12, len(raw) - 1):
        changed = raw.copy()
        changed[place] ^= 1
        with pytest.raises(SealBroken):
            SEALER.open(replace(sealed, text=base64.b64encode(changed).decode()), WHAT)


def test_an_old_key_opens_and_a_lost_one_is_named() -> None:
    old = Sealer([OTHER]).seal("canary", WHAT)
    assert SEALER.open(old, WHAT) == "canary"
    with pytest.raises(KeyMissing, match=f"the key {OTHER.id} of parameter /app/db is not in"):
        Sealer([KEY]).open(old, WHAT)
