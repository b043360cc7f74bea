"""Policy documents: read, checked and compiled. Pure.

A statement that names actions of other services alone is checked for its structure only, so that a document with
permissions for S3, say, can be kept whole. It says whether calls of that service may be sent on to where it is served.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent.controlplane.authorization import condition_keys, wildcards
from agent.controlplane.authorization.conditions import Condition, ConditionInvalid
from agent.controlplane.authorization.wildcards import Patterns
from agent.errors import BAD_JSON, AgentError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    Values = Mapping[str, tuple[str, ...]]

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
_SOME_ACTION: Final = "#" * 16
"""Is matched by a pattern for all actions, and by no other that anybody writes."""
_SHOWN: Final = 64


class PolicyInvalid(AgentError):
    """A document is no policy, or one that cannot be evaluated here."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a policy, compiled."""

    allows: bool
    """Whether its effect is Allow."""
    actions: Patterns
    has_actions: bool
    """Whether ``actions`` are those that it is about, not those that it is not about."""
    resources: Patterns
    has_resources: bool
    conditions: tuple[Condition, ...] = ()
    principals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By kind (``AWS``, ``Service``), in documents that say who may assume a role."""
    services: Patterns | None = None
    """Of whose actions it is about some; None with ``NotAction``."""
    is_conditional: bool = False
    """Whether it has conditions."""
    is_foreign: bool = False
    """Whether it is about services alone that are not served here; its conditions are not compiled."""

    def is_about(self, action: str) -> bool:
        """Return whether it says something of an action that is served here, on some resource."""
        return not self.is_foreign and self._names(action)

    def applies(self, resource: str, values: Values) -> bool:
        """Return whether it applies to a call of an action that it is about."""
        return self.resources.match(resource, values) == self.has_resources and all(
            condition.holds(values) for condition in self.conditions
        )

    def concerns(self, service: str) -> bool:
        """Return whether it says something of some action of a service."""
        if self.services is None:
            return self._names(f"{service}:{_SOME_ACTION}")
        return self.services.match(service, {})

    def allows_all_of(self, service: str) -> bool:
        """Return whether it allows every action of a service, always and on everything."""
        return (
            self.allows
            and not self.is_conditional
            and self._names(f"{service}:{_SOME_ACTION}")
            and self.has_resources
            and self.resources.match("*", {})
        )

    def _names(self, action: str) -> bool:
        return self.actions.match(action, {}) == self.has_actions

    @property
    def keys(self) -> frozenset[str]:
        """The keys whose values it needs, in lower case."""
        found = set(self.resources.variables)
        for condition in self.conditions:
            found |= {condition.key} | condition.variables
        return frozenset(found)


def compile_permissions(document: str, services: Collection[str]) -> tuple[Statement, ...]:
    """Compile a document that says what a user or role may do.

    Args:
        document: JSON.
        services: prefixes of the actions that are served here.

    Raises:
        PolicyInvalid: it is not valid, or has something that cannot be evaluated.
    """
    statements, has_variables = read(document)
    for statement in statements:
        if {"Principal", "NotPrincipal"} & statement.keys():
            raise PolicyInvalid("Policy document should not specify a principal.")
        if not ({"Resource", "NotResource"} & statement.keys()):
            raise PolicyInvalid("Policy statement must contain resources.")
        _check_resources(statement)
    return tuple(
        _foreign(statement)
        if _is_foreign(statement, services)
        else _compiled(statement, has_variables=has_variables)
        for statement in statements
    )


def compile_trust(document: str) -> tuple[Statement, ...]:
    """Compile a document that says who may assume a role; statements for federated users alone are left out.

    Raises:
        PolicyInvalid: it is not valid, or has something that cannot be evaluated.
    """
    statements, has_variables = read(document)
    for statement in statements:
        if not ({"Principal", "NotPrincipal"} & statement.keys()):
            raise PolicyInvalid("Missing required field Principal")
        if {"Resource", "NotResource"} & statement.keys():
            raise PolicyInvalid("Has prohibited field Resource")
        if "NotPrincipal" in statement:
            raise PolicyInvalid("NotPrincipal cannot be evaluated here; name a Principal")
    found = [(statement, _principals(statement["Principal"])) for statement in statements]
    return tuple(
        _compiled(statement, has_variables=has_variables, principals=principals)
        for statement, principals in found
        if principals
    )


def read(document: str) -> tuple[list[dict[str, Any]], bool]:
    """Return the statements of a document, and whether it has variables.

    Raises:
        PolicyInvalid: it is not valid.
    """
    try:
        read = msgspec.json.decode(document)
    except BAD_JSON:
        raise PolicyInvalid("This policy contains invalid Json") from None
    if not isinstance(read, dict):
        raise PolicyInvalid("This policy contains invalid Json")
    if unknown := sorted(read.keys() - _OF_DOCUMENT):
        raise PolicyInvalid(f"Syntax error: unknown element {unknown[0][:_SHOWN]}")
    version = read.get("Version", _VERSIONS[-1])
    if version not in _VERSIONS:
        raise PolicyInvalid(f"The policy must have a version of {' or '.join(_VERSIONS)}")
    given = read.get("Statement")
    statements: list[Any] = given if isinstance(given, list) else [given]
    if not statements or not all(isinstance(each, dict) for each in statements):
        raise PolicyInvalid("Syntax errors in policy: Statement must have at least one statement")
    for statement in statements:
        _check(statement)
    return statements, version == _VERSIONS[0]


def _check(statement: dict[str, Any]) -> None:
    if unknown := sorted(statement.keys() - _OF_STATEMENT):
        raise PolicyInvalid(f"Syntax error: unknown element {unknown[0][:_SHOWN]}")
    if statement.get("Effect") not in ("Allow", "Deny"):
        raise PolicyInvalid("Syntax errors in policy: Effect must be Allow or Deny")
    for one in ("Action", "Resource", "Principal"):
        if {one, f"Not{one}"} <= statement.keys():
            raise PolicyInvalid(f"Syntax errors in policy: both {one} and Not{one} are given")
    if not ({"Action", "NotAction"} & statement.keys()):
        raise PolicyInvalid("Policy statement must contain actions.")
    for name, value in statement.items():
        if not _is_valid(name, value):
            raise PolicyInvalid(f"Syntax errors in policy: the value of {name} is not valid")
    for action in _listed(statement.get("Action", statement.get("NotAction"))):
        if action != "*" and not all(action.partition(":")):
            raise PolicyInvalid(
                f"Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.: {action[:_SHOWN]}"
            )


def _is_valid(name: str, value: Any) -> bool:
    match name:
        case "Action" | "NotAction" | "Resource" | "NotResource":
            texts = _listed(value)
            return bool(texts) and all(isinstance(each, str) and each for each in texts)
        case "Principal" | "NotPrincipal":
            return value == "*" or (isinstance(value, dict) and bool(value))
        case "Condition":
            return isinstance(value, dict) and all(
                isinstance(each, dict) for each in value.values()
            )
        case _:
            return isinstance(value, str)


def _check_resources(statement: dict[str, Any]) -> None:
    for resource in _listed(statement.get("Resource", statement.get("NotResource"))):
        if resource != "*" and not resource.startswith(("arn:", "arn*", "ar*", "a*", "*")):
            raise PolicyInvalid(f'Resource {resource[:_SHOWN]} must be in ARN format or "*".')


def _foreign(statement: dict[str, Any]) -> Statement:
    """Compile a statement of other services: for whole services, conditions and variables are not needed."""
    resources = _listed(statement.get("Resource", statement.get("NotResource")))
    return Statement(
        allows=statement["Effect"] == "Allow",
        actions=Patterns(_listed(statement["Action"]), has_variables=False, ignores_case=True),
        has_actions=True,
        resources=Patterns(resources, has_variables=False),
        has_resources="NotResource" not in statement,
        services=Patterns(_prefixes(statement), has_variables=False, ignores_case=True),
        is_conditional="Condition" in statement,
        is_foreign=True,
    )


def _prefixes(statement: dict[str, Any]) -> list[str]:
    return [action.partition(":")[0].lower() for action in _listed(statement.get("Action", []))]


def _is_foreign(statement: dict[str, Any], services: Collection[str]) -> bool:
    prefixes = _prefixes(statement)
    return bool(prefixes) and all(
        not ({"*", "?"} & set(prefix)) and prefix not in services for prefix in prefixes
    )


def _principals(given: Any) -> dict[str, tuple[str, ...]]:
    """Return principals by kind, of those kinds that there are here."""
    found = {"AWS": "*", "Service": "*"} if given == "*" else given
    if unknown := sorted(found.keys() - {"AWS", "Service", "Federated", "CanonicalUser"}):
        raise PolicyInvalid(f"Unknown principal type {unknown[0][:_SHOWN]}")
    for value in found.values():
        texts = _listed(value)
        if not texts or not all(isinstance(each, str) and each for each in texts):
            raise PolicyInvalid("Syntax errors in policy: the value of Principal is not valid")
    return {kind: tuple(_listed(found[kind])) for kind in ("AWS", "Service") if kind in found}


def _compiled(
    statement: dict[str, Any],
    *,
    has_variables: bool,
    principals: Mapping[str, tuple[str, ...]] | None = None,
) -> Statement:
    in_trust = principals is not None
    resources = _listed(statement.get("Resource", statement.get("NotResource", "*")))
    conditions = tuple(_conditions(statement, in_trust=in_trust, has_variables=has_variables))
    compiled = Statement(
        allows=statement["Effect"] == "Allow",
        actions=Patterns(
            _listed(statement.get("Action", statement.get("NotAction"))),
            has_variables=False,
            ignores_case=True,
        ),
        has_actions="Action" in statement,
        resources=Patterns(resources, has_variables=has_variables),
        has_resources="NotResource" not in statement,
        conditions=conditions,
        principals=principals or {},
        services=Patterns(_prefixes(statement), has_variables=False, ignores_case=True)
        if "Action" in statement
        else None,
        is_conditional="Condition" in statement,
    )
    for key in sorted(compiled.keys):
        if not condition_keys.is_known(key, in_trust=in_trust):
            raise PolicyInvalid(
                f"The condition key or policy variable {key[:_SHOWN]} cannot be evaluated by this "
                "control endpoint; docs/access.md lists those that can"
            )
    return compiled


def _conditions(
    statement: dict[str, Any], *, in_trust: bool, has_variables: bool
) -> list[Condition]:
    found = []
    for operator, pairs in statement.get("Condition", {}).items():
        for key, values in pairs.items():
            for text in filter(lambda each: isinstance(each, str), _listed(values)):
                _check_variables(text, has_variables=has_variables)
            try:
                found.append(Condition(operator, key, values, has_variables=has_variables))
            except ConditionInvalid as error:
                raise PolicyInvalid(str(error)) from None
    for resource in _listed(statement.get("Resource", [])):
        _check_variables(resource, has_variables=has_variables)
    return found


def _check_variables(text: str, *, has_variables: bool) -> None:
    if has_variables and any("," in name for name in wildcards.variables(text)):
        raise PolicyInvalid(
            f"Default values of policy variables cannot be evaluated here: {text[:_SHOWN]}"
        )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
