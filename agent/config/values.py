"""Value syntax of settings: each ``Kind`` turns text into one typed value.

Those of networks are in ``network_values``. Pure. A parser raises a ``ValueError`` that says what is wrong and how to fix it, without the value
(``loader`` adds it unless the setting is a secret). Source of the syntax: the Amazon ECS agent
1.105.1 (Go ``ParseBool``, Go durations, strict JSON). Where that agent warns and uses a default,
this one refuses the value, because a typing error must not silently change a host.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.config import addresses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_UNIT_S = {
    "ns": 1e-9,
    "us": 1e-6,
    "\N{MICRO SIGN}s": 1e-6,
    "\N{GREEK SMALL LETTER MU}s": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_DURATION_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)")
_NAME_TEXT = re.compile(r"[A-Za-z0-9_.:/@+-]{1,128}")
_REGION = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_BLANK = re.compile(r"\s")
_CLUSTER = re.compile(
    r"(arn:[a-z0-9-]+:ecs:[a-z0-9-]*:[0-9]*:cluster/)?[A-Za-z0-9][A-Za-z0-9_-]{0,254}"
)
_ATTRIBUTE_NAME = re.compile(r"[A-Za-z0-9_./\\-]{1,128}")
_ATTRIBUTE_VALUE = re.compile(r"[A-Za-z0-9_.:/@\\\- ]{0,128}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_MAP_EXAMPLE = '{"rack": "a1"}'
_TAGS_LIMIT = 50
LOGGING_DRIVERS = frozenset(
    [
        "awsfirelens",
        "awslogs",
        "fluentd",
        "gelf",
        "journald",
        "json-file",
        "local",
        "logentries",
        "none",
        "splunk",
        "syslog",
    ]
)


@dataclass(frozen=True, slots=True)
class Kind:
    """One value syntax: its name in the documentation, and its parser."""

    label: str
    parse: Callable[[str], Any]
    secret: bool = False
    """Whether the text must not be shown, even if it is invalid."""
    holds_password: bool = False
    """Whether it is a URL that may contain a password."""


class SecretText:
    """Text that must not be shown; only ``reveal`` returns it."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the secret itself; never log or store it."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretText) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        """Hide the secret from logs and tracebacks; ``str`` does the same."""
        return "SecretText(***)" if self._text else "SecretText()"


def parse_bool(text: str) -> bool:
    """Parse a boolean as Go's ``strconv.ParseBool`` does."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("is not a boolean; write true or false")


def parse_duration_s(text: str) -> float:
    """Parse a Go duration (``300ms``, ``1h30m``, ``1.5h``, ``0``) into seconds."""
    body = text.removeprefix("+")
    if body == "0":
        return 0.0
    if body.startswith("-"):
        raise ValueError("is a negative duration; write zero or more")
    total, at = 0.0, 0
    while part := _DURATION_PART.match(body, at):
        total += float(part[1]) * _UNIT_S[part[2]]
        at = part.end()
    if at == 0 or at != len(body):
        if re.fullmatch(r"[0-9.]+", body):
            raise ValueError(f"is a duration without a unit; write {body}s, {body}m or {body}h")
        raise ValueError("is not a duration; write for example 30s, 10m or 1h30m")
    return total


def parse_int(text: str) -> int:
    """Parse a decimal integer."""
    if re.fullmatch(r"[+-]?[0-9]{19,}", text):
        raise ValueError("is too large; write a smaller number")
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise ValueError("is not an integer; write only decimal digits")
    return int(text)


def parse_float(text: str) -> float:
    """Parse a decimal number."""
    if not re.fullmatch(r"[+-]?([0-9]{1,18}(\.[0-9]*)?|\.[0-9]+)", text):
        raise ValueError("is not a number; write for example 5 or 2.5")
    return float(text)


def parse_string_map(text: str) -> dict[str, str]:
    """Parse a JSON object whose values are all strings."""
    value = parse_json(text, example=_MAP_EXAMPLE)
    if not isinstance(value, dict):
        raise ValueError(f"is not a JSON object; write for example {_MAP_EXAMPLE}")  # noqa: TRY004
    for key, item in value.items():
        if not isinstance(item, str):
            raise ValueError(  # noqa: TRY004 - parsers only raise ValueError
                f'has a value that is not a string at "{key}"; put it in double quotes'
            )
    return value


def parse_attributes(text: str) -> dict[str, str]:
    """Parse a JSON object of attributes."""
    found = parse_string_map(text)
    check_attributes(found)
    return found


def check_attributes(attributes: Mapping[str, str]) -> None:
    """Raise ``ValueError`` unless ECS accepts these as attributes of a container instance."""
    for name, value in attributes.items():
        if not _ATTRIBUTE_NAME.fullmatch(name):
            raise ValueError(
                f"has the name {name[:140]!r}; attribute names have 1 to 128 letters, digits or "
                "_ . / -"
            )
        if not _ATTRIBUTE_VALUE.fullmatch(value) or value != value.strip():
            raise ValueError(
                f"has the value {value[:140]!r} for {name}; attribute values have at most 128 "
                "letters, digits, blanks or _ . : / @ -, and no blanks at either end"
            )


def parse_tags(text: str) -> dict[str, str]:
    """Parse a JSON object of tags, by the rules of AWS."""
    found = parse_string_map(text)
    if len(found) > _TAGS_LIMIT:
        raise ValueError(f"has {len(found)} tags; a resource has at most {_TAGS_LIMIT}")
    for key, value in found.items():
        if not 0 < len(key) <= 128 or key.lower().startswith("aws:"):
            raise ValueError(
                f"has the key {key[:140]!r}; tag keys have 1 to 128 characters and do not begin "
                "with aws:"
            )
        if len(value) > 256:
            raise ValueError(f"has a value of {len(value)} characters for {key}; use at most 256")
    return found


def parse_logging_drivers(text: str) -> tuple[str, ...]:
    """Parse a JSON list of log driver names that ECS knows."""
    names = parse_string_list(text, example='["json-file", "none"]')
    for name in names:
        if name not in LOGGING_DRIVERS:
            known = ", ".join(sorted(LOGGING_DRIVERS))
            raise ValueError(f'contains the unknown log driver "{name}"; known drivers: {known}')
    return names


def parse_volume_plugin_capabilities(text: str) -> tuple[str, ...]:
    """Parse a JSON list of what Amazon's volume plugin can do."""
    names = parse_string_list(text, example='["efsAuth"]')
    for name in names:
        if name != "efsAuth":
            raise ValueError(f'contains the unknown capability "{name}"; only efsAuth is known')
    return names


def parse_request_rate(text: str) -> tuple[int, int]:
    """Parse ``steady,burst``, requests per second and how many at once."""
    match = re.fullmatch(r"([0-9]{1,6}),([0-9]{1,6})", text.replace(" ", ""))
    if match is None or not int(match[1]) or not int(match[2]):
        raise ValueError("is not two numbers above 0; write for example 40,60")
    return int(match[1]), int(match[2])


def parse_text(text: str) -> str:
    """Parse one line of text."""
    if not text.isprintable():
        raise ValueError("contains a control character; remove it")
    return text


def parse_name(text: str) -> str:
    """Parse a name without blanks, for example of a profile or an operating system."""
    if not _NAME_TEXT.fullmatch(text):
        raise ValueError("is not a valid name; use at most 128 letters, digits, dots, dashes and _")
    return text


def parse_region(text: str) -> str:
    """Parse the name of an AWS region, which becomes part of host names."""
    if not _REGION.fullmatch(text):
        raise ValueError("is not a region; write for example eu-central-1")
    return text


def parse_secret(text: str) -> SecretText:
    """Check that a secret is one word, and hide it."""
    if not text.isprintable() or _BLANK.search(text):
        raise ValueError("contains a blank or a control character; remove it")
    return SecretText(text)


def parse_path(text: str) -> Path:
    """Parse an absolute path."""
    if not text.startswith("/") or "\0" in text:
        raise ValueError("is not an absolute path; start it with /")
    return Path(text)


def parse_cluster(text: str) -> str:
    """Parse a cluster's name or ARN."""
    if not _CLUSTER.fullmatch(text):
        raise ValueError(
            "is not a cluster name or ARN; use letters, digits, dashes and underscores"
        )
    return text


def parse_headers(text: str) -> SecretText:
    """Check that a secret is a JSON object of HTTP headers, and hide it."""
    example = '{"api-key": "secret"}'
    found = parse_json(text, example=example)
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise ValueError(f"is not a JSON object of strings; write for example {example}")
    for name, value in found.items():
        if not _HEADER_NAME.fullmatch(name) or not (value.isascii() and value.isprintable()):
            raise ValueError("has a header that HTTP does not allow; use printable ASCII")
    return SecretText(text)


def parse_json_secret(text: str) -> SecretText:
    """Check that a secret is a JSON object, and hide it."""
    example = '{"registry.example": {"username": "me", "password": "secret"}}'
    if not isinstance(parse_json(text, example=example), dict):
        raise ValueError(f"is not a JSON object; write for example {example}")  # noqa: TRY004
    return SecretText(text)


def choice(*words: str) -> Kind:
    """Return the kind that accepts one of the words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"is not one of {', '.join(words)}")
        return text

    return Kind(label=" \\| ".join(f"`{word}`" for word in words), parse=parse)


def parse_json(text: str, *, example: str) -> Any:
    """Parse any JSON; ``example`` says in the error what to write."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"is not valid JSON ({error.msg} at character {error.pos + 1}); "
            f"write for example {example}"
        ) from None
    except RecursionError:
        raise ValueError("is JSON nested too deeply") from None


def parse_string_list(text: str, *, example: str) -> tuple[str, ...]:
    """Parse a JSON list of strings; ``example`` says in the error what to write."""
    value = parse_json(text, example=example)
    if not isinstance(value, list) or any(not isinstance(item, str) for item in value):
        raise ValueError(f"is not a JSON list of strings; write for example {example}")
    return tuple(value)


BOOL = Kind("boolean", parse_bool)
DURATION = Kind("duration", parse_duration_s)
INT = Kind("integer", parse_int)
NUMBER = Kind("number", parse_float)
ATTRIBUTES = Kind("JSON map", parse_attributes)
TAGS = Kind("JSON map", parse_tags)
LOG_DRIVERS = Kind("JSON list of drivers", parse_logging_drivers)
VOLUME_PLUGIN_CAPABILITIES = Kind("JSON list of capabilities", parse_volume_plugin_capabilities)
REQUEST_RATE = Kind("`steady,burst`", parse_request_rate)
URL = Kind("http(s) URL", addresses.parse_url)
METADATA_URL = Kind("http(s) URL", addresses.parse_metadata_url)
DOCKER_HOST = Kind("engine address", addresses.parse_docker_host)
PATH = Kind("path", parse_path)
CLUSTER = Kind("name or ARN", parse_cluster)
HEADERS = Kind("JSON map, secret", parse_headers, secret=True)
JSON_SECRET = Kind("JSON, secret", parse_json_secret, secret=True)
SECRET = Kind("text, secret", parse_secret, secret=True)
TEXT = Kind("text", parse_text)
NAME = Kind("name", parse_name)
REGION = Kind("region", parse_region)
BACKEND = Kind("host or http(s) URL", addresses.parse_backend)
PROXY = Kind("proxy", addresses.parse_proxy, holds_password=True)
