"""A clinic with a client that reads and writes records, and a patient."""

from collections.abc import Sequence
from typing import Any

import pytest
from werkzeug.test import TestResponse

from medical.records.codec import encode
from tests.clinic import Caller, Clinic
from tests.records.samples import Json, parsed

FHIR = "application/fhir+json"
BASE = "http://localhost/fhir/R4/"


class Fhir:
    """Somebody who speaks FHIR."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> TestResponse:
        """One request; ``body`` is JSON, or bytes as they are."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.caller.token:
            sent["Authorization"] = f"Bearer {self.caller.token}"
        data = body if isinstance(body, bytes) or body is None else encode(body)
        kind = sent.pop("Content-Type", FHIR if body is not None else None)
        return self.caller.app.test_client().open(
            f"/fhir/R4/{path}", method=method, headers=sent, content_type=kind, data=data
        )

    def get(self, path: str, **headers: str) -> TestResponse:
        """Read."""
        return self.call("GET", path, **headers)

    def post(self, path: str, body: Any, **headers: str) -> TestResponse:
        """Send."""
        return self.call("POST", path, body, **headers)

    def put(self, resource: Json, **headers: str) -> TestResponse:
        """Write under its own id."""
        return self.call("PUT", f"{resource['resourceType']}/{resource['id']}", resource, **headers)

    def made(self, resource: Json, **headers: str) -> Json:
        """A resource, as it was kept."""
        answer = self.post(resource["resourceType"], resource, **headers)
        assert answer.status_code == 201, answer.text
        kept: Json = parsed(answer.text)
        return kept

    def bundle(self, path: str) -> Json:
        """What a search finds."""
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        found: Json = parsed(answer.text)
        return found

    def ids(self, path: str, mode: str = "match") -> list[str]:
        """The ids of what a search finds, in its order."""
        entries = self.bundle(path).get("entry", [])
        return [one["resource"]["id"] for one in entries if one["search"]["mode"] == mode]

    def all_ids(self, path: str) -> list[str]:
        """The same from all pages."""
        found: list[str] = []
        while True:
            bundle = self.bundle(path)
            found += [one["resource"]["id"] for one in bundle.get("entry", [])]
            following = [link["url"] for link in bundle["link"] if link["relation"] == "next"]
            if not following:
                return found
            path = following[0].removeprefix(BASE)


def issues(answer: TestResponse) -> Sequence[Json]:
    """What an OperationOutcome says."""
    assert answer.content_type == FHIR, answer.content_type
    outcome = answer.get_json()
    assert outcome["resourceType"] == "OperationOutcome"
    told: Sequence[Json] = outcome["issue"]
    return told


def refusal(answer: TestResponse) -> tuple[int, str]:
    """Status and code of a refusal."""
    return answer.status_code, issues(answer)[0]["details"]["coding"][0]["code"]


@pytest.fixture
def fhir(clinic: Clinic) -> Fhir:
    """A program with all scopes."""
    return Fhir(clinic.program())


@pytest.fixture
def patient(clinic: Clinic) -> str:
    """A reference to a patient."""
    return f"Patient/{clinic.patient()['id']}"


def pulse(patient: str | None, **more: Any) -> Json:
    """An Observation of a pulse."""
    coding = {"system": "http://loinc.org", "code": "8867-4"}
    quantity = {"value": 72, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"}
    made: Json = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [coding]},
        "valueQuantity": quantity,
    }
    return made | ({"subject": {"reference": patient}} if patient else {}) | more
