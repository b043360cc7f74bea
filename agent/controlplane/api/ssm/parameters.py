"""Parameters: put, get, delete and describe; also those below a path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.api import name_pages
from agent.controlplane.api.ssm import names as parameter_names
from agent.controlplane.api.ssm import tags
from agent.controlplane.api.ssm.errors import (
    InvalidFilterKey,
    InvalidFilterOption,
    ParameterNotFound,
    ParameterVersionNotFound,
    ValidationException,
)
from agent.controlplane.authorization import caller
from agent.controlplane.secrets import parameters
from agent.controlplane.secrets.parameters import SECURE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from agent.controlplane.names import Names
    from agent.controlplane.parts import Handlers, Parts
    from agent.controlplane.secrets.secret_records import ParameterRecord

VALUE_MOST: Final = 8192
"""Characters, as in the advanced tier; there is only one tier here."""
NAMES_MOST: Final = 10
PAGE_MOST: Final = 50
_NOT_SERVED: Final = {
    "KeyId": "control encrypts with its own key",
    "AllowedPattern": "check values before you store them",
    "Policies": "parameters do not expire here; delete them",
}


async def put_parameter(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Store the next value of a parameter."""
    name, value = request["Name"], request["Value"]
    parameter_names.check(name)
    if not 1 <= len(value) <= VALUE_MOST:
        raise ValidationException(
            f"The value of a parameter must have 1 to {VALUE_MOST} characters."
        )
    for member, mend in _NOT_SERVED.items():
        if request.get(member):
            raise ValidationException(f"'{member}' is not supported: {mend}. Leave it out.")
    if request.get("Tier", "Standard") == "Advanced":
        raise ValidationException("'Tier' Advanced is not supported: leave it out.")
    if request.get("DataType", "text") != "text":
        raise ValidationException("'DataType' can only be text; leave it out.")
    if request.get("Tags") and request.get("Overwrite"):
        raise ValidationException(
            "Invalid request: tags and overwrite can't be used together. To create a parameter with tags, "
            "leave out overwrite; to change the tags of one, use AddTagsToResource."
        )
    stored = await parameters.put(
        parts.keeper(),
        name,
        value,
        kind=request.get("Type", ""),
        description=request.get("Description"),
        overwrite=bool(request.get("Overwrite")),
        tags=tags.with_tags({}, request.get("Tags", ())),
        now=parts.clock(),
        by=caller.principal(parts.names),
    )
    return {"Version": stored.version, "Tier": "Standard"}


async def get_parameter(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return a parameter, decrypted if asked for."""
    asked = parameter_names.asked(request["Name"], parts.names)
    record = await _find(parts, asked)
    if record is None:
        raise ParameterNotFound(f"Parameter {request['Name'][:256]} not found.")
    if not _is_version(record, asked.selector):
        raise ParameterVersionNotFound(
            f"Systems Manager could not find version {asked.selector[1:65]} of {record.name}. Only the "
            f"newest version, {record.version}, is kept here."
        )
    return {"Parameter": _shown(parts, record, asked.selector, _is_decrypted(request))}


async def get_parameters(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters that exist, and the names of those that do not."""
    found, invalid = [], []
    for given in _at_most_ten(request["Names"]):
        try:
            asked = parameter_names.asked(given, parts.names)
        except ParameterNotFound:
            invalid.append(given)
            continue
        record = await _find(parts, asked)
        if record is None or not _is_version(record, asked.selector):
            invalid.append(given)
        else:
            found.append(_shown(parts, record, asked.selector, _is_decrypted(request)))
    return {"Parameters": found, "InvalidParameters": invalid}


async def delete_parameter(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete a parameter."""
    if not await _delete(parts, request["Name"]):
        raise ParameterNotFound(f"Parameter {request['Name'][:256]} not found.")
    return {}


async def delete_parameters(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete the parameters that exist."""
    deleted: list[str] = []
    invalid: list[str] = []
    for given in _at_most_ten(request["Names"]):
        (deleted if await _delete(parts, given) else invalid).append(given)
    return {"DeletedParameters": deleted, "InvalidParameters": invalid}


async def get_parameters_by_path(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters below a level of names, or on the next level alone."""
    path = request["Path"]
    if not path.startswith("/"):
        raise ValidationException(
            "The parameter path must begin with / and have / between its levels."
        )
    for item in request.get("ParameterFilters", ()):
        if item["Key"] != "Type":
            raise InvalidFilterKey(
                f"The filter {item['Key'][:64]} is not supported by GetParametersByPath; use Type."
            )
    below = {
        "Key": "Path",
        "Option": "Recursive" if request.get("Recursive") else "OneLevel",
        "Values": [path],
    }
    found, next_token = await _page(
        parts,
        "GetParametersByPath",
        request,
        asked=("Path", "Recursive", "ParameterFilters"),
        filters=[below, *request.get("ParameterFilters", ())],
        most=NAMES_MOST,
    )
    is_decrypted = _is_decrypted(request)
    return {
        "Parameters": [_shown(parts, record, "", is_decrypted) for record in found],
        "NextToken": next_token,
    }


async def describe_parameters(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """List parameters by name, without values."""
    if request.get("Shared"):
        raise ValidationException("'Shared' is not supported: nothing is shared here.")
    found, next_token = await _page(
        parts,
        "DescribeParameters",
        request,
        asked=("Filters", "ParameterFilters"),
        filters=_filters(request),
        most=PAGE_MOST,
    )
    shown = [_described(record, parts.names) for record in found]
    return {"Parameters": shown, "NextToken": next_token}


async def _page(
    parts: Parts,
    operation: str,
    request: Mapping[str, Any],
    *,
    asked: Sequence[str],
    filters: Sequence[Mapping[str, Any]],
    most: int,
) -> tuple[list[ParameterRecord], str | None]:
    """Return a page of the parameters that pass all filters, and the token of the next one."""
    size = request.get("MaxResults", most)
    if not 1 <= size <= most:
        raise ValidationException(f"MaxResults must be between 1 and {most}.")
    keeper = parts.keeper()
    tests = [_one_filter(item) for item in filters]
    return await name_pages.page(
        operation,
        request,
        filters=asked,
        size=size,
        every=lambda after: parameters.every(keeper, start_after=after),
        is_wanted=lambda record: all(test(record) for test in tests),
        place=lambda one: one.name,
    )


async def _find(parts: Parts, asked: parameter_names.Asked) -> ParameterRecord | None:
    find = parameters.find_by_arn_name if asked.is_of_arn else parameters.find
    return await find(parts.keeper(), asked.name)


async def _delete(parts: Parts, given: str) -> bool:
    try:
        asked = parameter_names.asked(given, parts.names)
    except ParameterNotFound:
        return False
    record = await _find(parts, asked)
    if record is None or asked.selector:
        return False
    return await parameters.delete(parts.keeper(), record.name)


def _is_version(record: ParameterRecord, selector: str) -> bool:
    return selector in ("", f":{record.version}")


def _is_decrypted(request: Mapping[str, Any]) -> bool:
    return bool(request.get("WithDecryption"))


def _shown(
    parts: Parts, record: ParameterRecord, selector: str, is_decrypted: bool
) -> dict[str, Any]:
    is_open = is_decrypted or record.type != SECURE
    return {
        "Name": record.name,
        "Type": record.type,
        "Value": (parameters.value_of(parts.keeper(), record) if is_open else record.value.text),
        "Version": record.version,
        "Selector": selector or None,
        "LastModifiedDate": record.modified_at,
        "ARN": parts.names.parameter(record.name),
        "DataType": "text",
    }


def _described(record: ParameterRecord, names: Names) -> dict[str, Any]:
    return {
        "Name": record.name,
        "ARN": names.parameter(record.name),
        "Type": record.type,
        "LastModifiedDate": record.modified_at,
        "LastModifiedUser": record.modified_by or names.root(),
        "Description": record.description or None,
        "Version": record.version,
        "Tier": "Standard",
        "DataType": "text",
    }


def _at_most_ten(given: list[str]) -> list[str]:
    if not 1 <= len(given) <= NAMES_MOST:
        raise ValidationException(f"Names must have between 1 and {NAMES_MOST} items.")
    return list(dict.fromkeys(given))


def _filters(request: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the filters that a request asks for; raises ``InvalidFilterKey``."""
    found: list[Mapping[str, Any]] = list(request.get("ParameterFilters", ()))
    # The older kind of filters, which has no options.
    for item in request.get("Filters", ()):
        if item["Key"] not in ("Name", "Type"):
            raise InvalidFilterKey(f"The filter {item['Key'][:64]} is not supported.")
        option = "BeginsWith" if item["Key"] == "Name" else "Equals"
        found.append({**item, "Option": option})
    return found


def _one_filter(item: Mapping[str, Any]) -> Callable[[ParameterRecord], bool]:
    key, values = item["Key"], item.get("Values", [])
    option = item.get("Option", "Recursive" if key == "Path" else "Equals")
    options = {
        "Name": {"Equals", "BeginsWith", "Contains"},
        "Type": {"Equals"},
        "Path": {"Recursive", "OneLevel"},
    }
    if key not in options:
        raise InvalidFilterKey(f"The filter {key[:64]} is not supported; use Name, Type or Path.")
    if option not in options[key]:
        raise InvalidFilterOption(f"The filter {key} has no option {option[:64]}.")

    def test(record: ParameterRecord) -> bool:
        if key == "Type":
            return record.type in values
        return any(_matches(record.name, option, value) for value in values)

    return test


def _matches(name: str, option: str, value: str) -> bool:
    match option:
        case "Equals":
            return name == value
        case "BeginsWith":
            return name.startswith(value)
        case "Contains":
            return value in name
        case _:
            # A name without levels is on the first one.
            full = name if name.startswith("/") else f"/{name}"
            rest = full.removeprefix(f"{value.rstrip('/')}/")
            return rest != full and (option == "Recursive" or "/" not in rest)


HANDLERS: Handlers = {
    "PutParameter": put_parameter,
    "GetParameter": get_parameter,
    "GetParameters": get_parameters,
    "GetParametersByPath": get_parameters_by_path,
    "DeleteParameter": delete_parameter,
    "DeleteParameters": delete_parameters,
    "DescribeParameters": describe_parameters,
}
