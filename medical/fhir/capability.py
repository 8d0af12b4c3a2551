"""The CapabilityStatement, made from the tables and rules that answer the calls."""

from datetime import UTC, datetime
from functools import cache
from typing import Any

from medical import __version__
from medical.fhir.joined import BASE
from medical.fhir.wire import JSON_PATCH
from medical.records import patients
from medical.records.definitions import VERSION, resource_types, table
from medical.records.indexing import parameters_of
from medical.smart.token_routes import endpoints

Json = dict[str, Any]
OF_DIARIES: dict[str, Json] = {
    "Appointment": {
        "interaction": ("read", "update", "patch", "history-instance", "create", "search-type"),
        "search": {
            "_id": "token",
            "actor": "reference",
            "date": "date",
            "location": "reference",
            "patient": "reference",
            "practitioner": "reference",
            "service-type": "token",
            "status": "token",
        },
        "include": ("actor", "patient", "practitioner", "location"),
        "operation": ("find", "hold", "book"),
    },
    "Schedule": {
        "interaction": ("read", "search-type"),
        "search": {"_id": "token", "actor": "reference", "specialty": "token"},
    },
    "Slot": {
        "interaction": ("read", "search-type"),
        "search": {
            "schedule": "reference",
            "service-type": "token",
            "specialty": "token",
            "start": "date",
            "status": "token",
        },
        "include": ("schedule",),
    },
}
"""Types whose facts have their home in the diaries' tables, and what is done with them."""
ELSEWHERE = frozenset(OF_DIARIES)
IHE = "https://profiles.ihe.net/ITI/Scheduling/OperationDefinition/appointment"
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
OPERATIONS = {patients.TYPE: ("everything", "match", "summary")}
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
                "security": _security(base.removesuffix(BASE)),
                "interaction": [{"code": "transaction"}, {"code": "batch"}, {"code": "history-system"}],
                "compartment": [
                    f"http://hl7.org/fhir/CompartmentDefinition/{name.lower()}" for name in table("compartments")
                ],
                "resource": _types(),
            }
        ],
    }


def _security(here: str) -> Json:
    """How a caller gets a token, as clients that know only this statement read it."""
    places = endpoints(here)
    names = {"authorize": "authorization_endpoint", "token": "token_endpoint", "introspect": "introspection_endpoint"}
    uris = [{"url": name, "valueUri": places[place]} for name, place in names.items()]
    service = {"system": "http://terminology.hl7.org/CodeSystem/restful-security-service", "code": "SMART-on-FHIR"}
    return {
        "cors": True,  # for scripts of registered apps
        "description": "A bearer token of this server, in Authorization.",
        "service": [{"coding": [service]}],
        "extension": [
            {"url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris", "extension": uris}
        ],
    }


@cache
def _types() -> list[Json]:
    """What is done with each type; kept, unlike what names the address, of which callers may invent any number."""
    made = {name: _of_type(name) for name in TYPES} | {name: _of_diary(name) for name in OF_DIARIES}
    return [made[name] for name in sorted(made)]


def _of_diary(name: str) -> Json:
    own = OF_DIARIES[name]
    made: Json = {
        "type": name,
        "profile": f"http://hl7.org/fhir/StructureDefinition/{name}",
        "interaction": [{"code": one} for one in own["interaction"]],
        "versioning": "versioned-update" if "update" in own["interaction"] else "no-version",
        "searchParam": [{"name": one, "type": kind} for one, kind in own["search"].items()],
        "searchInclude": [f"{name}:{one}" for one in own.get("include", ())],
        "operation": [{"name": one, "definition": f"{IHE}-{one}"} for one in own.get("operation", ())],
    }
    return {key: value for key, value in made.items() if value != []}


def _of_type(name: str) -> Json:
    parameters, deleted = sorted(parameters_of(name).values()), name != patients.TYPE
    references = [f"{name}:{one.name}" for one in parameters if one.kind == "reference"]
    return {
        "type": name,
        "profile": f"http://hl7.org/fhir/StructureDefinition/{name}",
        "interaction": [{"code": one} for one in INTERACTIONS if deleted or one != "delete"],
        "versioning": "versioned-update",
        "readHistory": True,
        "updateCreate": name != patients.TYPE,
        "conditionalCreate": True,
        "conditionalUpdate": True,
        "conditionalDelete": "single" if deleted else "not-supported",
        "searchParam": [
            {"name": one.name, "type": one.kind, "definition": f"http://hl7.org/fhir/SearchParameter/{one.id}"}
            for one in parameters
        ],
        "operation": [
            {"name": "validate", "definition": f"{DEFINITION}/Resource-validate"},
            *({"name": one, "definition": f"{DEFINITION}/{name}-{one}"} for one in OPERATIONS.get(name, ())),
        ],
    } | ({"searchInclude": references} if references else {})
