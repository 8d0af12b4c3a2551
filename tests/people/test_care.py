"""Who sees whose record: by a visit, an assignment, a referral, or broken glass, and never otherwise."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from flask import Flask
from sqlalchemy import select, text
from werkzeug.test import TestResponse

from medical.audit.models import AuditEvent
from medical.identity.permissions import Role
from medical.people.models import Patient
from medical.platform.db import Scope, db, scoped
from tests.clinic import Caller, Clinic, Statements, day_after
from tests.conftest import psycopg_url

GLASS = {"reason_code": "EMERGENCY", "reason": "found unconscious"}


def code_of(answer: TestResponse) -> tuple[int, str]:
    """Status and code of a refusal."""
    return answer.status_code, answer.get_json()["code"]


class Ward:
    """A clinician with hours, a nurse, a patient, and a hand on the clock of what is written."""

    def __init__(self, clinic: Clinic, database_url: str) -> None:
        self.clinic, self.database_url = clinic, database_url
        self.doctor, self.nurse = clinic.clinician(time_zone="UTC"), clinic.user(Role.NURSE)
        self.kind, self.patient = clinic.appointment_type(), clinic.patient(phone="+49 30 901820")
        clinic.hours(self.doctor)

    def path(self, tail: str = "") -> str:
        """The patient's."""
        return f"/patients/{self.patient['id']}{tail}"

    def sees(self, caller: Caller) -> bool:
        """Whether the caller sees the patient's record; absent and hidden look alike."""
        answer = caller.get(self.path())
        assert answer.status_code in (200, 404)
        return answer.status_code == 200

    def visit(self, by: Caller | None = None, at: str = "10:00") -> dict[str, Any]:
        """A visit of the patient, booked by the desk or ``by``."""
        booking = self.clinic.booking(self.patient, self.doctor, self.kind, day_after(3, at))
        made = (by or self.clinic.admin).post("/appointments", booking)
        assert made.status_code == 201, made.text
        visit: dict[str, Any] = made.get_json()
        return visit

    def move(self, visit: dict[str, Any], move: str, body: Any = None) -> None:
        """The desk moves the visit on."""
        self.moved(self.clinic.admin, visit, move, body)

    def moved(self, caller: Caller, visit: dict[str, Any], move: str, body: Any = None) -> None:
        """The caller does, at the end of its time where it is what happens then."""
        if move in ("check-in", "no-show"):
            with self.clinic.at(visit["end"]) as then:
                answer = then(caller).post(f"/appointments/{visit['id']}/{move}", body)
        else:
            answer = caller.post(f"/appointments/{visit['id']}/{move}", body)
        assert answer.status_code == 200, answer.text

    def rewrite(self, statement: str, *values: object) -> None:
        """Change what is written, as time would."""
        with psycopg.connect(psycopg_url(self.database_url)) as connection:
            connection.execute("ALTER TABLE appointment DISABLE TRIGGER USER")
            assert connection.execute(statement, values).rowcount == 1  # type: ignore[call-overload]  # of this file
            connection.execute("ALTER TABLE appointment ENABLE TRIGGER USER")


@pytest.fixture
def ward(clinic: Clinic, database_url: str) -> Ward:
    """A new one."""
    return Ward(clinic, database_url)


class TestSight:
    """What gives sight of a record, and for how long (hard cases 2 and 3)."""

    def test_nobody_who_cares_for_nobody_sees_anybody(self, ward: Ward) -> None:
        assert not ward.sees(ward.doctor)
        assert not ward.sees(ward.nurse)
        assert ward.doctor.get("/patients").get_json()["items"] == []
        assert code_of(ward.doctor.patch(ward.path(), {"phone": "+49 30 1"})) == (404, "not_found")

    @pytest.mark.parametrize("role", [Role.ADMIN, Role.RECEPTIONIST])
    def test_the_desk_sees_everybody(self, ward: Ward, role: Role) -> None:
        assert ward.sees(ward.clinic.user(role))

    def test_a_visit_gives_sight_from_its_booking_on(self, ward: Ward) -> None:
        ward.visit()
        assert ward.sees(ward.doctor)
        assert not ward.sees(ward.nurse)
        assert [patient["id"] for patient in ward.doctor.get("/patients").get_json()["items"]] == [ward.patient["id"]]
        assert ward.doctor.patch(ward.path(), {"phone": "+49 30 1"}).status_code == 200

    def test_until_ninety_days_after_its_end(self, ward: Ward) -> None:
        visit = ward.visit()
        age = "UPDATE appointment SET start_at = now() - interval '1 h' - %s::interval, end_at = now() - %s::interval"
        ward.rewrite(f"{age} WHERE id = %s", "89 days 23 hours", "89 days 23 hours", visit["id"])
        assert ward.sees(ward.doctor)
        ward.rewrite(f"{age} WHERE id = %s", "90 days 1 minute", "90 days 1 minute", visit["id"])
        assert not ward.sees(ward.doctor)

    @pytest.mark.parametrize(("move", "body"), [("cancel", {"reason": "flu"}), ("no-show", None)])
    def test_a_visit_that_was_not_gives_it_for_a_day_more(self, ward: Ward, move: str, body: Any) -> None:
        visit = ward.visit()
        ward.move(visit, move, body)
        assert ward.sees(ward.doctor), "to finish notes"
        released = "UPDATE appointment SET released_at = now() - interval '24 hours 1 minute' WHERE id = %s"
        ward.rewrite(released, visit["id"])
        assert not ward.sees(ward.doctor)

    def test_booking_somebody_into_ones_own_diary_is_no_key(self, ward: Ward) -> None:
        visit = ward.visit(by=ward.doctor)
        assert not ward.sees(ward.doctor)
        assert ward.doctor.get(f"/appointments/{visit['id']}").status_code == 200, "the time is theirs"
        ward.moved(ward.doctor, visit, "check-in")
        assert not ward.sees(ward.doctor), "nor is checking them in oneself"

    def test_but_becomes_one_when_somebody_else_checks_them_in(self, ward: Ward) -> None:
        visit = ward.visit(by=ward.doctor)
        ward.move(visit, "check-in")
        assert ward.sees(ward.doctor)

    def test_or_gives_them_another_time(self, ward: Ward) -> None:
        visit = ward.visit(by=ward.doctor)
        ward.move(visit, "reschedule", {"start": day_after(4, "10:00")})
        assert ward.sees(ward.doctor)

    def test_taking_a_visit_over_is_no_key_either(self, ward: Ward) -> None:
        """The desk's booking of a colleague says nothing about who moves it to themselves."""
        colleague = ward.clinic.user(Role.CLINICIAN, Role.NURSE)
        body = {"user_id": colleague.id, "specialty": "Surgery", "time_zone": "UTC"}
        assert ward.clinic.admin.post("/clinicians", body).status_code == 201
        ward.clinic.hours(colleague)
        visit = ward.visit()
        move = {"start": day_after(4, "10:00"), "clinician_id": colleague.id}
        assert colleague.post(f"/appointments/{visit['id']}/reschedule", move).status_code == 200
        assert not ward.sees(colleague)
        assert not ward.sees(ward.doctor), "whose diary it has left"

    def test_the_next_request_after_the_role_is_gone_sees_nothing(self, ward: Ward) -> None:
        ward.visit()
        assert ward.sees(ward.doctor)
        roles = {"roles": ["nurse", "patient"]}
        assert ward.clinic.admin.put(f"/users/{ward.doctor.id}/roles", roles).status_code == 200
        again = ward.clinic.signed_in(UUID(ward.doctor.id))
        assert ward.sees(again), "a nurse cares too"
        ward.clinic.admin.put(f"/users/{ward.doctor.id}/roles", {"roles": ["patient"]})
        assert not ward.sees(ward.clinic.signed_in(UUID(ward.doctor.id)))


class TestAssignment:
    """Somebody is given the care of a patient."""

    def test_gives_sight_and_its_end_takes_it(self, ward: Ward) -> None:
        given = ward.clinic.relate(ward.patient, ward.nurse)
        assert given["created_by"] == ward.clinic.admin.id
        assert ward.sees(ward.nurse)
        ended = ward.clinic.admin.post(ward.path(f"/care-relationships/{given['id']}/end"), {"reason": "discharged"})
        assert ended.status_code == 200
        assert ended.get_json()["end_reason"] == "discharged"
        assert not ward.sees(ward.nurse)

    def test_holds_between_its_times_only(self, ward: Ward) -> None:
        ward.clinic.relate(ward.patient, ward.nurse, starts_at=day_after(1), ends_at=day_after(2))
        assert not ward.sees(ward.nurse), "not yet"
        ward.rewrite("UPDATE care_relationship SET starts_at = now() WHERE user_id = %s", ward.nurse.user_id)
        assert ward.sees(ward.nurse)
        past = "UPDATE care_relationship SET starts_at = now() - interval '2 s', ends_at = now() - interval '1 s'"
        ward.rewrite(f"{past} WHERE user_id = %s", ward.nurse.user_id)
        assert not ward.sees(ward.nurse), "no longer"

    def test_nobody_gives_it_to_themselves(self, ward: Ward) -> None:
        both = ward.clinic.user(Role.ADMIN, Role.CLINICIAN)
        body = {"user_id": both.id, "origin": "assignment", "reason": "curious"}
        assert code_of(both.post(ward.path("/care-relationships"), body)) == (403, "to_oneself")

    def test_who_cares_lends_it_for_ninety_days_at_most(self, ward: Ward) -> None:
        body = {"user_id": ward.nurse.id, "origin": "assignment", "reason": "night shift"}
        path = ward.path("/care-relationships")
        assert code_of(ward.doctor.post(path, body | {"ends_at": day_after(30)})) == (404, "not_found")
        ward.visit()
        assert code_of(ward.doctor.post(path, body)) == (403, "not_yours")
        assert code_of(ward.doctor.post(path, body | {"ends_at": day_after(92)})) == (403, "not_yours")
        assert ward.doctor.post(path, body | {"ends_at": day_after(30)}).status_code == 201
        assert ward.sees(ward.nurse)

    def test_broken_glass_lends_nothing(self, ward: Ward) -> None:
        assert ward.doctor.post(ward.path("/break-glass"), GLASS).status_code == 201
        body = {"user_id": ward.nurse.id, "origin": "referral", "reason": "look at this", "ends_at": day_after(1)}
        assert code_of(ward.doctor.post(ward.path("/care-relationships"), body)) == (403, "not_yours")

    def test_only_to_who_cares_for_patients(self, ward: Ward) -> None:
        for somebody, refusal in [
            (ward.clinic.user(Role.RECEPTIONIST).id, (409, "not_a_carer")),
            (str(uuid4()), (404, "not_found")),
        ]:
            body = {"user_id": somebody, "origin": "assignment", "reason": "x"}
            assert code_of(ward.clinic.admin.post(ward.path("/care-relationships"), body)) == refusal

    def test_ends_once_and_by_who_has_to_do_with_it(self, ward: Ward) -> None:
        given = ward.clinic.relate(ward.patient, ward.nurse)
        path = ward.path(f"/care-relationships/{given['id']}/end")
        ward.visit()
        assert code_of(ward.doctor.post(path, {"reason": "mine now"})) == (403, "not_yours")
        assert ward.clinic.admin.post(path, {"reason": "over"}).status_code == 200
        assert code_of(ward.clinic.admin.post(path, {"reason": "over"})) == (409, "care_ended")

    def test_of_another_patient_is_not_there(self, ward: Ward) -> None:
        """A child is looked for under its own parent only (ACC-03)."""
        given = ward.clinic.relate(ward.clinic.patient(), ward.nurse)
        path = ward.path(f"/care-relationships/{given['id']}/end")
        assert code_of(ward.clinic.admin.post(path, {"reason": "x"})) == (404, "not_found")

    def test_are_listed_newest_first_in_pages(self, ward: Ward) -> None:
        made = [ward.clinic.relate(ward.patient, ward.clinic.user(Role.NURSE))["id"] for _ in range(3)]
        first = ward.clinic.admin.get(ward.path("/care-relationships"), limit=2).get_json()
        assert [one["id"] for one in first["items"]] == made[:0:-1]
        rest = ward.clinic.admin.get(ward.path("/care-relationships"), limit=2, cursor=first["next"]).get_json()
        assert ([one["id"] for one in rest["items"]], rest["next"]) == (made[:1], None)

    def test_times_the_wrong_way_round_are_named(self, ward: Ward) -> None:
        body = {"user_id": ward.nurse.id, "origin": "assignment", "reason": "x"}
        refused = ward.clinic.admin.post(ward.path("/care-relationships"), body | {"ends_at": day_after(-1)})
        assert [error["pointer"] for error in refused.get_json()["errors"]] == ["/ends_at"]


class TestBreakGlass:
    """A record is needed now, by somebody who does not care for the patient (ACC-13, hard case 1)."""

    def test_opens_one_record_for_an_hour(self, ward: Ward) -> None:
        other = ward.clinic.patient()
        broken = ward.nurse.post(ward.path("/break-glass"), GLASS)
        assert broken.status_code == 201
        assert ward.sees(ward.nurse)
        assert ward.nurse.get(f"/patients/{other['id']}").status_code == 404, "this patient, no other"
        assert not ward.sees(ward.doctor), "this caller, no other"
        over = "UPDATE break_glass_grant SET starts_at = now() - interval '61 min', expires_at = now() WHERE id = %s"
        ward.rewrite(over, broken.get_json()["id"])
        assert not ward.sees(ward.nurse)

    def test_running_out_between_two_pages_ends_the_pages(self, ward: Ward) -> None:
        grant = ward.nurse.post(ward.path("/break-glass"), GLASS).get_json()
        for _ in range(2):
            ward.clinic.relate(ward.patient, ward.clinic.user(Role.NURSE))
        path = ward.path("/care-relationships")
        page = ward.nurse.get(path, limit=1).get_json()
        assert page["next"]
        over = "UPDATE break_glass_grant SET starts_at = now() - interval '61 min', expires_at = now() WHERE id = %s"
        ward.rewrite(over, grant["id"])
        assert code_of(ward.nurse.get(path, limit=1, cursor=page["next"])) == (404, "not_found")

    @pytest.mark.parametrize(
        ("body", "pointers"),
        [
            ({}, ["/reason", "/reason_code"]),
            ({"reason_code": "EMERGENCY", "reason": "short"}, ["/reason"]),
            ({"reason_code": "EMERGENCY", "reason": " " * 20}, ["/reason"]),
            ({"reason_code": "CURIOUS", "reason": "found unconscious"}, ["/reason_code"]),
        ],
    )
    def test_wants_a_code_and_a_reason(self, ward: Ward, body: dict[str, str], pointers: list[str]) -> None:
        refused = ward.nurse.post(ward.path("/break-glass"), body)
        assert refused.status_code == 422
        assert sorted(error["pointer"] for error in refused.get_json()["errors"]) == pointers
        assert not ward.sees(ward.nurse)

    def test_eight_times_at_once_is_one_grant_and_eight_events(self, ward: Ward, app: Flask) -> None:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: ward.nurse.post(ward.path("/break-glass"), GLASS), range(8)))
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.get_json()["id"] for answer in answers}) == 1
        with app.app_context(), scoped(Scope(ward.clinic.organization_id)):
            query = select(AuditEvent).where(
                AuditEvent.action == "break-glass.opened", AuditEvent.entity_type == "break-glass-grant"
            )
            assert len(db.session.scalars(query).all()) == 8

    def test_leaves_its_trail_with_the_patient(self, ward: Ward, app: Flask) -> None:
        ward.nurse.post(ward.path("/break-glass"), GLASS)
        with app.app_context(), scoped(Scope(ward.clinic.organization_id)):
            query = select(AuditEvent.actor_id, AuditEvent.outcome).where(
                AuditEvent.action == "break-glass.opened", AuditEvent.patient_id == UUID(ward.patient["id"])
            )
            assert {*db.session.execute(query)} == {(ward.nurse.user_id, "success")}

    def test_stands_in_the_trail_as_the_purpose_of_what_it_opened(self, ward: Ward, app: Flask) -> None:
        ward.visit()
        for caller in (ward.nurse, ward.doctor):
            assert caller.post(ward.path("/break-glass"), GLASS).status_code == 201
            assert ward.sees(caller)
        with app.app_context(), scoped(Scope(ward.clinic.organization_id)):
            query = select(AuditEvent.actor_id, AuditEvent.purpose).where(AuditEvent.action == "patient.read")
            assert dict(row for row in db.session.execute(query)) == {
                ward.nurse.user_id: "BTG",
                ward.doctor.user_id: None,
            }, "who cares anyway did not need it"

    def test_waits_for_somebody_elses_review(self, ward: Ward) -> None:
        auditor = ward.clinic.user(Role.AUDITOR)
        grant = ward.doctor.post(ward.path("/break-glass"), GLASS).get_json()
        assert ward.doctor.get("/break-glass/reviews").get_json()["items"] == [], "one's own is for others"
        waiting = auditor.get("/break-glass/reviews").get_json()["items"]
        assert waiting == [grant]
        path, verdict = f"/break-glass/{grant['id']}/review", {"outcome": "justified", "comment": "it was an emergency"}
        assert code_of(ward.doctor.post(path, verdict)) == (403, "to_oneself")
        assert auditor.post(path, verdict).get_json()["outcome"] == "justified"
        assert auditor.get("/break-glass/reviews").get_json()["items"] == []
        assert [one["id"] for one in auditor.get("/break-glass/reviews", status="done").get_json()["items"]] == [
            grant["id"]
        ]
        assert code_of(auditor.post(path, verdict | {"outcome": "unjustified"})) == (409, "already_reviewed")

    def test_two_reviewers_at_once_are_one_review(self, ward: Ward) -> None:
        grant = ward.nurse.post(ward.path("/break-glass"), GLASS).get_json()
        auditors = [ward.clinic.user(Role.AUDITOR) for _ in range(6)]
        path, verdict = f"/break-glass/{grant['id']}/review", {"outcome": "justified", "comment": "fine"}
        with ThreadPoolExecutor(6) as pool:
            statuses = sorted(pool.map(lambda one: one.post(path, verdict).status_code, auditors))
        assert statuses == [200] + [409] * 5

    def test_does_not_open_ones_own_record(self, ward: Ward, app: Flask, caplog: pytest.LogCaptureFixture) -> None:
        """Staff see their own as patients, not as staff, and the operator is told (hard case 9)."""
        with app.app_context(), scoped(Scope(ward.clinic.organization_id)):
            db.session.get_one(Patient, UUID(ward.patient["id"])).user_id = ward.doctor.user_id
            db.session.commit()
        ward.visit()
        assert code_of(ward.doctor.post(ward.path("/break-glass"), GLASS)) == (403, "own_record")
        assert "own_record_refused" in caplog.text
        caplog.clear()
        assert not ward.sees(ward.clinic.user(Role.NURSE))
        assert "own_record_refused" not in caplog.text, "somebody else's is no alarm"
        assert not ward.sees(ward.doctor), "not by a visit to themselves either"
        assert "own_record_refused" in caplog.text
        ward.clinic.relate(ward.patient, ward.doctor)
        assert not ward.sees(ward.doctor), "nor by an assignment"
        roles = {"roles": ["clinician", "patient"]}
        assert ward.clinic.admin.put(f"/users/{ward.doctor.id}/roles", roles).status_code == 200
        assert ward.sees(ward.clinic.signed_in(UUID(ward.doctor.id))), "as the patient they are"

    def test_somebody_of_another_organisation_is_not_there(self, ward: Ward, other_clinic: Clinic) -> None:
        nurse = other_clinic.user(Role.NURSE)
        assert code_of(nurse.post(ward.path("/break-glass"), GLASS)) == (404, "not_found")


class TestCards:
    """Who cares for patients finds others as a card, enough to recognise them and no more."""

    def test_a_stranger_shows_as_a_card(self, ward: Ward) -> None:
        found = ward.nurse.get("/patients", q=ward.patient["family_name"]).get_json()["items"]
        assert [(one["id"], one["seen"]) for one in found] == [(ward.patient["id"], False)]
        shown = {name for name, value in found[0].items() if value not in (None, [], False)}
        assert shown == {"id", "mrn", "given_name", "family_name", "birth_date", "sex", "version"}

    def test_whoever_one_cares_for_shows_whole(self, ward: Ward) -> None:
        ward.clinic.relate(ward.patient, ward.nurse)
        found = ward.nurse.get("/patients", q=ward.patient["family_name"]).get_json()["items"]
        assert [(one["id"], one["seen"], one["phone"]) for one in found] == [
            (ward.patient["id"], True, ward.patient["phone"])
        ]

    @pytest.mark.parametrize("q", ["901820", "+49 30 901820", "x"])
    def test_what_is_not_on_the_card_finds_nobody(self, ward: Ward, q: str) -> None:
        """A phone number that finds somebody would be known to be theirs (ACC-06)."""
        assert ward.nurse.get("/patients", q=q).get_json()["items"] == []

    def test_without_a_search_there_are_no_cards(self, ward: Ward) -> None:
        assert ward.nurse.get("/patients").get_json()["items"] == []

    def test_cards_and_patients_come_in_one_order_of_pages(self, ward: Ward) -> None:
        family = f"Ordering{uuid4().hex[:6]}"
        people = [ward.clinic.patient(family_name=family, given_name=f"N{number}") for number in range(6)]
        for patient in people[::2]:
            ward.clinic.relate(patient, ward.nurse)
        seen: list[tuple[str, bool]] = []
        cursor = None
        while True:
            page = ward.nurse.get("/patients", q=family, limit=2, cursor=cursor).get_json()
            seen += [(one["id"], one["seen"]) for one in page["items"]]
            if not (cursor := page["next"]):
                break
        assert seen == [(patient["id"], number % 2 == 0) for number, patient in enumerate(people)]

    def test_more_patients_cost_no_more_statements(self, ward: Ward, statements: Statements) -> None:
        family = f"Counting{uuid4().hex[:6]}"
        counts = []
        for _ in range(2):
            for number in range(3):
                patient = ward.clinic.patient(family_name=family, given_name=f"N{number}")
                ward.clinic.relate(patient, ward.nurse)
                ward.clinic.patient(family_name=family, given_name=f"M{number}")
            statements.clear()
            assert len(ward.nurse.get("/patients", q=family).get_json()["items"]) >= 6
            counts.append(statements.count)
        assert counts[0] == counts[1]


class TestReason:
    """Why a patient comes is for those who care for them, themselves, and who wrote it down."""

    def test_the_rest_of_the_desk_sees_no_reason(self, ward: Ward) -> None:
        desk, other_desk = ward.clinic.user(Role.RECEPTIONIST), ward.clinic.user(Role.RECEPTIONIST)
        booking = ward.clinic.booking(ward.patient, ward.doctor, ward.kind, day_after(5, "10:00"))
        visit = desk.post("/appointments", booking | {"reason": "a lump"}).get_json()
        path = f"/appointments/{visit['id']}"
        assert [caller.get(path).get_json()["reason"] for caller in (desk, ward.doctor)] == ["a lump", "a lump"]
        for caller in (other_desk, ward.clinic.admin, ward.nurse):
            assert caller.get(path).get_json()["reason"] is None
            assert {one["reason"] for one in caller.get(f"{path}/history").get_json()["items"]} == {None}
            assert {one["reason"] for one in caller.get("/appointments").get_json()["items"]} == {None}


class TestExplain:
    """Why somebody may, or may not."""

    def asked(self, ward: Ward, somebody: Caller, permission: str, *, patient: bool = True) -> dict[str, Any]:
        """The administrator's question, answered."""
        query = {"user_id": somebody.id, "permission": permission}
        if patient:
            query["patient_id"] = ward.patient["id"]
        answer = ward.clinic.admin.get("/access/explain", **query)
        assert answer.status_code == 200, answer.text
        explanation: dict[str, Any] = answer.get_json()
        return explanation

    def test_without_a_relationship(self, ward: Ward) -> None:
        explanation = self.asked(ward, ward.nurse, "patient:read")
        assert not explanation["allowed"]
        assert [(link["kind"], link["holds"]) for link in explanation["chain"]] == [
            ("account", True),
            ("role", True),
            ("relationship", False),
        ]

    def test_by_a_visit_an_assignment_and_broken_glass(self, ward: Ward) -> None:
        visit = ward.visit()
        given = ward.clinic.relate(ward.patient, ward.doctor)
        grant = ward.doctor.post(ward.path("/break-glass"), GLASS).get_json()
        explanation = self.asked(ward, ward.doctor, "patient:read")
        assert explanation["allowed"]
        sources = {link["source_id"]: (link["kind"], link["holds"]) for link in explanation["chain"]}
        assert sources[visit["id"]] == ("relationship", True)
        assert sources[given["id"]] == ("relationship", True)
        assert sources[grant["id"]] == ("grant", True)

    def test_a_client_by_its_scopes(self, ward: Ward) -> None:
        reader = ward.clinic.client("patient:read")
        for permission, allowed in [("patient:read", True), ("patient:update", False)]:
            query = {"user_id": reader["client_id"], "permission": permission, "patient_id": ward.patient["id"]}
            explanation = ward.clinic.admin.get("/access/explain", **query).get_json()
            assert explanation["allowed"] is allowed
            assert ("scope", allowed) in [(link["kind"], link["holds"]) for link in explanation["chain"]]

    def test_a_client_by_its_smart_scopes(self, ward: Ward) -> None:
        """Which name no permission, and narrow it within FHIR."""
        client = ward.clinic.client("system/Observation.rs")
        query = {"user_id": client["client_id"], "permission": "record:read"}
        explanation = ward.clinic.admin.get("/access/explain", **query).get_json()
        assert explanation["allowed"]
        [scope] = [link for link in explanation["chain"] if link["kind"] == "scope"]
        assert scope["detail"].endswith("within FHIR, for system/Observation.rs")

    def test_what_has_ended_is_told_as_such(self, ward: Ward) -> None:
        given = ward.clinic.relate(ward.patient, ward.nurse)
        ward.clinic.admin.post(ward.path(f"/care-relationships/{given['id']}/end"), {"reason": "over"})
        explanation = self.asked(ward, ward.nurse, "patient:read")
        assert not explanation["allowed"]
        assert {link["source_id"]: link["holds"] for link in explanation["chain"]}[given["id"]] is False

    @pytest.mark.parametrize("role", [Role.ADMIN, Role.RECEPTIONIST])
    def test_the_desk_by_its_role(self, ward: Ward, role: Role) -> None:
        explanation = self.asked(ward, ward.clinic.user(role), "patient:read")
        assert explanation["allowed"]
        assert [link["kind"] for link in explanation["chain"]][-1] == "organization"

    def test_a_closed_account_may_nothing(self, ward: Ward) -> None:
        ward.clinic.admin.post(f"/users/{ward.nurse.id}/deactivate")
        explanation = self.asked(ward, ward.nurse, "slot:read", patient=False)
        assert not explanation["allowed"]
        assert explanation["chain"][0]["holds"] is False

    def test_says_what_the_program_does(self, ward: Ward) -> None:
        """For every kind of user, explanation and answer are the same."""
        ward.visit()
        ward.clinic.relate(ward.patient, ward.nurse)
        somebody = [ward.clinic.user(role) for role in (*Role,)]
        for caller in [ward.doctor, ward.nurse, *somebody]:
            status = caller.get(ward.path()).status_code
            assert self.asked(ward, caller, "patient:read")["allowed"] == (status == 200), status

    def test_an_unknown_permission_or_one_that_is_not_about_a_patient_is_named(self, ward: Ward) -> None:
        for query, pointer in [
            ({"permission": "patient:eat"}, "/permission"),
            ({"permission": "slot:read", "patient_id": ward.patient["id"]}, "/patient_id"),
        ]:
            refused = ward.clinic.admin.get("/access/explain", user_id=ward.nurse.id, **query)
            assert [error["pointer"] for error in refused.get_json()["errors"]] == [pointer]

    def test_a_user_of_another_organisation_is_not_there(self, ward: Ward, other_clinic: Clinic) -> None:
        stranger = other_clinic.user(Role.NURSE)
        refused = ward.clinic.admin.get("/access/explain", user_id=stranger.id, permission="patient:read")
        assert code_of(refused) == (404, "not_found")


class TestSecondWall:
    """What PostgreSQL shows a caller, whatever the program forgets to ask for."""

    def rows(self, app: Flask, ward: Ward, caller: Caller | None, table: str) -> int:
        """How many rows a plain SELECT of the caller's transaction gives."""
        with app.app_context(), scoped(Scope(ward.clinic.organization_id, caller and caller.user_id)):
            return int(db.session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())  # noqa: S608 - ours

    @pytest.mark.parametrize(
        "table", ["patient", "patient_identifier", "appointment", "appointment_event", "care_relationship"]
    )
    def test_a_carer_sees_rows_of_their_patients_only(self, ward: Ward, app: Flask, table: str) -> None:
        numbers = {"identifiers": [{"system": "urn:x", "value": "1"}]}
        others = [ward.clinic.patient(**numbers), ward.clinic.patient()]
        colleague = ward.clinic.clinician(time_zone="UTC")
        ward.clinic.hours(colleague)
        ward.clinic.appointment(others[0], colleague, ward.kind, day_after(3, "12:00"))
        ward.clinic.relate(others[0], colleague)
        assert self.rows(app, ward, ward.doctor, table) == 0
        assert self.rows(app, ward, colleague, table) == 1
        assert self.rows(app, ward, None, table) >= 1, "the program itself sees all"

    def test_broken_glass_shows_to_who_broke_it_and_reviewers(self, ward: Ward, app: Flask) -> None:
        ward.nurse.post(ward.path("/break-glass"), GLASS)
        seen = {
            role: self.rows(app, ward, ward.clinic.user(role), "break_glass_grant")
            for role in Role
            if role is not Role.SERVICE
        }
        assert seen == {
            Role.ADMIN: 0,
            Role.CLINICIAN: 1,
            Role.NURSE: 0,
            Role.RECEPTIONIST: 0,
            Role.PATIENT: 0,
            Role.AUDITOR: 1,
        }
        assert self.rows(app, ward, ward.nurse, "break_glass_grant") == 1

    def test_a_patient_sees_their_own_rows(self, clinic: Clinic, app: Flask, database_url: str) -> None:
        ward = Ward(clinic, database_url)
        patient, own = clinic.patient_with_account()
        ward.visit()
        clinic.appointment(patient, ward.doctor, ward.kind, day_after(3, "13:00"))
        assert self.rows(app, ward, own, "patient") == 1
        assert self.rows(app, ward, own, "appointment") == 1
