"""Settings of the agent: ``ECS_*`` variables from the environment, ``ecs.config``, and JSON.

``load`` is the only entry point. It reads files and nothing else, logs nothing, and raises
``ConfigError`` with one line per problem. The class ``Settings`` is the table of settings; a test
checks that ``docs/configuration.md`` matches it.
"""

from __future__ import annotations

from agent.config.loader import DEFAULT_FILES, json_file_of, load
from agent.config.settings import Settings
from agent.config.values import SecretText

__all__ = ["DEFAULT_FILES", "SecretText", "Settings", "json_file_of", "load"]
