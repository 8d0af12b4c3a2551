"""Compile HL7's FHIR R4 definitions into the tables in `medical/records/r4/`.

`python tools/fhir_definitions.py hl7.fhir.r4.examples-4.0.1.tgz`. The package (CC0) is needed for this alone; what it
becomes is committed, so neither the program nor its tests ever read it.
"""

import argparse
import hashlib
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medical.records import datatypes

SHA256 = "dce87f1b5b9341867033f7d1f544fa1b5232503f6d62813887ac6b8a8b6cb682"
TABLES = Path(__file__).parents[1] / "medical/records/r4"
STRUCTURE = "http://hl7.org/fhir/StructureDefinition/"
SYSTEM = "http://hl7.org/fhirpath/System."
TOO_MANY = 1000
"""An expansion of so many codes was cut off: it says nothing about the others."""

REPAIRED = {
    "app-4": ("'no-show'", "'noshow'"),  # no code of the element's own value set
    "bdl-8": ("fullUrl.contains", "fullUrl.empty() or fullUrl.contains"),  # nothing is neither true nor false
    "que-7": ("answer is Boolean", "answer is boolean"),  # the type of FHIR, not of FHIRPath
    "ras-2": (
        "probability is decimal implies (probability as decimal) <= 100",
        "probability.ofType(decimal).all($this <= 100)",
    ),
}
"""Invariants whose published expression contradicts its own text: what stands there, and what is meant."""

BY_HAND = {"ele-1", "ref-1", "dom-2", "dom-3", "dom-4", "dom-5", "txt-1", "txt-2", *datatypes.KEYS}
"""Those that the validation has in Python: they are everywhere, or ask for what FHIRPath alone cannot tell."""

UNKNOWABLE = ".resolve()"
"""Rules about what lies behind a reference are not looked at: it may be elsewhere."""

Json = dict[str, Any]


def entries(package: tarfile.TarFile, name: str) -> list[Json]:
    """The resources of a Bundle in the package."""
    file = package.extractfile(f"package/{name}.json")
    return [entry["resource"] for entry in json.loads(file.read() if file else b"")["entry"]]


def structures(package: tarfile.TarFile) -> list[Json]:
    """Every type of its own, not the profiles on one."""
    found = entries(package, "Bundle-types") + entries(package, "Bundle-resources")
    return [
        one
        for one in found
        if one["resourceType"] == "StructureDefinition"
        and one["kind"] != "logical"
        and one.get("derivation") != "constraint"
    ]


def elements_of(structure: Json, codes: dict[str, Any], needed: set[str]) -> Iterator[tuple[str, str, list[Any]]]:
    """The path of each parent, the name of the element, and [least, most, types, code list]."""
    for element in structure["snapshot"]["element"]:
        parent, _, name = element["path"].rpartition(".")
        if not parent or element["max"] == "0":
            continue
        types = [type_of(one) for one in element.get("type", [])]
        binding = element.get("binding", {})
        value_set = binding.get("valueSet", "").partition("|")[0] if binding.get("strength") == "required" else None
        if value_set in codes:
            needed.add(value_set)
        else:
            value_set = None
        if reference := element.get("contentReference"):
            types = [reference.removeprefix("#")]
        elif types in (["BackboneElement"], ["Element"]) and structure["kind"] != "primitive-type":
            types = [element["path"]]
        yield parent, name, [element["min"], 1 if element["max"] == "1" else None, types, value_set]


def type_of(declared: Json) -> str:
    """The FHIR type of an element; ids and the like are declared as types of FHIRPath."""
    code: str = declared["code"]
    if not code.startswith(SYSTEM):
        return code
    return next(
        (one["valueUrl"] for one in declared.get("extension", []) if "valueUrl" in one),
        code.removeprefix(SYSTEM).lower(),
    )


def invariants_of(structure: Json) -> dict[str, list[list[str]]]:
    """By path: key, expression and text of each invariant whose violation is an error."""
    found: dict[str, list[list[str]]] = {}
    for element in structure["snapshot"]["element"]:
        rules = [
            [rule["key"], expression_of(rule), rule["human"]]
            for rule in element.get("constraint", [])
            if rule["severity"] == "error" and rule.get("expression") and rule["key"] not in BY_HAND
            if UNKNOWABLE not in rule["expression"]
            if rule.get("source", STRUCTURE + structure["id"]) == STRUCTURE + structure["id"]
            or element["path"] == structure["id"]
        ]
        if rules:
            found[element["path"]] = rules
    return found


def expression_of(rule: Json) -> str:
    """The expression, repaired, without what only prints, and with what the library knows for what it does not."""
    wrong, right = REPAIRED.get(rule["key"], ("", ""))
    if wrong and wrong not in rule["expression"]:
        raise SystemExit(f"{rule['key']} is not what it was: {rule['expression']}")
    expression: str = rule["expression"].replace(wrong, right) if wrong else rule["expression"]
    return re.sub(r"\.trace\('\w+'\)", "", expression).replace("hasValue()", "exists()")


def expansions(package: tarfile.TarFile) -> dict[str, Any]:
    """By value set: its codes by system, where the expansion is whole."""
    found = {}
    for value_set in entries(package, "Bundle-valueset-expansions"):
        if value_set["resourceType"] == "ValueSet" and "expansion" in value_set:
            systems: dict[str, list[str]] = {}
            for one in contained(value_set["expansion"].get("contains", [])):
                systems.setdefault(one.get("system", ""), []).append(one["code"])
            if 0 < sum(map(len, systems.values())) < TOO_MANY:
                found[value_set["url"]] = systems
    return found


def contained(concepts: list[Json]) -> Iterator[Json]:
    """Concepts that can be chosen, at every depth."""
    for one in concepts:
        if "code" in one and not one.get("abstract"):
            yield one
        yield from contained(one.get("contains", []))


def search_parameters(package: tarfile.TarFile) -> dict[str, dict[str, Json]]:
    """By type and name: kind of parameter, expression, targets, components."""
    found: dict[str, dict[str, Json]] = {}
    for one in entries(package, "Bundle-searchParams"):
        if one["resourceType"] != "SearchParameter" or "expression" not in one:
            continue
        for base in one["base"]:
            parts = [part.strip() for part in re.split(r"\s*\|\s*(?![^(]*\))", one["expression"])]
            own = [part for part in parts if re.match(rf"\(?{base}\b", part)] or (
                parts if base in ("Resource", "DomainResource") else []
            )
            made: Json = {"type": one["type"], "expression": " | ".join(own), "id": one["id"]}
            if "target" in one:
                made["target"] = one["target"]
            if "component" in one:
                made["component"] = [
                    [part["definition"].rpartition("/")[2], part["expression"]] for part in one["component"]
                ]
            if own:
                found.setdefault(base, {})[one["code"]] = made
    return found


def compartments(package: tarfile.TarFile) -> dict[str, dict[str, list[str]]]:
    """By compartment and type: the parameters by which a resource is in it."""
    found = {}
    for one in entries(package, "Bundle-resources"):
        if one["resourceType"] == "CompartmentDefinition":
            found[one["code"]] = {part["code"]: part["param"] for part in one["resource"] if part.get("param")}
    return found


def compile_tables(package: tarfile.TarFile) -> dict[str, Any]:
    """Each table by name."""
    codes, needed = expansions(package), set[str]()
    types: dict[str, Json] = {}
    elements: dict[str, dict[str, list[Any]]] = {}
    invariants: dict[str, list[list[str]]] = {}
    for one in structures(package):
        base = one.get("baseDefinition", "").removeprefix(STRUCTURE)
        types[one["id"]] = {"kind": one["kind"], "abstract": one["abstract"], "base": base}
        if one["kind"] == "primitive-type":
            continue
        elements.setdefault(one["id"], {})
        for parent, name, element in elements_of(one, codes, needed):
            elements.setdefault(parent, {})[name] = element
        invariants |= invariants_of(one)
    summaries = {
        one["id"]: [
            element["path"].partition(".")[2].removesuffix("[x]")
            for element in one["snapshot"]["element"]
            if element.get("isSummary") and element["path"].count(".") == 1
        ]
        for one in structures(package)
        if one["kind"] == "resource" and not one["abstract"]
    }
    return {
        "types": types,
        "summaries": summaries,
        "elements": elements,
        "invariants": invariants,
        "codes": {url: codes[url] for url in sorted(needed)},
        "search_parameters": search_parameters(package),
        "compartments": compartments(package),
    }


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description="Compile HL7's FHIR R4 definitions.")
    parser.add_argument("package", type=Path)
    package = parser.parse_args().package
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    if digest != SHA256:
        raise SystemExit(f"this is another package: its SHA-256 is {digest}")
    with tarfile.open(package) as opened:
        for name, table in compile_tables(opened).items():
            lines = ",\n".join(
                f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in table.items()
            )
            (TABLES / f"{name}.json").write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main()
