"""What a reload changes: the difference between two sets of settings, ready to log. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.config.addresses import without_password
from agent.config.settings import variables
from agent.config.values import SecretText

if TYPE_CHECKING:
    from agent.config import Settings

_POLICY: Final = "ECS_HOST_POLICY_FILE"
NOTHING: Final = "(none)"
_SHOWN: Final = 200
"""Maximum length of a value in a log line."""


class SettingChange(NamedTuple):
    """One setting that changed, with both values as text."""

    variable: str
    old: str
    new: str


def difference(old: Settings, new: Settings) -> list[SettingChange]:
    """Return the changed settings in the order of the table, with secrets masked.

    A changed secret is listed too.
    """
    changes = []
    is_same_file = new.host_policy_file is not None and old.host_policy_file == new.host_policy_file
    if is_same_file and old.host_policy != new.host_policy:
        told = str(new.host_policy_file)
        changes.append(SettingChange(_POLICY, told, f"{told} (its content has changed)"))
    for field_name, variable in variables().items():
        before, after = getattr(old, field_name), getattr(new, field_name)
        if before == after:
            continue
        if isinstance(before, SecretText) or isinstance(after, SecretText):
            after_text = "(new secret)" if before and after else _masked(after)
            changes.append(SettingChange(variable.name, _masked(before), after_text))
        elif variable.kind.holds_password:
            before, after = (
                _shown(without_password(str(before))),
                _shown(without_password(str(after))),
            )
            after = f"{after} (new password)" if before == after else after
            changes.append(SettingChange(variable.name, before, after))
        else:
            changes.append(SettingChange(variable.name, _shown(before), _shown(after)))
    return changes


def _masked(secret: Any) -> str:
    return "(secret)" if secret else NOTHING


def _shown(value: Any) -> str:
    if value is None or value in ("", (), {}):
        return NOTHING
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    text = str(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
