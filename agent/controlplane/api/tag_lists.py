"""Tags as most APIs have them: a list of ``Key`` and ``Value``. Pure.

Source of the rules: "Tag naming limits and requirements" in the guide to tagging AWS resources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.controlplane.agents.host_rules import TAG

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from agent.controlplane.front.errors import ApiError

TAGS_MOST: Final = 50
KEY_MOST, VALUE_MOST = 128, 256
"""Characters."""


def merged(
    old: Mapping[str, str],
    given: Iterable[Mapping[str, str]],
    *,
    invalid: Callable[[str], ApiError],
    too_many: Callable[[str], ApiError] | None = None,
) -> dict[str, str]:
    """Return the tags of something after those of a request were set.

    Args:
        old: its tags so far.
        given: the list of the request.
        invalid: makes the error for a tag that breaks the rules.
        too_many: makes the error for more than 50; ``invalid`` if the API has no other.

    Raises:
        ApiError: one of these.
    """
    found = dict(old)
    for tag in given:
        key, value = tag.get("Key", ""), tag.get("Value", "")
        if not 1 <= len(key) <= KEY_MOST or len(value) > VALUE_MOST:
            raise invalid(
                f"The key of a tag must have 1 to {KEY_MOST} characters, its value at most {VALUE_MOST}."
            )
        if key.lower().startswith("aws:"):
            raise invalid("The key of a tag must not begin with aws:, which is reserved.")
        if not TAG.pattern.fullmatch(key) or not TAG.pattern.fullmatch(value):
            raise invalid(f"The tag {key!a} may have {TAG.words}.")
        found[key] = value
    if len(found) > TAGS_MOST:
        raise (too_many or invalid)(f"There can be at most {TAGS_MOST} tags.")
    return found


def without(old: Mapping[str, str], keys: Collection[str]) -> dict[str, str]:
    """Return tags without those of some keys; keys that are not there are ignored, as on AWS."""
    return {key: value for key, value in old.items() if key not in keys}


def shown(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags as a response lists them, by key."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
