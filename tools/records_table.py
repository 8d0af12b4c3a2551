"""Print what is done with each type of record, as docs/records.md has it: `python tools/records_table.py`."""

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from medical.fhir.capability import statement

NAMED = 6
"""So many types are named in a row; of more, how many they are."""


def table() -> str:
    """One row for each way to work with types, made from the statement by which programs learn it."""
    [rest] = statement("")["rest"]
    alike: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for one in rest["resource"]:
        interactions = ", ".join(each["code"] for each in one["interaction"])
        operations = " ".join(f"${each['name']}" for each in one.get("operation", ()))
        alike[interactions, operations].append(one)
    lines = ["| types | interactions | operations | search parameters |", "| --- | --- | --- | --- |"]
    for (interactions, operations), types in sorted(alike.items(), key=lambda item: -len(item[1])):
        names = ", ".join(f"`{one['type']}`" for one in types) if len(types) <= NAMED else f"{len(types)} types"
        counts = [len(one["searchParam"]) for one in types]
        count = str(counts[0]) if len(counts) == 1 else f"{min(counts)} to {max(counts)} each, {sum(counts)} together"
        lines.append(f"| {names} | {interactions} | {operations} | {count} |")
    whole = ", ".join(one["code"] for one in rest["interaction"])
    compartments = ", ".join(one.rpartition("/")[2] for one in rest["compartment"])
    return "\n".join([*lines, f"| all together | {whole} | | compartments: {compartments} |"])


if __name__ == "__main__":
    print(table())
