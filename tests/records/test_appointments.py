"""Appointments, schedules and free times as FHIR: one diary with the JSON API, and the same rules."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from medical.identity.permissions import Role
from medical.records.validation import validate
from tests.clinic import Clinic, Patch, day_after
from tests.records.conftest import Fhir, issues, refusal
from tests.records.samples import Json, parsed


class Diary:
    """A doctor with hours, a patient, a kind of visit, and somebody of the desk who speaks FHIR."""

    def __init__(self, clinic: Clinic) -> None:
        self.clinic = clinic
        self.doctor = clinic.clinician(time_zone="UTC")
        clinic.hours(self.doctor)
        self.kind, self.patient = clinic.appointment_type(), clinic.patient()
        self.desk = Fhir(clinic.admin)

    def document(self, at: str = "09:00", **more: Any) -> Json:
        """An Appointment that would go through."""
        made: Json = {
            "resourceType": "Appointment",
            "status": "proposed",
            "serviceType": [{"text": self.kind["name"]}],
            "start": day_after(3, at),
            "end": day_after(3, at[:2] + ":30"),
            "participant": [
                {"actor": {"reference": f"Patient/{self.patient['id']}"}, "status": "accepted"},
                {"actor": {"reference": f"Practitioner/{self.doctor.id}"}, "status": "accepted"},
            ],
        }
        return made | more

    def booked(self, at: str = "09:00", **more: Any) -> Json:
        answer = self.desk.post("Appointment", self.document(at, **more))
        assert answer.status_code == 201, answer.text
        made: Json = parsed(answer.text)
        return made

    def slots(self, query: str = "") -> list[Json]:
        found = self.desk.bundle(f"Slot?schedule=Schedule/{self.doctor.id}&start=ge{day_after(3)}&{query}")
        return [one["resource"] for one in found.get("entry", [])]


@pytest.fixture
def diary(clinic: Clinic) -> Diary:
    return Diary(clinic)


def parameters(**given: Any) -> Json:
    """Parameters of an operation."""
    listed = [
        {"name": name.replace("_", "-")} | ({"resource": value} if isinstance(value, dict) else {"valueString": value})
        for name, value in given.items()
    ]
    return {"resourceType": "Parameters", "parameter": listed}


def resources(answer: Any) -> list[Json]:
    assert answer.status_code == 200, answer.text
    return [one["resource"] for one in answer.get_json().get("entry", [])]


class TestAppointment:
    def test_is_one_with_that_of_the_json_api(self, diary: Diary) -> None:
        more = {"reasonCode": [{"text": "cough"}], "comment": "by phone", "priority": 3}
        made = diary.booked(**more)
        assert not validate(made)
        there = diary.clinic.admin.get(f"/appointments/{made['id']}").get_json()
        assert (there["status"], there["reason"], there["patient_id"]) == ("booked", "cough", diary.patient["id"])
        assert made.items() >= {**more, "status": "booked", "minutesDuration": 30}.items()
        assert diary.desk.get(f"Appointment/{made['id']}").get_json() == made
        moved = diary.clinic.admin.post(f"/appointments/{made['id']}/reschedule", {"start": day_after(3, "10:00")})
        assert moved.status_code == 200
        now = diary.desk.get(f"Appointment/{made['id']}")
        assert (now.get_json()["start"], now.headers["ETag"]) == (day_after(3, "10:00"), 'W/"2"')

    def test_of_the_desk_is_one_too(self, diary: Diary) -> None:
        made = diary.clinic.appointment(diary.patient, diary.doctor, diary.kind, day_after(3, "09:00"))
        read = diary.desk.get(f"Appointment/{made['id']}").get_json()
        assert not validate(read)
        actors = [one["actor"]["reference"] for one in read["participant"]]
        assert actors[:2] == [f"Patient/{diary.patient['id']}", f"Practitioner/{diary.doctor.id}"]
        assert read["serviceType"][0]["coding"][0]["code"] == diary.kind["id"]

    def test_what_is_taken_is_a_conflict(self, diary: Diary) -> None:
        diary.booked()
        answer = diary.desk.post("Appointment", diary.document())
        assert refusal(answer) == (409, "slot_taken")
        assert issues(answer)[0]["code"] == "conflict"

    def test_of_eight_at_once_one_gets_the_time(self, diary: Diary) -> None:
        with ThreadPoolExecutor(8) as pool:
            answers = [*pool.map(lambda _: diary.desk.post("Appointment", diary.document()).status_code, range(8))]
        assert sorted(answers) == [201] + [409] * 7

    @pytest.mark.parametrize(
        ("change", "where"),
        [
            ({"participant": []}, "Appointment.participant"),
            ({"serviceType": [{"text": "no such"}]}, None),
            ({"start": None, "end": None}, "Appointment"),
            ({"status": "arrived"}, "Appointment.status"),
            ({"minutesDuration": -5}, "Appointment.minutesDuration"),
        ],
    )
    def test_everything_wrong_is_told(self, diary: Diary, change: Json, where: str | None) -> None:
        diary.clinic.appointment_type()
        wrong = {name: value for name, value in (diary.document() | change).items() if value is not None}
        answer = diary.desk.post("Appointment", wrong)
        assert answer.status_code == 422, answer.text
        assert any(one["expression"][0].startswith(where or "Appointment.serviceType") for one in issues(answer))

    def test_with_the_fairest_of_a_specialty(self, diary: Diary) -> None:
        comes = diary.document()["participant"][:1]
        doctor = diary.clinic.admin.get(f"/clinicians/{diary.doctor.id}").get_json()
        made = diary.booked(participant=comes, specialty=[{"text": doctor["specialty"]}])
        assert made["participant"][1]["actor"]["reference"] == f"Practitioner/{diary.doctor.id}"

    def test_patients_book_for_themselves_and_nobody_sees_why_who_need_not(self, clinic: Clinic, diary: Diary) -> None:
        own, caller = clinic.patient_with_account()
        diary.patient = own
        made = Fhir(caller).made(diary.document(description="itch", comment="hurry"))
        assert made["description"] == "itch"
        seen = Fhir(clinic.user(Role.RECEPTIONIST)).get(f"Appointment/{made['id']}").get_json()
        assert not {"description", "comment", "reasonCode"} & set(seen)
        stranger = clinic.patient_with_account()[1]
        assert refusal(Fhir(stranger).get(f"Appointment/{made['id']}")) == (404, "not_found")

    def test_is_cancelled_and_moved_by_writing_it(self, diary: Diary) -> None:
        made = diary.booked()
        moved = diary.desk.put(made | {"start": day_after(3, "11:00"), "end": day_after(3, "11:30")})
        assert (moved.status_code, moved.get_json()["start"]) == (200, day_after(3, "11:00"))
        assert refusal(diary.desk.put(made, If_Match='W/"1"')) == (412, "stale")
        off = moved.get_json() | {"status": "cancelled", "cancelationReason": {"text": "flu"}}
        assert diary.desk.put(off).get_json()["cancelationReason"] == {"text": "flu"}
        assert diary.clinic.admin.get(f"/appointments/{made['id']}").get_json()["status_reason"] == "flu"
        versions = diary.desk.bundle(f"Appointment/{made['id']}/_history")["entry"]
        assert [one["resource"]["status"] for one in versions] == ["cancelled", "booked", "booked"]
        assert [one["resource"]["start"] for one in versions][-1] == day_after(3, "09:00")
        both = off | {"status": "booked", "start": day_after(3, "12:00"), "end": day_after(3, "12:30")}
        assert diary.desk.put(both).status_code == 422
        assert refusal(diary.desk.put(off | {"status": "arrived"})) == (409, "invalid_transition")

    def test_what_cannot_be_changed_is_refused(self, diary: Diary) -> None:
        made = diary.booked()
        label = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}
        for change in ({"end": day_after(3, "10:00")}, {"meta": {"security": [label]}}):
            assert diary.desk.put(made | change).status_code == 422
        assert diary.desk.get(f"Appointment/{made['id']}").headers["ETag"] == 'W/"1"'

    def test_more_is_said_of_it_in_its_next_version(self, diary: Diary) -> None:
        made = diary.booked()
        said = {"reasonCode": [{"text": "cough"}], "comment": "by phone"}
        answer = diary.desk.put(made | said)
        assert (answer.status_code, answer.headers["ETag"]) == (200, 'W/"2"')
        assert answer.get_json().items() >= said.items()
        assert diary.clinic.admin.get(f"/appointments/{made['id']}").get_json()["reason"] == "cough"

    def test_is_cancelled_by_a_patch(self, diary: Diary) -> None:
        made = diary.booked(comment="by phone")
        path = f"/fhir/R4/Appointment/{made['id']}"
        answer = diary.clinic.admin.call(
            "PATCH", path, Patch([{"op": "replace", "path": "/status", "value": "cancelled"}])
        )
        assert (answer.status_code, answer.get_json()["status"]) == (200, "cancelled")
        assert answer.get_json()["comment"] == "by phone"
        assert len(diary.slots()) == len(diary.slots(f"service-type={diary.kind['id']}"))

    def test_each_change_takes_its_permission(self, clinic: Clinic, diary: Diary) -> None:
        own, caller = clinic.patient_with_account()
        diary.patient = own
        made = diary.booked()
        assert refusal(Fhir(caller).put(made | {"status": "entered-in-error"})) == (403, "forbidden")
        assert diary.desk.put(made | {"participant": diary.document()["participant"][1:]}).status_code == 422
        assert Fhir(caller).put(made | {"status": "cancelled"}).status_code == 200

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("patient={patient}", True),
            ("patient=Patient/{patient}", True),
            ("actor=Practitioner/{doctor}", True),
            ("practitioner={doctor}", True),
            ("actor=Patient/{other}", False),
            ("patient=none", False),
            ("date=ge2020-01-01&date=lt2100", True),
            ("date=2020", False),
            ("status=booked,arrived", True),
            ("status=cancelled", False),
            ("status=no-such", False),
            ("service-type={kind}", True),
            ("service-type=urn:medical-backend:appointment-type|{kind}", True),
            ("_id={id}", True),
            ("_id=none", False),
            ("patient.identifier=urn:x|7", True),
            ("patient.identifier=urn:x|8", False),
            ("patient.identifier=urn:x|8&_id={id}", False),
            ("patient={patient}&actor=Patient/{other}", False),
            ("patient={patient}&actor=Patient/{patient}", True),
        ],
    )
    def test_is_found(self, clinic: Clinic, query: str, found: bool) -> None:
        diary = Diary(clinic)
        diary.patient = clinic.patient(identifiers=[{"system": "urn:x", "value": "7"}])
        made = diary.booked()
        told = {"patient": diary.patient["id"], "doctor": diary.doctor.id, "kind": diary.kind["id"]}
        query = query.format(**told, id=made["id"], other=clinic.patient()["id"])
        caller = Fhir(clinic.user(Role.NURSE))  # who reads records, too
        if "identifier" in query:
            clinic.relate(diary.patient, caller.caller)
        assert caller.ids(f"Appointment?{query}") == [made["id"]] * found

    def test_a_page_at_a_time_with_who_and_where(self, clinic: Clinic, diary: Diary) -> None:
        made = [diary.booked(at)["id"] for at in ("09:00", "10:00", "11:00")]
        assert diary.desk.all_ids("Appointment?_count=2") == made
        clinic.relate(diary.patient, diary.doctor)
        found = Fhir(diary.doctor).ids("Appointment?_include=Appointment:patient", "include")
        assert found == [diary.patient["id"]]
        form = diary.desk.call("POST", "Appointment/_search", b"_count=1", **{"Content-Type": FORM})
        assert len(form.get_json()["entry"]) == 1

    @pytest.mark.parametrize(
        "query", ["date=soon", "date=ne2020", "patient=Practitioner/1", "_cursor=x", "_cursor=WzFd"]
    )
    def test_what_cannot_be_asked_for(self, diary: Diary, query: str) -> None:
        assert refusal(diary.desk.get(f"Appointment?{query}")) == (400, "unknown_parameter")

    def test_strictly_nothing_unknown(self, diary: Diary) -> None:
        assert diary.desk.get("Appointment?shoe-size=44").status_code == 200
        for path in ("Appointment?shoe-size=44", "Appointment?_sort=-date", "Slot?_sort=-start"):
            assert refusal(diary.desk.get(path, Prefer="handling=strict")) == (400, "unknown_parameter")


FORM = "application/x-www-form-urlencoded"


class TestSlot:
    def test_is_free_until_it_is_booked(self, diary: Diary) -> None:
        first, *others = diary.slots("start=lt" + day_after(4))
        assert not validate(first)
        assert first["schedule"]["reference"] == f"Schedule/{diary.doctor.id}"
        path = f"Slot/{first['id']}"
        assert diary.desk.get(path).get_json()["status"] == "free"
        made = diary.document() | {"slot": [{"reference": path}]}
        del made["start"], made["end"], made["serviceType"]
        assert diary.desk.made(made)["start"] == first["start"]
        assert diary.desk.get(path).get_json()["status"] == "busy"
        assert [one["id"] for one in diary.slots("start=lt" + day_after(4))] == [one["id"] for one in others]

    def test_is_found(self, clinic: Clinic, diary: Diary) -> None:
        colleague = clinic.clinician(time_zone="UTC")
        clinic.hours(colleague)
        span = f"start=ge{day_after(3)}&start=lt{day_after(4)}&_count=1000"
        own = {one["schedule"]["reference"] for one in diary.slots(span)}
        assert own == {f"Schedule/{diary.doctor.id}"}
        every = diary.desk.bundle(f"Slot?{span}&status=free&_include=Slot:schedule")["entry"]
        schedules = [one["resource"]["id"] for one in every if one["search"]["mode"] == "include"]
        assert set(schedules) == {diary.doctor.id, colleague.id}
        assert diary.desk.ids(f"Slot?{span}&schedule.actor=Practitioner/{colleague.id}") != []
        assert diary.desk.ids(f"Slot?{span}&schedule=none") == []
        assert diary.desk.ids(f"Slot?{span}&status=busy") == []
        assert diary.desk.ids(f"Slot?{span}&service-type=no-such") == []
        form = f"schedule=Schedule/{diary.doctor.id}&_count=1".encode()
        found = diary.desk.call("POST", "Slot/_search", form, **{"Content-Type": FORM})
        assert len(found.get_json()["entry"]) == 1

    def test_of_several_kinds_a_page_at_a_time(self, clinic: Clinic, diary: Diary) -> None:
        clinic.appointment_type(duration_minutes=60)
        clinic.hours(clinic.clinician(time_zone="UTC"))
        span = f"start=ge{day_after(3)}&start=lt{day_after(4)}"
        whole = diary.desk.ids(f"Slot?{span}&_count=1000")
        assert len(whole) == len(set(whole)) > 20
        assert diary.desk.all_ids(f"Slot?{span}&_count=7") == whole

    @pytest.mark.parametrize("slot_id", ["none", "-", "zzz", "z" * 64, "0"])
    def test_there_is_no_other(self, fhir: Fhir, slot_id: str) -> None:
        assert refusal(fhir.get(f"Slot/{slot_id}")) == (404, "not_found")
        assert refusal(fhir.call("DELETE", f"Slot/{slot_id}")) == (405, "not_here")

    def test_a_schedule_is_a_clinicians(self, diary: Diary) -> None:
        read = diary.desk.get(f"Schedule/{diary.doctor.id}").get_json()
        assert not validate(read)
        assert read["actor"][0]["reference"] == f"Practitioner/{diary.doctor.id}"
        assert diary.desk.ids(f"Schedule?actor=Practitioner/{diary.doctor.id}") == [diary.doctor.id]
        diary.clinic.clinician()
        assert len(diary.desk.all_ids("Schedule?_count=1")) == 2
        for query in ("start=soon", "start=ne2020", "_cursor=x", "_cursor=WzFd"):
            assert refusal(diary.desk.get(f"Slot?{query}")) == (400, "unknown_parameter")
        assert refusal(diary.desk.get("Schedule?_cursor=WzFd")) == (400, "unknown_parameter")


class TestThreeSteps:
    """Find, hold, book, as IHE has it."""

    def span(self) -> Json:
        return {"start": day_after(3, "09:00"), "end": day_after(3, "10:00")}

    def test_proposed_held_and_booked(self, clinic: Clinic, diary: Diary) -> None:
        comes = f"Patient/{diary.patient['id']}"
        asked = parameters(**self.span(), practitioner=f"Practitioner/{diary.doctor.id}", patient_reference=comes)
        first, second = resources(diary.desk.post("Appointment/$find", asked))
        assert not validate(first)
        assert (first["status"], first["start"]) == ("proposed", day_after(3, "09:00"))
        place = parameters(appointment_reference=f"Appointment/{first['id']}")
        answer = diary.desk.post("Appointment/$hold", place)
        [held] = resources(answer)
        assert (held["status"], "Expires" in answer.headers) == ("pending", True)
        desk = Fhir(clinic.user(Role.RECEPTIONIST))
        path = f"Appointment/$find?start={self.span()['start']}&end={self.span()['end']}"
        assert [one["id"] for one in resources(desk.get(path))] == [second["id"]]
        assert refusal(desk.post("Appointment/$hold", place)) == (409, "slot_taken")
        by_another = parameters(appointment_reference=f"Appointment/{first['id']}", patient_reference=comes)
        assert refusal(desk.post("Appointment/$book", by_another)) == (409, "slot_taken")
        of_hold = parameters(appointment_reference=held["id"], patient_reference=comes, comment="by phone")
        [made] = resources(diary.desk.post("Appointment/$book", of_hold))
        assert (made["status"], made["comment"]) == ("booked", "by phone")
        off = parameters(appointment_resource=made | {"status": "cancelled"})
        assert [one["status"] for one in resources(diary.desk.post("Appointment/$book", off))] == ["cancelled"]

    def test_a_proposal_is_booked_as_it_is(self, diary: Diary) -> None:
        [first, _] = resources(diary.desk.post("Appointment/$find", parameters(**self.span())))
        by_id = {"resourceType": "Patient", "id": diary.patient["id"]}
        asked = parameters(appt_resource=first, patient_resource=by_id)
        assert [one["status"] for one in resources(diary.desk.post("Appointment/$book", asked))] == ["booked"]
        assert diary.clinic.admin.get("/appointments").get_json()["items"][0]["start"] == day_after(3, "09:00")

    def test_a_page_at_a_time(self, diary: Diary) -> None:
        span = f"start={day_after(3)}&end={day_after(4)}"
        whole = diary.desk.ids(f"Appointment/$find?{span}&_count=1000")
        assert diary.desk.all_ids(f"Appointment/$find?{span}&_count=5") == whole

    @pytest.mark.parametrize(
        ("operation", "given", "expected"),
        [
            ("$find", {}, (400, "unknown_parameter")),
            ("$find", {"start": "2030-01-01"}, (400, "unknown_parameter")),
            ("$hold", {}, (400, "unknown_parameter")),
            ("$hold", {"appointment_reference": "Appointment/none"}, (404, "not_found")),
            ("$book", {"appointment_reference": "Appointment/no-uuid"}, (404, "not_found")),
            ("$book", {"appointment_resource": {"status": "cancelled", "id": "x"}}, (404, "not_found")),
        ],
    )
    def test_what_cannot_be_done(self, diary: Diary, operation: str, given: Json, expected: tuple[int, str]) -> None:
        assert refusal(diary.desk.post(f"Appointment/{operation}", parameters(**given))) == expected
