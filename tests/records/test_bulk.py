"""Bulk Data Access: asked for, written in the background, fetched, forgotten."""

import json
from datetime import timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from medical.identity.permissions import Role
from medical.platform import clock
from medical.platform.db import Scope, db, scoped
from medical.records import bulk
from tests.clinic import Caller, Clinic, Signer
from tests.records.conftest import Fhir, issues

ASYNC = {"Prefer": "respond-async"}
HERE = "http://localhost/fhir/R4/"


def observation(patient: dict[str, Any]) -> dict[str, Any]:
    """An observation of the patient."""
    of_patient = {"subject": {"reference": f"Patient/{patient['id']}"}}
    return {"resourceType": "Observation", "status": "final", "code": {"text": "pulse"}} | of_patient


class Ward:
    """Two patients with an observation each, an organisation, and a program that exports."""

    def __init__(self, clinic: Clinic) -> None:
        self.clinic, self.client = clinic, clinic.client()
        self.fhir = Fhir(clinic.program(client=self.client))
        self.patients = [clinic.patient(), clinic.patient()]
        self.made = [self.fhir.made(observation(one)) for one in self.patients]
        self.fhir.made({"resourceType": "Organization", "name": "Laboratory"})

    def ask(self, path: str = "$export", fhir: Fhir | None = None) -> str:
        """Where to ask how far the export is."""
        answer = (fhir or self.fhir).get(path, **ASYNC)
        assert answer.status_code == 202, answer.text
        place: str = answer.headers["Content-Location"]
        assert place.startswith(HERE + "$export/")
        return place.removeprefix(HERE)

    def written(self) -> int:
        """How many exports the program behind the requests completes now."""
        with self.clinic.app.app_context():
            return bulk.run([self.clinic.organization_id])

    def fetched(self, path: str, fhir: Fhir | None = None) -> dict[str, list[dict[str, Any]]]:
        """The resources of a complete export by type."""
        fhir = fhir or self.fhir
        answer = fhir.get(path)
        assert (answer.status_code, answer.content_type) == (200, "application/json"), answer.text
        found: dict[str, list[dict[str, Any]]] = {}
        for one in answer.get_json()["output"]:
            file = fhir.get(one["url"].removeprefix(HERE))
            assert (file.status_code, file.content_type) == (200, "application/fhir+ndjson")
            lines = [json.loads(line) for line in file.data.splitlines()]
            assert {line["resourceType"] for line in lines} == {one["type"]}
            assert len(lines) == one["count"]
            found.setdefault(one["type"], []).extend(lines)
        return found


@pytest.fixture
def ward(clinic: Clinic) -> Ward:
    """The ward."""
    return Ward(clinic)


def refusal(answer: TestResponse) -> tuple[int, str]:
    """Status and code."""
    return answer.status_code, issues(answer)[0]["details"]["coding"][0]["code"]


class TestExport:
    """`$export`."""

    def test_goes_from_question_to_files(self, ward: Ward) -> None:
        """202 until it is written, then a manifest; each file is lines of one type."""
        place = ward.ask()
        waiting = ward.fhir.get(place)
        assert (waiting.status_code, waiting.data) == (202, b"")
        assert int(waiting.headers["Retry-After"]) > 0
        assert waiting.headers["X-Progress"].startswith("0 of ")
        assert ward.written() == 1
        answer = ward.fhir.get(place)
        manifest = answer.get_json()
        assert manifest["request"] == HERE + "$export"
        assert (manifest["requiresAccessToken"], manifest["error"]) == (True, [])
        assert answer.headers["Expires"]
        found = ward.fetched(place)
        assert {one["id"] for one in found["Observation"]} == {one["id"] for one in ward.made}
        assert {one["id"] for one in found["Patient"]} == {one["id"] for one in ward.patients}
        assert "Laboratory" in [one["name"] for one in found["Organization"]]

    def test_of_patients_and_groups_is_of_them_alone(self, ward: Ward) -> None:
        """What is nobody's is left out; of a Group, what is of others too."""
        found = ward.fetched(_written(ward, "Patient/$export"))
        assert (len(found["Patient"]), len(found["Observation"])) == (2, 2)
        assert "Organization" not in found
        member = {"entity": {"reference": f"Patient/{ward.patients[0]['id']}"}}
        elsewhere = {"entity": {"reference": "Patient/of-another-house"}}
        group = {"resourceType": "Group", "type": "person", "actual": True, "member": [member, elsewhere]}
        made = ward.fhir.made(group)
        found = ward.fetched(_written(ward, f"Group/{made['id']}/$export"))
        assert [one["id"] for one in found["Patient"]] == [ward.patients[0]["id"]]
        assert [one["id"] for one in found["Observation"]] == [ward.made[0]["id"]]
        assert ward.fhir.get("Group/nobody/$export", **ASYNC).status_code == 404

    def test_is_narrowed_by_type_and_time(self, ward: Ward) -> None:
        """`_type` and `_since`."""
        assert set(ward.fetched(_written(ward, "$export?_type=Observation,Patient"))) == {"Observation", "Patient"}
        later = (clock.now() + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        assert ward.fetched(_written(ward, f"$export?_since={later}")) == {}
        before = (clock.now() - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        assert "Patient" in ward.fetched(_written(ward, f"$export?_since={before}"))

    def test_is_cut_into_files(self, ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each a transaction: what is interrupted goes on from there."""
        monkeypatch.setattr(bulk, "AT_ONCE", 1)
        place = ward.ask("$export?_type=Observation")
        with ward.clinic.app.app_context():
            assert bulk._step(ward.clinic.organization_id) is False
            db.session.rollback()
        assert ward.fhir.get(place).status_code == 202
        assert ward.written() == 1
        assert len(ward.fhir.get(place).get_json()["output"]) == 2
        assert len(ward.fetched(place)["Observation"]) == 2

    @pytest.mark.parametrize(
        ("path", "headers", "refused"),
        [
            ("$export?_type=Nothing", ASYNC, (400, "unknown_parameter")),
            ("$export?_outputFormat=csv", ASYNC, (400, "unknown_parameter")),
            ("$export?_since=yesterday", ASYNC, (400, "unknown_parameter")),
            ("$export?_typeFilter=Patient", ASYNC, (400, "unknown_parameter")),
            ("$export", ASYNC | {"Accept": "text/html"}, (406, "not_acceptable")),
        ],
    )
    def test_is_refused(self, ward: Ward, path: str, headers: dict[str, str], refused: tuple[int, str]) -> None:
        """As it says why."""
        assert refusal(ward.fhir.get(path, **headers)) == refused

    def test_leaves_out_what_it_does_not_know_where_that_is_asked(self, ward: Ward) -> None:
        """`handling=lenient`."""
        answer = ward.fhir.get("$export?_typeFilter=Patient", Prefer="respond-async, handling=lenient")
        assert answer.status_code == 202

    def test_is_bounded(self, ward: Ward) -> None:
        """Two at a time for each client."""
        places = [ward.ask(), ward.ask()]
        answer = ward.fhir.get("$export", **ASYNC)
        assert refusal(answer) == (429, "too_many_exports")
        assert answer.headers["Retry-After"]
        assert ward.fhir.call("DELETE", places[0]).status_code == 202
        ward.ask()


class TestAccess:
    """Whose exports, and of what."""

    def test_is_the_clients_own(self, ward: Ward) -> None:
        """To others there is none, nor any of its files."""
        place = _written(ward, "$export")
        other = Fhir(ward.clinic.program())
        for path in (place, f"{place}/1.ndjson"):
            assert other.get(path).status_code == 404
        assert other.call("DELETE", place).status_code == 404
        assert ward.fhir.get(f"{place}/99.ndjson").status_code == 404
        assert ward.fhir.get(f"{place}/1.ndjson").status_code == 200

    def test_is_for_programs(self, ward: Ward) -> None:
        """Not for people, whatever they are."""
        for role in (Role.ADMIN, Role.CLINICIAN, Role.AUDITOR, Role.PATIENT):
            assert Fhir(ward.clinic.user(role)).get("$export", **ASYNC).status_code == 403
        reader = Fhir(ward.clinic.program("record:read"))
        assert reader.get("$export", **ASYNC).status_code == 403

    def test_is_narrowed_by_scopes(self, ward: Ward) -> None:
        """Of SMART backend services: those of who asked, when they asked."""
        signer = Signer("ES384")
        client = ward.clinic.client("system/Observation.s", "system/Patient.r", jwks=signer.jwks)
        token = signer.ask(ward.clinic.app, client).get_json()["access_token"]
        fhir = Fhir(Caller(ward.clinic.app, token))
        place = ward.ask("$export", fhir)
        ward.written()
        assert set(ward.fetched(place, fhir)) == {"Observation"}

    def test_ends_with_its_client(self, ward: Ward) -> None:
        """What was not written when it was closed is not written."""
        ward.ask()
        path = f"/service-clients/{ward.client['client_id']}/deactivate"
        assert ward.clinic.admin.post(path).status_code == 200
        assert ward.written() == 1
        with ward.clinic.app.app_context(), scoped(Scope(ward.clinic.organization_id)):
            assert db.session.query(bulk.RecordExport).one().failure == bulk.GIVEN_UP
            assert db.session.query(bulk.RecordExportFile).count() == 0

    def test_leaves_an_event_for_each_patient(self, ward: Ward) -> None:
        """Once, when it is complete (AUD-01)."""
        _written(ward, "$export")
        auditor = ward.clinic.user(Role.AUDITOR)
        for patient in ward.patients:
            query = {"patient_id": patient["id"], "action": "records.exported"}
            [event] = auditor.get("/audit/events", **query).get_json()["items"]
            assert (event["actor_id"], event["outcome"]) == (ward.client["client_id"], "success")

    def test_is_forgotten_after_a_day(self, ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
        """With its files."""
        place = _written(ward, "$export")
        with ward.clinic.app.app_context(), scoped(Scope(ward.clinic.organization_id)):
            assert db.session.query(bulk.RecordExportFile).count() > 0
        monkeypatch.setattr(bulk, "KEPT", timedelta(seconds=-1))
        assert ward.fhir.get(place).status_code == 404
        assert ward.written() == 0
        with ward.clinic.app.app_context(), scoped(Scope(ward.clinic.organization_id)):
            assert db.session.query(bulk.RecordExportFile).count() == 0


def _written(ward: Ward, path: str) -> str:
    """Where the files of an export are."""
    place = ward.ask(path)
    assert ward.written() == 1
    return place
