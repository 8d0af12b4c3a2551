"""What the demo's patients have in their records, taken from the bundles that they come from.

``PYTHONPATH=. python tools/demo_records.py FOLDER > medical/cli/demo_records.json.gz``, where ``FOLDER`` holds the
gzip-compressed bundles that ``tools/demo_patients.py`` reads. The same bundles give the same file.

Billing, documents and provenance are left out.
"""

import gzip
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medical.records.codec import decode, encode

Json = dict[str, Any]
CLINICAL = (
    *("AllergyIntolerance", "CarePlan", "Condition", "DiagnosticReport", "Encounter", "Goal", "ImagingStudy"),
    *("Immunization", "MedicationRequest", "Observation", "Procedure"),
)
WHO_AND_WHERE = ("Organization", "Practitioner")
PEOPLE = Path(__file__).parents[1] / "medical/cli/demo_patients.json"
REFERENCE = re.compile(r"(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9\-.]+)")


def main(folder: Path) -> None:
    """Write the resources as one list; patients are numbers: their places in ``demo_patients.json``."""
    numbers = {
        (one["system"], one["value"]): number
        for number, person in enumerate(json.loads(PEOPLE.read_text()))
        for one in person["identifiers"]
    }
    known = dict(directory(folder))
    kept: dict[tuple[str, str], Json] = {}
    for path in sorted(folder.glob("*.json.gz")):
        bundle = read(path)
        patient = next((one for one in resources(bundle) if one["resourceType"] == "Patient"), None)
        if patient is None:
            continue
        pairs = [(one.get("system"), one.get("value")) for one in patient["identifier"]]
        [number] = {numbers[pair] for pair in pairs if pair in numbers}
        for one in of_one(bundle, patient, number, known):
            kept[one["resourceType"], one["id"]] = one
    sys.stdout.buffer.write(gzip.compress(encode(list(kept.values())), mtime=0))


def read(path: Path) -> Json:
    bundle: Json = decode(gzip.decompress(path.read_bytes()))
    return bundle


def resources(bundle: Json) -> list[Json]:
    return [entry["resource"] for entry in bundle["entry"]]


def directory(folder: Path) -> Iterator[tuple[str, Json]]:
    """Who and what conditional references find, by these references."""
    for path in sorted(folder.glob("*Information*.json.gz")):
        for one in resources(read(path)):
            for identifier in one.get("identifier", ()):
                yield f"{one['resourceType']}?identifier={identifier['system']}|{identifier['value']}", one


def of_one(bundle: Json, patient: Json, number: int, known: dict[str, Json]) -> Iterator[Json]:
    """What is kept of a patient's bundle, with who and what it speaks of."""
    names = {entry["fullUrl"]: entry["resource"] for entry in bundle["entry"]} | known
    made = (followed(one, names, f"Patient/{patient['id']}", number) for one in resources(bundle))
    chosen = [one for one in made if one["resourceType"] in CLINICAL]
    there = {f"{one['resourceType']}/{one['id']}" for one in chosen}
    mentioned = {text for one in chosen for text in references(one)}
    for one in names.values():
        name = f"{one['resourceType']}/{one['id']}"
        if one["resourceType"] in WHO_AND_WHERE and name in mentioned:
            there.add(name)
            yield one
    for one in chosen:
        yield without_strangers(one, there | {f"Patient/{number}"})


def followed(value: Any, names: dict[str, Json], patient: str, number: int) -> Any:
    """A copy that refers to resources by type and id, and to the patient by number."""
    if isinstance(value, list):
        return [followed(one, names, patient, number) for one in value]
    if not isinstance(value, dict):
        return value
    made = {key: followed(one, names, patient, number) for key, one in value.items()}
    if isinstance(target := made.get("reference"), str):
        found = names.get(target)
        name = f"{found['resourceType']}/{found['id']}" if found else target
        made["reference"] = f"Patient/{number}" if name == patient else name
    return made


def reference(value: Any) -> str | None:
    return value.get("reference") if isinstance(value, dict) else None


def references(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from references(one)
    elif isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for one in value.values():
            yield from references(one)


def without_strangers(resource: Json, there: set[str]) -> Json:
    """A copy that says nothing of what is not kept."""

    def kept(value: Any) -> bool:
        target = reference(value)
        return target is None or target in there or not REFERENCE.fullmatch(target)

    def cleaned(value: Any) -> Any:
        if isinstance(value, list):
            return [one for one in (cleaned(one) for one in value if kept(one)) if one not in ([], {})]
        if isinstance(value, dict):
            made = {key: cleaned(one) for key, one in value.items() if kept(one)}
            return {key: one for key, one in made.items() if one not in ([], {})}
        return value

    made: Json = cleaned(resource)
    return made


if __name__ == "__main__":
    main(Path(sys.argv[1]))
