"""The CapabilityStatement, made from the tables and rules that answer the calls."""

from datetime import UTC, datetime
from functools import cache
from typing import Any

from medical import __version__
from medical.fhir.wire import JSON_PATCH
from medical.records import patients
from medical.records.definitions import VERSION, resource_types, table
from medical.records.indexing import parameters_of

Json = dict[str, Any]
ELSEWHERE = frozenset({"Appointment", "Schedule", "Slot"})
"""Types whose facts have their home in tables of their own; they are read and written by the JSON API."""
TYPES = resource_types() - ELSEWHERE
INTERACTIONS = (
    "read",
    "vread",
    "update",
    "patch",
    "delete",
    "history-instance",
    "history-type",
    "create",
    "search-type",
)
OPERATIONS = {patients.TYPE: ("everything",)}
"""What is done with resources of a type besides `$validate`, by HL7's names."""
DEFINITION = "http://hl7.org/fhir/OperationDefinition"


def statement(base: str) -> Json:
    """What the server at this address does."""
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": datetime.now(UTC).date().isoformat(),
        "kind": "instance",
        "software": {"name": "Medical Backend", "version": __version__},
        "implementation": {"description": "Medical Backend", "url": base},
        "fhirVersion": VERSION,
        "format": ["application/fhir+json", "json"],
        "patchFormat": [JSON_PATCH],
        "rest": [
            {
                "mode": "server",
                "security": {"description": "A bearer token of this server, in Authorization."},
                "interaction": [{"code": "transaction"}, {"code": "batch"}, {"code": "history-system"}],
                "compartment": [
                    f"http://hl7.org/fhir/CompartmentDefinition/{name.lower()}" for name in table("compartments")
                ],
                "resource": _types(),
            }
        ],
    }


@cache
def _types() -> list[Json]:
    """What is done with each type; kept, unlike what names the address, of which callers may invent any number."""
    return [_of_type(name) for name in sorted(TYPES)]


def _of_type(name: str) -> Json:
    parameters = sorted(parameters_of(name).values())
    references = [f"{name}:{one.name}" for one in parameters if one.kind == "reference"]
    return {
        "type": name,
        "profile": f"http://hl7.org/fhir/StructureDefinition/{name}",
        "interaction": [{"code": one} for one in INTERACTIONS],
        "versioning": "versioned-update",
        "readHistory": True,
        "updateCreate": name != patients.TYPE,
        "conditionalCreate": True,
        "conditionalUpdate": True,
        "conditionalDelete": "single",
        "searchParam": [
            {"name": one.name, "type": one.kind, "definition": f"http://hl7.org/fhir/SearchParameter/{one.id}"}
            for one in parameters
        ],
        "operation": [
            {"name": "validate", "definition": f"{DEFINITION}/Resource-validate"},
            *({"name": one, "definition": f"{DEFINITION}/{name}-{one}"} for one in OPERATIONS.get(name, ())),
        ],
    } | ({"searchInclude": references} if references else {})
