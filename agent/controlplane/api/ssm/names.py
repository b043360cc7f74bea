"""Names of parameters: which are valid, and what a request means by one. Pure.

Source: the user guide of AWS Systems Manager ("About requirements and constraints for parameter names").
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.controlplane.api.ssm.errors import (
    HierarchyLevelLimitExceededException,
    ParameterNotFound,
    ValidationException,
)
from agent.controlplane.definition import secret_refs

if TYPE_CHECKING:
    from agent.controlplane.names import Names

LEVELS_MOST: Final = 15
LENGTH_MOST: Final = 1011
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+|(?:/[A-Za-z0-9_.-]+)+")
_RESERVED: Final = re.compile(r"/?(?:aws|ssm)", re.IGNORECASE)
_SELECTOR: Final = re.compile(r"(.+):([^:/]+)")


class Asked(NamedTuple):
    """What a request names."""

    name: str
    is_of_arn: bool
    """The name is from an ARN, which leaves out the first slash."""
    selector: str
    """What is behind the name: a version or a label, with its colon; empty for none."""


def check(name: str) -> None:
    """Return if a new parameter may have this name.

    Raises:
        ValidationException: it may not.
        HierarchyLevelLimitExceededException: it has too many levels.
    """
    if len(name) > LENGTH_MOST or not _NAME.fullmatch(name):
        raise ValidationException(
            "Parameter name: can have up to 1011 letters, digits and the symbols . - _; a name with "
            "levels begins with / and has / between them."
        )
    if _RESERVED.match(name):
        raise ValidationException(
            'Parameter name: can\'t be prefixed with "aws" or "ssm" (case-insensitive).'
        )
    if name.count("/") > LEVELS_MOST:
        raise HierarchyLevelLimitExceededException(
            f"A parameter name can have at most {LEVELS_MOST} levels."
        )


def asked(given: str, names: Names) -> Asked:
    """Return what a request means by a name or an ARN, with a version behind it or without.

    Raises:
        ParameterNotFound: it is the ARN of another account or region.
    """
    is_of_arn = given.startswith("arn:")
    text, selector = given, ""
    # An ARN has five colons of its own.
    if given.count(":") > (5 if is_of_arn else 0):
        match = _SELECTOR.fullmatch(given)
        if match is not None:
            text, selector = match[1], f":{match[2]}"
    if not is_of_arn:
        return Asked(text, False, selector)
    ref = secret_refs.parse(text)
    if ref is None or ref.service != secret_refs.PARAMETERS or not secret_refs.is_own(ref, names):
        raise ParameterNotFound("The parameter is not one of this account and region.")
    return Asked(ref.name, True, selector)
