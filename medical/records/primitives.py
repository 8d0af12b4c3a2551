"""FHIR's primitive types: what a value of each looks like in JSON. Source: https://hl7.org/fhir/R4/datatypes.html."""

import re
from calendar import monthrange
from collections.abc import Callable
from decimal import Decimal

YEAR = r"([0-9]([0-9]([0-9][1-9]|[1-9]0)|[1-9]00)|[1-9]000)"
MONTH, DAY = r"(0[1-9]|1[0-2])", r"(0[1-9]|[1-2][0-9]|3[0-1])"
TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?"
ZONE = r"(Z|[+-]((0[0-9]|1[0-3]):[0-5][0-9]|14:00))"

PATTERNS = {
    "canonical": r"\S+",
    "code": r"[^\s]+( [^\s]+)*",
    "date": rf"{YEAR}(-{MONTH}(-{DAY})?)?",
    "dateTime": rf"{YEAR}(-{MONTH}(-{DAY}(T{TIME}{ZONE})?)?)?",
    "id": r"[A-Za-z0-9\-.]{1,64}",
    "instant": rf"{YEAR}-{MONTH}-{DAY}T{TIME}{ZONE}",
    "markdown": r"[\s\S]*\S[\s\S]*",
    "oid": r"urn:oid:[0-2](\.(0|[1-9][0-9]*))+",
    "string": r"[\s\S]*\S[\s\S]*",
    "time": TIME,
    "uri": r"\S+",
    "url": r"\S+",
    "uuid": r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "xhtml": r"<div[\s\S]*>",
}
INTEGERS = {"integer": (-(2**31), 2**31 - 1), "positiveInt": (1, 2**31 - 1), "unsignedInt": (0, 2**31 - 1)}
DATED = frozenset({"date", "dateTime", "instant"})
LONGEST = 1024 * 1024
"""So long a string may be, in characters."""
MOST_DIGITS, LARGEST_EXPONENT = 100, 300
"""Of a decimal; the database keeps what is within exactly."""

WHITE = dict.fromkeys(map(ord, " \t\r\n"))
BASE64 = re.compile(r"[0-9a-zA-Z+/]+={0,2}").fullmatch

Check = Callable[[object], str | None]
"""What is wrong with a value, or nothing."""


def _text(name: str) -> Check:
    matches = re.compile(PATTERNS[name], re.ASCII).fullmatch
    short = name in ("string", "markdown")
    dated = name in DATED

    def check(value: object) -> str | None:
        if not isinstance(value, str):
            return "must be a string"
        if short:
            if not value or value.isspace():
                return "must not be empty"
        elif not matches(value):
            return f"is no {name}"
        if len(value) > LONGEST:
            return f"must have at most {LONGEST} characters"
        if dated and len(value) >= 10 and int(value[8:10]) > monthrange(int(value[:4]), int(value[5:7]))[1]:
            return "is no day of the calendar"
        return None

    return check


def _base64(value: object) -> str | None:
    if not isinstance(value, str):
        return "must be a string"
    packed = value.translate(WHITE)
    return None if packed and len(packed) % 4 == 0 and BASE64(packed) else "is no base64"


def _integer(name: str) -> Check:
    least, most = INTEGERS[name]

    def check(value: object) -> str | None:
        if type(value) is not int:
            return "must be an integer"
        return None if least <= value <= most else f"must be between {least} and {most}"

    return check


def _boolean(value: object) -> str | None:
    return None if value is True or value is False else "must be true or false"


def _decimal(value: object) -> str | None:
    if type(value) is int:
        return None if -(10**MOST_DIGITS) < value < 10**MOST_DIGITS else "has too many digits"
    if not isinstance(value, Decimal):
        return "must be a number"
    _, digits, exponent = value.as_tuple()
    fits = isinstance(exponent, int) and abs(exponent) <= LARGEST_EXPONENT and len(digits) <= MOST_DIGITS
    return None if fits else "has too many digits"


CHECKS: dict[str, Check] = {
    "base64Binary": _base64,
    "boolean": _boolean,
    "decimal": _decimal,
    **{name: _integer(name) for name in INTEGERS},
    **{name: _text(name) for name in PATTERNS},
}
"""By the name of the type."""
