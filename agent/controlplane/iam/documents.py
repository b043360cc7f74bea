"""What a policy document must be. Pure.

Checked is the structure, as IAM does when a document is stored; what actions and resources it names is not
looked at, because nothing is permitted by it here.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from agent.errors import AgentError

TRUST_MOST: Final = 2048
INLINE_MOST: Final = 10_240
"""Characters without white space: of a trust policy, and of all inline policies of a role."""
_VERSIONS: Final = ("2012-10-17", "2008-10-17")
_OF_DOCUMENT: Final = frozenset({"Version", "Id", "Statement"})
_OF_STATEMENT: Final = frozenset(
    {
        "Sid",
        "Effect",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Principal",
        "NotPrincipal",
        "Condition",
    }
)
_SHOWN: Final = 64


class DocumentInvalid(AgentError):
    """A document is not a policy."""


def check_trust(document: str) -> None:
    """Check the document that says who may assume a role; raises ``DocumentInvalid``."""
    for statement in _statements(document):
        _check(statement)
        if not ({"Principal", "NotPrincipal"} & statement.keys()):
            raise DocumentInvalid("Missing required field Principal")
        if {"Resource", "NotResource"} & statement.keys():
            raise DocumentInvalid("Has prohibited field Resource")


def check_permissions(document: str) -> None:
    """Check a document that says what a role may do; raises ``DocumentInvalid``."""
    for statement in _statements(document):
        _check(statement)
        if {"Principal", "NotPrincipal"} & statement.keys():
            raise DocumentInvalid("Policy document should not specify a principal.")
        if not ({"Resource", "NotResource"} & statement.keys()):
            raise DocumentInvalid("Policy statement must contain resources.")


def length(document: str) -> int:
    """Return the length of a document as quotas count it: without white space."""
    return sum(not character.isspace() for character in document)


def _statements(document: str) -> list[dict[str, Any]]:
    try:
        read = msgspec.json.decode(document)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise DocumentInvalid("This policy contains invalid Json") from None
    if not isinstance(read, dict):
        raise DocumentInvalid("This policy contains invalid Json")
    if unknown := sorted(read.keys() - _OF_DOCUMENT):
        raise DocumentInvalid(f"Syntax error: unknown element {unknown[0][:_SHOWN]}")
    if read.get("Version", _VERSIONS[-1]) not in _VERSIONS:
        raise DocumentInvalid(f"The policy must have a version of {' or '.join(_VERSIONS)}")
    given = read.get("Statement")
    statements: list[Any] = given if isinstance(given, list) else [given]
    if not statements or not all(isinstance(each, dict) for each in statements):
        raise DocumentInvalid("Syntax errors in policy: Statement must have at least one statement")
    return statements


def _check(statement: dict[str, Any]) -> None:
    if unknown := sorted(statement.keys() - _OF_STATEMENT):
        raise DocumentInvalid(f"Syntax error: unknown element {unknown[0][:_SHOWN]}")
    if statement.get("Effect") not in ("Allow", "Deny"):
        raise DocumentInvalid("Syntax errors in policy: Effect must be Allow or Deny")
    for one in ("Action", "Resource", "Principal"):
        if {one, f"Not{one}"} <= statement.keys():
            raise DocumentInvalid(f"Syntax errors in policy: both {one} and Not{one} are given")
    if not ({"Action", "NotAction"} & statement.keys()):
        raise DocumentInvalid("Policy statement must contain actions.")
    for name, value in statement.items():
        if not _is_valid(name, value):
            raise DocumentInvalid(f"Syntax errors in policy: the value of {name} is not valid")


def _is_valid(name: str, value: Any) -> bool:
    match name:
        case "Action" | "NotAction" | "Resource" | "NotResource":
            texts = value if isinstance(value, list) else [value]
            return bool(texts) and all(isinstance(each, str) and each for each in texts)
        case "Principal" | "NotPrincipal":
            return value == "*" or (isinstance(value, dict) and bool(value))
        case "Condition":
            return isinstance(value, dict)
        case _:
            return isinstance(value, str)
