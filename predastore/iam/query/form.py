"""The parameters of a request of the Query API, each read once and judged.

A parameter that no action reads is not an error, as with AWS. A list is Name.member.1,
Name.member.2 ...; a struct in it Name.member.1.Key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import parse_qsl

from predastore.base.limits import (
    IAM_FORM_FIELDS_MAX,
    IAM_PAGE_ITEMS_DEFAULT,
    IAM_PAGE_ITEMS_MAX,
    IAM_TAGS_MAX,
)
from predastore.iam import names
from predastore.iam.errors import InvalidInput
from predastore.iam.rows import Tags

_LIST_MAX: Final = 200
_PATTERN: Final = r"[\w+=,.@-]+"
TAG_KEY: Final = re.compile(r"[\w\s.:/=+@-]{1,128}")
TAG_VALUE: Final = re.compile(r"[\w\s.:/=+@-]{0,256}")


def parsed(encoded: bytes) -> dict[str, str]:
    """The fields of a form, or of a query. InvalidInput: it is none, or has one twice."""
    try:
        pairs = parse_qsl(
            encoded.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=IAM_FORM_FIELDS_MAX,
        )
    except (ValueError, UnicodeDecodeError):
        raise InvalidInput(
            f"The request is no form of at most {IAM_FORM_FIELDS_MAX} parameters in UTF-8.",
            "MalformedInput",
        ) from None
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name in fields:
            raise InvalidInput(f"The parameter {name[:64]} is given twice.", "MalformedInput")
        fields[name] = value
    return fields


class QueryForm:
    def __init__(self, fields: dict[str, str]) -> None:
        self._fields = fields

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def optional(self, name: str, default: str = "") -> str:
        return self._fields.get(name, default)

    def required(self, name: str) -> str:
        value = self._fields.get(name, "")
        if not value:
            raise invalid(name, value, "Member must not be null")
        return value

    def text(self, name: str, chars_max: int, *, default: str | None = None) -> str:
        """A parameter of at most so many characters, without those that XML can not have."""
        value = self.required(name) if default is None else self.optional(name, default)
        if len(value) > chars_max:
            raise invalid(name, "", f"Member must have length less than or equal to {chars_max}")
        if any(ord(one) < 32 and one not in "\t\n\r" for one in value):
            raise invalid(name, "", "Member must have no control characters")
        return value

    def name(self, name: str, chars_max: int = 128, *, default: str | None = None) -> str:
        """The name of something."""
        value = self.text(name, chars_max, default=default)
        if value and names.NAME.fullmatch(value) is None:
            raise invalid(
                name, value, f"Member must satisfy regular expression pattern: {_PATTERN}"
            )
        return value

    def path(self, name: str = "Path", default: str = "/") -> str:
        value = self.text(name, 512, default=default)
        if names.PATH.fullmatch(value) is None:
            raise invalid(name, value, "Member must begin and end with a slash")
        return value

    def path_prefix(self) -> str:
        """Of a listing: what begins so is wanted."""
        value = self.text("PathPrefix", 512, default="/")
        if not value.startswith("/"):
            raise invalid("PathPrefix", value, "Member must begin with a slash")
        return value

    def number(self, name: str, default: int, least: int, most: int) -> int:
        value = self._fields.get(name, "")
        if not value:
            return default
        number = int(value) if value.isascii() and value.isdigit() and len(value) < 10 else -1
        if not least <= number <= most:
            raise invalid(name, value, f"Member must be from {least} to {most}")
        return number

    def flag(self, name: str) -> bool:
        value = self._fields.get(name, "false").lower()
        if value not in ("true", "false"):
            raise invalid(name, value, "Member must be true or false")
        return value == "true"

    def choice(self, name: str, choices: tuple[str, ...], default: str | None = None) -> str:
        value = self.required(name) if default is None else self.optional(name, default)
        if value not in choices:
            raise invalid(
                name, value, f"Member must satisfy enum value set: [{', '.join(choices)}]"
            )
        return value

    def page_items(self) -> int:
        return self.number("MaxItems", IAM_PAGE_ITEMS_DEFAULT, 1, IAM_PAGE_ITEMS_MAX)

    def members(self, name: str) -> tuple[str, ...]:
        """A list of texts; () where it is not given."""
        return tuple(self._fields[one] for one in self._places(name, ""))

    def tags(self) -> Tags:
        """Tags.member.N.Key and .Value."""
        found = {}
        for place in self._places("Tags", ".Key"):
            key = self._fields[place]
            value = self._fields.get(f"{place.removesuffix('.Key')}.Value", "")
            if TAG_KEY.fullmatch(key) is None or TAG_VALUE.fullmatch(value) is None:
                raise invalid("tags", key, "Member must be a tag")
            if key.lower() in found:
                raise InvalidInput(
                    "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
                    "InvalidInput",
                )
            found[key.lower()] = (key, value)
        if len(found) > IAM_TAGS_MAX:
            raise invalid(
                "tags", "", f"Member must have length less than or equal to {IAM_TAGS_MAX}"
            )
        return tuple(found.values())

    def _places(self, name: str, rest: str) -> Iterator[str]:
        number = 1
        while (place := f"{name}.member.{number}{rest}") in self._fields:
            if number > _LIST_MAX:
                raise invalid(
                    name, "", f"Member must have length less than or equal to {_LIST_MAX}"
                )
            yield place
            number += 1


def invalid(name: str, value: str, why: str) -> InvalidInput:
    """In AWS's words."""
    shown = f" '{value[:64]}'" if value else ""
    at = name[:1].lower() + name[1:]
    return InvalidInput(
        f"1 validation error detected: Value{shown} at '{at}' failed to satisfy constraint: {why}"
    )
