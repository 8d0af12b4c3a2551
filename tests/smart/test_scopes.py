"""What an app reaches: never more than its user, and of that what its scopes say."""

from typing import Any

import pytest

from medical.identity.permissions import Role
from medical.platform.scopes import parsed, within
from tests.clinic import Caller, Clinic, Form, Signer, day_after
from tests.records.conftest import Fhir
from tests.smart.conftest import BACK, App

OBSERVATION = "http://terminology.hl7.org/CodeSystem/observation-category"
VITALS = "category=vital-signs"


def observation(patient: dict[str, Any], category: str = "vital-signs") -> dict[str, Any]:
    """An observation of a category."""
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": OBSERVATION, "code": category}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": f"Patient/{patient['id']}"},
        "valueQuantity": {"value": 71, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"},
    }


class Ward:
    """A nurse with two patients, each of whom has two observations and a condition."""

    def __init__(self, clinic: Clinic, app: App) -> None:
        self.clinic, self.app = clinic, app
        self.nurse = clinic.user(Role.NURSE)
        self.one, self.two, self.stranger = clinic.patient(), clinic.patient(), clinic.patient()
        self.program = Fhir(clinic.program())
        self.made: dict[str, dict[str, Any]] = {}
        for name in ("one", "two", "stranger"):
            patient = getattr(self, name)
            if name != "stranger":
                clinic.relate(patient, self.nurse)
            for category in ("vital-signs", "laboratory"):
                self.made[f"{name} {category}"] = self.program.made(observation(patient, category))
            condition = {"resourceType": "Condition", "subject": {"reference": f"Patient/{patient['id']}"}}
            self.made[f"{name} condition"] = self.program.made(condition)
        self.organization = self.program.made({"resourceType": "Organization", "name": "Laboratory"})

    def acting(self, scope: str, patient: dict[str, Any] | None = None) -> Fhir:
        """The app as it acts for the nurse."""
        return self.app.acting(self.nurse, scope, patient["id"] if patient else None)

    def id(self, name: str) -> str:
        """The id of something that was made."""
        made: str = self.made[name]["id"]
        return made


@pytest.fixture
def ward(clinic: Clinic, smart_app: App) -> Ward:
    """The ward."""
    return Ward(clinic, smart_app)


class TestReading:
    """Reads, searches, and whatever goes with them."""

    def test_is_of_the_patient_in_context(self, ward: Ward) -> None:
        """And of what is nobody's; not of others whom the user sees too."""
        fhir = ward.acting("launch/patient patient/*.rs", ward.one)
        assert set(fhir.ids("Observation")) == {ward.id("one vital-signs"), ward.id("one laboratory")}
        assert fhir.ids("Patient") == [ward.one["id"]]
        for path in (f"Patient/{ward.two['id']}", f"Observation/{ward.id('two laboratory')}"):
            assert fhir.get(path).status_code == 404
        for path in (f"Patient/{ward.two['id']}/$everything", f"Patient/{ward.two['id']}/Observation"):
            assert fhir.get(path).status_code == 404
        assert fhir.get(f"Organization/{ward.organization['id']}").status_code == 200
        assert len(fhir.bundle(f"Patient/{ward.one['id']}/$everything")["entry"]) == 4

    def test_is_of_the_users_patients(self, ward: Ward) -> None:
        """By scopes of the context `user`; of strangers nothing, as without an app."""
        fhir = ward.acting("user/Observation.rs")
        seen = {ward.id(f"{name} {kind}") for name in ("one", "two") for kind in ("vital-signs", "laboratory")}
        assert set(fhir.ids("Observation")) == seen
        assert fhir.bundle("Observation?_summary=count")["total"] == 4
        assert fhir.ids("Condition") == []
        assert fhir.get(f"Observation/{ward.id('stranger laboratory')}").status_code == 404

    def test_is_narrowed_by_parameters(self, ward: Ward) -> None:
        """Everywhere: reads, totals, histories, includes, chains."""
        fhir = ward.acting(f"launch/patient patient/Observation.rs?{VITALS} patient/Patient.rs", ward.one)
        vital, other = ward.id("one vital-signs"), ward.id("one laboratory")
        assert fhir.ids("Observation") == [vital]
        assert fhir.bundle("Observation?_summary=count")["total"] == 1
        assert fhir.ids("Observation?category:not=vital-signs") == []
        assert fhir.get(f"Observation/{vital}").status_code == 200
        for path in (f"Observation/{other}", f"Observation/{other}/_history", f"Observation/{other}/_history/1"):
            assert fhir.get(path).status_code == 404
        assert [one["resource"]["id"] for one in fhir.bundle("Observation/_history")["entry"]] == [vital]
        assert fhir.ids("Patient?_revinclude=Observation:subject", "include") == [vital]
        assert fhir.ids("Patient?_has:Observation:subject:category=vital-signs") == [ward.one["id"]]
        assert fhir.ids("Patient?_has:Observation:subject:category=laboratory") == []

    def test_is_narrowed_alike_in_every_clinic(self, ward: Ward, other_clinic: Clinic) -> None:
        """The same words, one after the other in one process."""
        for one in (ward, Ward(other_clinic, App(other_clinic))):
            fhir = one.acting(f"launch/patient patient/Observation.rs?{VITALS}", one.one)
            assert fhir.ids("Observation") == [one.id("one vital-signs")]

    def test_knows_reading_from_searching(self, ward: Ward) -> None:
        """Each has its letter (ACC-14)."""
        vital = ward.id("one vital-signs")
        reader = ward.acting("user/Observation.r")
        assert reader.get(f"Observation/{vital}").status_code == 200
        assert reader.get("Observation").status_code == 403
        finder = ward.acting("user/Observation.s")
        assert finder.get(f"Observation/{vital}").status_code == 403
        assert vital in finder.ids("Observation")

    def test_includes_and_chains_only_what_is_reached(self, ward: Ward) -> None:
        """As if the rest were not there (ACC-06)."""
        fhir = ward.acting("user/Observation.rs")
        assert fhir.ids("Observation?_include=Observation:subject", "include") == []
        assert fhir.ids(f"Observation?subject:Patient.family={ward.one['family_name']}") == []

    def test_takes_scopes_of_version_one(self, ward: Ward) -> None:
        """`.read` reads and searches."""
        fhir = ward.acting("user/Observation.read")
        assert len(fhir.ids("Observation")) == 4
        assert fhir.post("Observation", observation(ward.one)).status_code == 403


class TestWriting:
    """What an app keeps, changes, hides."""

    def test_is_of_the_patient_in_context(self, ward: Ward) -> None:
        """And of nobody else, nor of what is nobody's."""
        fhir = ward.acting("launch/patient patient/*.cruds", ward.one)
        assert fhir.post("Observation", observation(ward.one)).status_code == 201
        assert fhir.post("Observation", observation(ward.two)).status_code == 403
        assert fhir.post("Organization", {"resourceType": "Organization", "name": "Mine"}).status_code == 403
        moved = ward.made["one laboratory"] | {"subject": {"reference": f"Patient/{ward.two['id']}"}}
        assert fhir.put(moved).status_code == 403
        assert fhir.put(ward.made["two laboratory"]).status_code == 404

    def test_is_narrowed_by_parameters_before_and_after(self, ward: Ward) -> None:
        """What becomes something else is refused, as is what was something else (ACC-08)."""
        doctor = ward.clinic.user(Role.CLINICIAN)
        ward.clinic.relate(ward.one, doctor)
        scope = f"launch/patient patient/Observation.cruds?{VITALS}"
        fhir = ward.app.acting(doctor, scope, ward.one["id"])
        assert fhir.post("Observation", observation(ward.one)).status_code == 201
        assert fhir.post("Observation", observation(ward.one, "laboratory")).status_code == 403
        other = ward.made["one laboratory"]["category"]
        assert fhir.put(ward.made["one vital-signs"] | {"category": other}).status_code == 403
        assert fhir.put(ward.made["one laboratory"]).status_code == 404
        assert fhir.call("DELETE", f"Observation/{ward.id('one laboratory')}").status_code == 404
        assert fhir.call("DELETE", f"Observation/{ward.id('one vital-signs')}").status_code == 204

    def test_knows_its_letters_apart(self, ward: Ward) -> None:
        """Who may create may not change, and is shown nothing it may not read."""
        fhir = ward.acting("user/Observation.c")
        answer = fhir.post("Observation", observation(ward.one))
        assert (answer.status_code, answer.data) == (201, b"")
        assert fhir.put(ward.made["one vital-signs"]).status_code in (403, 404)
        assert fhir.call("DELETE", f"Observation/{ward.id('one vital-signs')}").status_code == 403

    def test_in_bundles_is_the_same(self, ward: Ward) -> None:
        """A transaction with one entry too many keeps nothing."""
        fhir = ward.acting("launch/patient patient/Observation.cruds", ward.one)
        entries = [
            {"request": {"method": "POST", "url": "Observation"}, "resource": observation(patient)}
            for patient in (ward.one, ward.two)
        ]
        before = len(fhir.ids("Observation"))
        answer = fhir.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entries})
        assert answer.status_code == 403
        assert len(fhir.ids("Observation")) == before
        batch = fhir.post("", {"resourceType": "Bundle", "type": "batch", "entry": entries}).get_json()
        assert [one["response"]["status"][:3] for one in batch["entry"]] == ["201", "403"]

    def test_takes_the_users_permission_too(self, clinic: Clinic, smart_app: App) -> None:
        """A patient's app writes no record, as the patient does not."""
        patient, own = clinic.patient_with_account()
        fhir = smart_app.acting(own, "launch/patient patient/*.cruds", patient["id"])
        assert fhir.get(f"Patient/{patient['id']}").status_code == 200
        assert fhir.post("Observation", observation(patient)).status_code == 403


class TestDiaries:
    """Appointments and free times."""

    def test_show_the_patient_in_context(self, clinic: Clinic, smart_app: App) -> None:
        """Others whom the user sees are not shown, and nothing is booked for them."""
        doctor, kind = clinic.clinician(time_zone="UTC"), clinic.appointment_type()
        clinic.hours(doctor)
        one, two = clinic.patient(), clinic.patient()
        first = clinic.appointment(one, doctor, kind, day_after(3, "09:00"))
        second = clinic.appointment(two, doctor, kind, day_after(3, "10:00"))
        for patient in (one, two):
            clinic.relate(patient, doctor)
        fhir = smart_app.acting(doctor, "launch/patient patient/Appointment.rs", one["id"])
        assert fhir.ids("Appointment") == [first["id"]]
        assert fhir.ids(f"Appointment?patient=Patient/{two['id']}") == []
        assert fhir.get(f"Appointment/{first['id']}").status_code == 200
        for path in (f"Appointment/{second['id']}", f"Appointment/{second['id']}/_history"):
            assert fhir.get(path).status_code == 404
        assert fhir.get("Slot?start=ge2030-01-01").status_code == 403
        shown = fhir.get(f"Appointment/{first['id']}").get_json()
        assert fhir.put(shown | {"status": "cancelled"}).status_code == 403
        writer = smart_app.acting(doctor, "launch/patient patient/Appointment.cruds patient/Slot.rs", one["id"])
        other = Fhir(doctor).get(f"Appointment/{second['id']}").get_json()
        assert writer.put(other | {"status": "cancelled"}).status_code == 404
        wanted = {name: value for name, value in other.items() if name not in ("id", "meta")}
        wanted |= {"start": day_after(3, "11:00"), "end": day_after(3, "11:30")}
        assert writer.post("Appointment", wanted).status_code == 403
        assert writer.put(shown | {"status": "cancelled"}).status_code == 200


class TestElsewhere:
    """An app's token is good for FHIR."""

    def test_it_is_refused(self, ward: Ward) -> None:
        """Whatever its user may do (ACC-14)."""
        token = ward.app.tokens(ward.nurse, "user/*.cruds offline_access")["access_token"]
        app = Caller(ward.clinic.app, token)
        for path in ("/patients", "/me", "/me/sessions", "/appointments", f"/patients/{ward.one['id']}/timeline"):
            assert app.get(path).status_code == 403, path
        assert app.post("/auth/logout").status_code == 403

    def test_the_trail_says_for_whom_and_through_what(self, ward: Ward) -> None:
        """An app's client_id, and the user on whose behalf it acts."""
        auditor = ward.clinic.user(Role.AUDITOR)
        ward.acting("launch/patient patient/*.rs", ward.one).get(f"Patient/{ward.one['id']}")
        events = auditor.get("/audit/events", patient_id=ward.one["id"], action="record.read").get_json()["items"]
        assert events[0]["client_id"] == ward.app.id
        assert events[0]["on_behalf_of"] == ward.nurse.id


class TestPrograms:
    """Backend services."""

    def test_get_what_their_scopes_say(self, ward: Ward) -> None:
        """By a signed assertion, everybody's; narrowed as apps are."""
        signer = Signer("RS384")
        client = ward.clinic.client(f"system/Observation.rs?{VITALS}", "system/Condition.r", jwks=signer.jwks)
        answer = signer.ask(ward.clinic.app, client, scope=f"system/Observation.rs?{VITALS}")
        assert answer.status_code == 200, answer.text
        assert answer.get_json()["scope"] == f"system/Observation.rs?{VITALS}"
        fhir = Fhir(Caller(ward.clinic.app, answer.get_json()["access_token"]))
        assert set(fhir.ids("Observation")) == {ward.id(f"{name} vital-signs") for name in ("one", "two", "stranger")}
        assert fhir.get(f"Condition/{ward.id('one condition')}").status_code == 404
        assert fhir.get("Patient").get_json().get("entry", []) == []
        assert fhir.post("Observation", observation(ward.one)).status_code == 403
        assert Caller(ward.clinic.app, fhir.caller.token).get("/patients").status_code == 403

    def test_get_no_more_than_they_may(self, clinic: Clinic) -> None:
        """More asked is refused; both kinds of scopes do not mix."""
        client, guest = clinic.client("system/Observation.rs"), Caller(clinic.app)
        for more in ("system/Observation.cruds", "system/*.rs", "patient:read", "system/Patient.r"):
            assert guest.ask_token(client, more).get_json()["error"] == "invalid_scope"
        assert guest.ask_token(client).get_json()["scope"] == "system/Observation.rs"
        answer = clinic.admin.post("/service-clients", {"name": "Both", "scopes": ["slot:read", "system/*.rs"]})
        assert answer.status_code == 422
        answer = clinic.admin.post("/service-clients", {"name": "App", "scopes": ["patient/*.rs"]})
        assert answer.status_code == 422


class TestRegistration:
    """Apps as administrators register them."""

    def test_names_every_problem(self, clinic: Clinic) -> None:
        """Addresses nobody may be sent to, scopes that are none."""
        body = {
            "name": "Wrong",
            "redirect_uris": ["http://app.example.org/", "https://app.example.org/#x", "data:text/html,x", BACK],
            "launch_uri": "ftp://app.example.org",
            "scopes": [
                "system/*.rs",
                "patient/Nothing.rs",
                "patient/*.rs?code=1",
                "patient/Observation.sr",
                "x",
                "patient/Observation.rs?subject=Patient/1",
                "patient/Observation.rs?nothing=1",
                "patient/*.rs",
            ],
        }
        answer = clinic.admin.post("/smart-apps", body)
        assert answer.status_code == 422
        places = [one["pointer"] for one in answer.get_json()["errors"]]
        assert places == [f"/redirect_uris/{n}" for n in range(3)] + ["/launch_uri"] + [
            f"/scopes/{n}" for n in range(7)
        ]

    @pytest.mark.parametrize(
        "good", ["https://a.example/b?c=d", "http://127.0.0.1:8123/x", "http://localhost:3000", "com.example.app:/back"]
    )
    def test_takes_addresses_of_every_kind_of_app(self, clinic: Clinic, good: str) -> None:
        """Of the web, of this computer, of a telephone."""
        assert App(clinic, redirect_uris=[good]).made["redirect_uris"] == [good]

    def test_rotates_and_closes(self, clinic: Clinic) -> None:
        """As with service clients; a secret is told once."""
        app = App(clinic, confidential=True)
        assert "client_secret" not in clinic.admin.get(f"/smart-apps/{app.id}").get_json()
        rotated = clinic.admin.post(f"/smart-apps/{app.id}/rotate-secret").get_json()
        assert rotated["client_secret"] != app.made["client_secret"]
        assert rotated["version"] == 2
        public = App(clinic)
        assert clinic.admin.post(f"/smart-apps/{public.id}/rotate-secret").get_json()["code"] == "no_secret"
        assert clinic.admin.post(f"/smart-apps/{app.id}/deactivate").get_json()["active"] is False
        assert clinic.admin.patch(f"/smart-apps/{app.id}", {"name": "No"}).get_json()["code"] == "client_closed"
        assert app.begin().status_code == 400
        names = [one["client_id"] for one in clinic.admin.get("/smart-apps").get_json()["items"]]
        assert {app.id, public.id} <= {*names}

    def test_secret_is_kept_by_its_digest(self, clinic: Clinic) -> None:
        """A confidential app proves itself in the header too."""
        app = App(clinic, confidential=True)
        form = Form({"token": "made up", "client_id": app.id, "client_secret": app.made["client_secret"]})
        assert app.guest.post("/oauth/introspect", form).get_json() == {"active": False, "iss": "http://localhost"}


@pytest.mark.parametrize(
    ("asked", "allowed", "granted"),
    [
        ("patient/*.cruds", "patient/Observation.rs", ["patient/Observation.rs"]),
        ("patient/Observation.rs", "patient/*.cruds", ["patient/Observation.rs"]),
        ("patient/Observation.read", "patient/*.r", ["patient/Observation.r"]),
        ("patient/Observation.rs?a=1", "patient/Observation.rs?b=2", ["patient/Observation.rs?a=1&b=2"]),
        ("patient/Observation.rs", "patient/Observation.rs?b=2", ["patient/Observation.rs?b=2"]),
        ("user/Observation.rs", "patient/Observation.rs", []),
        ("patient/Observation.r", "patient/Observation.s", []),
        ("patient/Observation.r", "patient/Condition.r", []),
        ("launch openid", "launch", ["launch"]),
    ],
)
def test_what_is_granted_is_common_to_both(asked: str, allowed: str, granted: list[str]) -> None:
    """Of scopes asked for, and allowed."""
    assert within(asked.split(), allowed.split()) == granted


@pytest.mark.parametrize(
    "text",
    ["patient/Observation.", "patient/Observation.sr", "patient/observation.r", "all/Observation.r", "launch", ""],
)
def test_what_is_no_scope_of_resources(text: str) -> None:
    """Says nothing of resources."""
    assert parsed(text) is None
