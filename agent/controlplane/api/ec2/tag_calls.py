"""CreateTags and DeleteTags: of security groups and of their rules, which are all that can have tags here.

Groups are changed one after the other, as on AWS: if one is deleted meanwhile, those before it have their tags.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from agent.controlplane.api.ec2 import requests
from agent.controlplane.api.ec2.errors import (
    InvalidGroupNotFound,
    InvalidRuleIdNotFound,
    TagLimitExceeded,
    UnsupportedOperation,
)
from agent.controlplane.security_groups import stored

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.controlplane.parts import Handlers, Parts
    from agent.controlplane.security_groups.group_records import SecurityGroupRecord

    Tags = Mapping[str, str]

_SHOWN: Final = 64
_GROUP, _RULE = "sg-", "sgr-"


async def create_tags(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Set tags of groups and rules; others that they have stay."""
    requests.refuse_dry_run(request)
    given = requests.checked_tags(request["Tags"])

    def tagged(old: Tags) -> Tags:
        new = {**old, **given}
        if len(new) > requests.TAGS_MOST:
            raise TagLimitExceeded(f"A resource can have at most {requests.TAGS_MOST} tags.")
        return new

    await _change(parts, request["Resources"], tagged)
    return {}


async def delete_tags(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Remove tags: all, or those of a key, if they have the value that is given."""
    requests.refuse_dry_run(request)
    asked = {each.get("Key", ""): each.get("Value") for each in request.get("Tags", ())}

    def left(old: Tags) -> Tags:
        return {
            key: value
            for key, value in old.items()
            if asked and (key not in asked or asked[key] not in (None, value))
        }

    await _change(parts, request["Resources"], left)
    return {}


async def _change(parts: Parts, resources: Sequence[str], decide: Callable[[Tags], Tags]) -> None:
    """Change the tags of all resources, after a look whether there are all of them; raises ``ApiError``."""
    owners = await _owners(parts, resources)
    for group_id in dict.fromkeys(owners.values()):
        named = {one for one, owner in owners.items() if owner == group_id}

        def change(old: SecurityGroupRecord, named: set[str] = named) -> SecurityGroupRecord:
            rules = [
                replace(each, tags=dict(decide(each.tags))) if each.rule.id in named else each
                for each in old.rules
            ]
            tags = dict(decide(old.tags)) if old.id in named else old.tags
            return replace(old, rules=rules, tags=tags)

        await stored.change(parts.store, parts.names, group_id, change)


async def _owners(parts: Parts, resources: Sequence[str]) -> dict[str, str]:
    """Return the group that has each of the resources, by the resource's id."""
    for one in resources:
        if not one.startswith((_GROUP, _RULE)):
            raise UnsupportedOperation(
                f"'{one[:_SHOWN]}' cannot have tags on this control endpoint; security groups and their "
                "rules can."
            )
    known: dict[str, str] = {}
    for group in await stored.every(parts.store, parts.names):
        known |= dict.fromkeys([group.id, *(each.rule.id for each in group.rules)], group.id)
    for one in resources:
        if one not in known and one.startswith(_GROUP):
            raise InvalidGroupNotFound(f"The security group '{one[:_SHOWN]}' does not exist")
        if one not in known:
            raise InvalidRuleIdNotFound(
                f"The security group rule ID '{one[:_SHOWN]}' does not exist"
            )
    return {one: known[one] for one in resources}


HANDLERS: Handlers = {"CreateTags": create_tags, "DeleteTags": delete_tags}
