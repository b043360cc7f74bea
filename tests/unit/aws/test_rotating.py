from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.aws import rotating
from agent.aws.keys import Keys
from agent.errors import CredentialsMissing

if TYPE_CHECKING:
    from pathlib import Path

WHOLE = """[default]
aws_access_key_id = ASIADEFAULT
aws_secret_access_key = the/secret
aws_session_token = the+token==

[other]
aws_access_key_id=ASIAOTHER
aws_secret_access_key=other-secret
aws_security_token=old-name
aws_session_expiration=2027-01-15T08:00:00Z
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "credentials"
    path.write_text(WHOLE)
    return path


def test_reads_a_profile(file: Path) -> None:
    assert rotating.read(file, "default") == Keys("ASIADEFAULT", "the/secret", "the+token==")
    assert rotating.read(file, "other") == Keys(
        "ASIAOTHER", "other-secret", "old-name", 1_800_000_000.0
    )


def test_no_file_is_no_trouble(tmp_path: Path) -> None:
    assert rotating.read(tmp_path / "credentials", "default") is None
    assert rotating.read(tmp_path / "a" / "b", "default") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no profile"),
        ("[default]\n", "the access key is missing"),
        ("[default]\naws_access_key_id=A\n", "the secret key is missing"),
        ("[default]\naws_access_key_id=A\naws_secret_access_key=b c\n", "contains blanks"),
        (
            "[default]\naws_access_key_id=A\naws_secret_access_key=hidden-\u00e9\n",
            "contains blanks",
        ),
        ("aws_secret_access_key=hidden-1\n", "is not a valid INI file"),
        ("[default\naws_secret_access_key=hidden-2\n", "is not a valid INI file"),
        (WHOLE[: WHOLE.index("aws_secret")], "the secret key is missing"),
    ],
)
def test_a_broken_file_is_named_and_not_quoted(text: str, said: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(CredentialsMissing, match=said) as caught:
        rotating.read(file, "default")
    assert str(file) in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(CredentialsMissing):
        rotating.read(tmp_path, "default")
    large = tmp_path / "large"
    large.write_bytes(b"#" * 2_000_000)
    with pytest.raises(CredentialsMissing, match="not a credentials file"):
        rotating.read(large, "default")


def test_a_stamp_tells_versions_apart(file: Path) -> None:
    missing = file.with_name("missing")
    first = rotating.stamp([file, missing])
    assert rotating.stamp([file, missing]) == first
    other = file.with_name("new")
    other.write_text(WHOLE)
    other.replace(file)
    assert rotating.stamp([file, missing]) != first
    assert rotating.stamp([missing]) == (None,)


@pytest.mark.parametrize("text", ["", "soon", "9999999", None, 7, "2027-13-01T00:00:00Z"])
def test_what_is_no_time_is_none(text: object) -> None:
    assert rotating.unix_time(text) is None


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.binary(max_size=300))
def test_no_content_can_break_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "credentials"
    path.write_bytes(b"[default]\n" + content)
    with contextlib.suppress(CredentialsMissing):
        rotating.read(path, "default")
