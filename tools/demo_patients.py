"""Make `medical/cli/demo_patients.json` from a folder of Synthea bundles (gzip-compressed FHIR R4 JSON).

    python tools/demo_patients.py FOLDER > medical/cli/demo_patients.json

The same folder gives the same file. `medical/cli/DEMO_DATA.md` says what is taken from where.
"""

import gzip
import json
import random
import re
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

PEOPLE = 40
SEED = 20190531
OLDEST, YOUNGEST = date(1938, 1, 1), date(2015, 12, 31)
NUMBERS = ("MR", "SS", "DL")
"""Record number, social security number and driver's licence, by the codes of HL7 table 0203."""


def main(folder: Path) -> None:
    """Write the patients of the bundles to standard output, filled up to forty with practitioners."""
    patients = [patient(one) for one in resources(folder, "*.json.gz", "Patient")]
    practitioners = list(resources(folder, "*practitionerInformation*.json.gz", "Practitioner"))
    patients += filled_up(practitioners, PEOPLE - len(patients))
    sys.stdout.buffer.write(readable(patients).encode())


def resources(folder: Path, pattern: str, kind: str) -> Iterator[dict[str, Any]]:
    """The resources of one type in the bundles whose names fit, in their order."""
    for file in sorted(folder.glob(pattern)):
        bundle = json.loads(gzip.decompress(file.read_bytes()))
        yield from (entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind)


def patient(resource: dict[str, Any]) -> dict[str, Any]:
    """A FHIR Patient as our columns have it."""
    made = person(resource) | {"birth_date": resource["birthDate"]}
    if died := resource.get("deceasedDateTime"):
        made["deceased"] = died[:10]
    return made | {
        "address": address(resource["address"][0]),
        "phone": resource["telecom"][0]["value"],
        "identifiers": [
            {"system": one["system"], "value": one["value"]}
            for one in resource["identifier"]
            if one.get("type", {}).get("coding", [{}])[0].get("code") in NUMBERS
        ],
    }


def filled_up(practitioners: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """``count`` of the practitioners as patients, each with a birth date that is drawn, not taken."""
    draw = random.Random(SEED)  # noqa: S311 - chooses examples, not secrets
    distinct = {one["address"][0]["city"]: one for one in reversed(practitioners)}
    made = []
    for chosen in draw.sample([distinct[city] for city in sorted(distinct)], count):
        born = OLDEST + timedelta(days=draw.randrange((YOUNGEST - OLDEST).days))
        made.append(
            person(chosen)
            | {
                "birth_date": born.isoformat(),
                "address": address(chosen["address"][0]),
                "email": plain(chosen["telecom"][0]["value"]).lower(),
                "identifiers": [{"system": one["system"], "value": one["value"]} for one in chosen["identifier"]],
            }
        )
    return made


def person(resource: dict[str, Any]) -> dict[str, Any]:
    """The name without the digits that Synthea appends to it, and the sex."""
    name = resource["name"][0]
    return {
        "given_name": plain(" ".join(name["given"])),
        "family_name": plain(name["family"]),
        "sex": resource["gender"],
    }


def plain(text: str) -> str:
    """``text`` without digits."""
    return re.sub(r"\d", "", text)


def address(given: dict[str, Any]) -> dict[str, Any]:
    """A FHIR Address as ours; what the source writes in capitals is written as names are."""
    parts = {
        "line": [titled(line) for line in given["line"]],
        "city": titled(given["city"]),
        "state": given["state"],
        "postal_code": given.get("postalCode"),
        "country": given["country"],
    }
    return {name: value for name, value in parts.items() if value}


def titled(text: str) -> str:
    """``text`` with capitals at the beginning of words only, if it is all capitals."""
    return text.title() if text.isupper() else text


def readable(patients: list[dict[str, Any]]) -> str:
    """JSON with a line for each fact about a patient."""
    blocks = [
        ",\n".join(f"    {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in one.items())
        for one in patients
    ]
    return "[\n" + ",\n".join(f"  {{\n{block}\n  }}" for block in blocks) + "\n]\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tools/demo_patients.py FOLDER > medical/cli/demo_patients.json")
    main(Path(sys.argv[1]))
