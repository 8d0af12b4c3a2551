"""Rules of FHIR's general datatypes, in Python because they are everywhere.

Source: the constraints of https://hl7.org/fhir/R4/datatypes.html, by whose keys they are named.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

Json = dict[str, Any]
NUMBER = int | Decimal


def _extension(value: Json) -> str | None:
    has_value = any(name.startswith(("value", "_value")) for name in value)
    return "ext-1: must have either extensions or a value, not both" if has_value == ("extension" in value) else None


def _period(value: Json) -> str | None:
    """Times of one day are not compared: they may be of two zones."""
    start, end = value.get("start", ""), value.get("end", "")
    length = min(len(start), len(end), 10)
    return "per-1: the start must not be after the end" if start[:length] > end[:length] else None


def _quantity(value: Json) -> str | None:
    return "qty-3: a code needs a system" if "code" in value and "system" not in value else None


def _range(value: Json) -> str | None:
    low, high = value.get("low", {}), value.get("high", {})
    numbers = low.get("value"), high.get("value")
    if not all(isinstance(one, NUMBER) for one in numbers) or low.get("code") != high.get("code"):
        return None
    return "rng-2: the low value must not be above the high one" if numbers[0] > numbers[1] else None


def _ratio(value: Json) -> str | None:
    both, extended = ("numerator" in value) == ("denominator" in value), "extension" in value
    fits = both and ("numerator" in value or extended)
    return None if fits else "rat-1: must have numerator and denominator, or neither and an extension"


def _attachment(value: Json) -> str | None:
    return "att-1: data need a content type" if "data" in value and "contentType" not in value else None


def _contact_point(value: Json) -> str | None:
    return (
        "cpt-2: a value needs a system" if "value" in value and not ("system" in value or "_system" in value) else None
    )


RULES: dict[str, Callable[[Json], str | None]] = {
    "Age": _quantity,
    "Attachment": _attachment,
    "ContactPoint": _contact_point,
    "Count": _quantity,
    "Distance": _quantity,
    "Duration": _quantity,
    "Extension": _extension,
    "Period": _period,
    "Quantity": _quantity,
    "Range": _range,
    "Ratio": _ratio,
}
"""By type: what is wrong with a value whose form is right, or nothing."""
KEYS = ("att-1", "cpt-2", "ext-1", "per-1", "qty-3", "rat-1", "rng-2")
"""The rules that are here."""
