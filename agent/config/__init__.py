"""Settings of the agent: ``ECS_*`` variables from the environment, ``ecs.config``, and JSON.

``load`` is the only entry point. It reads files and nothing else, logs nothing, and raises
``ConfigError`` with one line per problem. ``Settings`` is frozen and is the table of settings; a
test checks that ``docs/configuration.md`` matches it.

::

    settings.py        the table: variable, syntax, default and text of each setting
    values.py          the syntaxes
    contradictions.py  rules between settings
    joining.py         its first part: identity of the host, endpoint of control, what the host offers
    amazon.py          every setting of Amazon's agent, and what becomes of it here

Tests: ``tests/unit/config``.
"""

from __future__ import annotations

from agent.config.loader import DEFAULT_FILES, json_file_of, load
from agent.config.settings import Settings
from agent.config.values import SecretText

__all__ = ["DEFAULT_FILES", "SecretText", "Settings", "json_file_of", "load"]
