from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent.engine.hiding import WITHHELD, hidden, without
from agent.model.payload import Secret
from tests.support.tasks import container

PLAIN = container("a", secrets=[Secret(name="X", target="CONTAINER")])
LOGGED = container("a", secrets=[Secret(name="X", target="LOG_DRIVER")])


@pytest.mark.parametrize(
    ("values", "text", "shown"),
    [
        ({"s3cret"}, "bad token s3cret, or s3cret", "bad token ***, or ***"),
        ({"s3cret", "s3cret-2"}, "s3cret-2 s3cret", "*** ***"),
        ({'a"b\nc'}, 'parse "a\\"b\\nc": no', 'parse "***": no'),
        ({"a b/c"}, "https://a%20b%2Fc@host", "https://***@host"),
        ({"  s3cret\n"}, "token s3cret", "token ***"),
        # A short one is hidden where it stands alone, and nothing is hidden for an empty one.
        ({"no", "", "  "}, "no such node", "*** such node"),
        (set(), "no such node", "no such node"),
    ],
)
def test_a_text_without_secrets(values: set[str], text: str, shown: str) -> None:
    assert without(values, text) == shown


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=4).filter(lambda v: "*" not in v))
def test_nothing_is_left_of_a_value_however_it_is_quoted(value: str) -> None:
    bare = value.strip()
    assume(len(bare) >= 4)
    forms = (bare, json.dumps(bare)[1:-1], quote(bare, safe=""))
    shown = without({value}, " | ".join(forms))
    assert not [form for form in forms if form in shown]


def test_what_is_not_known_any_more_is_not_repeated() -> None:
    assert hidden(LOGGED, [], "bad splunk-token canary") == WITHHELD
    assert hidden(LOGGED, ["canary"], "bad splunk-token canary") == "bad splunk-token ***"
    assert hidden(PLAIN, [], "no such file") == "no such file"
    assert hidden(LOGGED, [], "") == ""
