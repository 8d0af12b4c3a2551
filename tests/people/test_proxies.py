"""Who acts for a patient: parents, guardians, whoever a patient or a court names (hard cases 4 to 6)."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import psycopg
import pytest
from flask import Flask
from sqlalchemy import text
from werkzeug.test import TestResponse

from medical.identity.permissions import Role
from medical.platform.db import Scope, db, scoped
from tests.clinic import Caller, Clinic, day_after
from tests.conftest import psycopg_url

LATE, EARLY = "Pacific/Pago_Pago", "Pacific/Kiritimati"
"""Zones 25 hours apart: their dates always differ."""


def code_of(answer: TestResponse) -> tuple[int, str]:
    """Status and code of a refusal."""
    return answer.status_code, answer.get_json()["code"]


def years_before(day: datetime, years: int) -> str:
    """The birth date of somebody who becomes ``years`` old on that day."""
    return day.date().replace(year=day.year - years).isoformat()


class Family:
    """A child, a mother with an account of her own, two administrators, a doctor with hours."""

    def __init__(self, clinic: Clinic) -> None:
        self.clinic = clinic
        self.second = clinic.user(Role.ADMIN)
        born = years_before(datetime.now(UTC).replace(day=1), 8)
        self.child = clinic.patient(birth_date=born, phone="+49 30 901820")
        _, self.mother = clinic.patient_with_account()
        self.doctor, self.kind = clinic.clinician(time_zone="UTC"), clinic.appointment_type()
        clinic.hours(self.doctor)

    def path(self, tail: str = "") -> str:
        """Below the child's proxies."""
        return f"/patients/{self.child['id']}/proxies{tail}"

    def body(self, **given: Any) -> dict[str, Any]:
        """The mother, as proposed by the desk."""
        body = {"user_id": self.mother.id, "basis": "parent", "scopes": ["record", "appointments"]}
        return body | {"proof": "birth certificate, seen 2026-01-02"} | given

    def proposed(self, **given: Any) -> dict[str, Any]:
        """A proxy that waits for approval."""
        made = self.clinic.admin.post(self.path(), self.body(**given))
        assert made.status_code == 201, made.text
        proxy: dict[str, Any] = made.get_json()
        return proxy

    def approved(self, **given: Any) -> dict[str, Any]:
        """A proxy that holds."""
        proxy = self.proposed(**given)
        assert self.second.post(self.path(f"/{proxy['id']}/approve")).status_code == 200
        return proxy

    def sees(self, caller: Caller | None = None) -> bool:
        """Whether the mother sees the child's record."""
        answer = (caller or self.mother).get(f"/patients/{self.child['id']}")
        assert answer.status_code in (200, 404)
        return answer.status_code == 200

    def visit(self, at: str = "10:00", by: Caller | None = None, **given: Any) -> TestResponse:
        """A visit of the child."""
        booking = self.clinic.booking(self.child, self.doctor, self.kind, day_after(3, at))
        return (by or self.clinic.admin).post("/appointments", booking | given)

    def visits_seen(self) -> set[str]:
        """The ids of the child's visits that the mother finds."""
        answer = self.mother.get("/appointments", patient_id=self.child["id"])
        return {one["id"] for one in answer.get_json()["items"]}


@pytest.fixture
def family(clinic: Clinic) -> Family:
    """A new one."""
    return Family(clinic)


class TestGrant:
    """A proxy needs a proof and two people, or the patient's own word."""

    def test_gives_nothing_before_a_second_person_has_approved(self, family: Family) -> None:
        proxy = family.proposed()
        assert not family.sees()
        path = family.path(f"/{proxy['id']}/approve")
        assert code_of(family.clinic.admin.post(path)) == (403, "to_oneself")
        assert not family.sees()
        assert family.second.post(path).get_json()["approved_by"] == family.second.id
        assert family.sees()
        assert code_of(family.second.post(path)) == (409, "proxy_decided")

    @pytest.mark.parametrize("basis", ["parent", "guardian", "incapacity"])
    def test_wants_a_proof(self, family: Family, basis: str) -> None:
        refused = family.clinic.admin.post(family.path(), family.body(basis=basis, proof=None))
        assert [error["pointer"] for error in refused.get_json()["errors"]] == ["/proof"]

    def test_who_would_act_cannot_be_the_second_person(self, family: Family) -> None:
        both = family.clinic.user(Role.ADMIN, Role.PATIENT)
        proxy = family.proposed(user_id=both.id)
        assert code_of(both.post(family.path(f"/{proxy['id']}/approve"))) == (403, "to_oneself")

    def test_the_desk_proposes_nobody_of_itself(self, family: Family) -> None:
        desk = family.clinic.user(Role.RECEPTIONIST, Role.PATIENT)
        assert code_of(desk.post(family.path(), family.body(user_id=desk.id))) == (403, "to_oneself")

    def test_a_parent_cannot_propose_themselves(self, family: Family) -> None:
        assert code_of(family.mother.post(family.path(), family.body())) == (404, "not_found")

    def test_is_for_accounts_of_patients(self, family: Family) -> None:
        nurse = family.clinic.user(Role.NURSE)
        for user_id, refusal in [(nurse.id, (409, "no_patient_account")), (str(uuid4()), (404, "not_found"))]:
            assert code_of(family.clinic.admin.post(family.path(), family.body(user_id=user_id))) == refusal

    def test_one_at_a_time_for_one_person(self, family: Family) -> None:
        family.proposed()
        assert code_of(family.clinic.admin.post(family.path(), family.body())) == (409, "proxy_exists")

    def test_a_childs_contact_is_not_its_parents(self, family: Family) -> None:
        email = family.clinic.email_of(family.mother)
        family.child = family.clinic.patient(birth_date=family.child["birth_date"], email=email)
        assert code_of(family.clinic.admin.post(family.path(), family.body())) == (409, "shared_contact")

    def test_a_grown_up_patient_names_somebody_alone_and_takes_it_back(self, family: Family) -> None:
        family.child, patient = family.clinic.patient_with_account()
        body = family.body(basis="consent", proof=None)
        made = patient.post(family.path(), body)
        assert made.status_code == 201
        assert family.sees()
        ended = patient.post(family.path(f"/{made.get_json()['id']}/revoke"), {"reason": "we fell out"})
        assert ended.status_code == 200
        assert not family.sees()
        assert code_of(patient.post(family.path(), family.body())) == (403, "not_yours"), "consent is all they give"

    def test_a_child_does_not(self, family: Family) -> None:
        family.child, child = family.clinic.patient_with_account(birth_date=family.child["birth_date"])
        body = family.body(basis="consent", proof=None)
        assert code_of(child.post(family.path(), body)) == (403, "too_young")

    def test_who_acts_for_a_patient_names_nobody_else(self, family: Family) -> None:
        family.approved()
        aunt = family.clinic.patient_with_account()[1]
        body = family.body(user_id=aunt.id, basis="consent", proof=None)
        assert code_of(family.mother.post(family.path(), body)) == (403, "not_yours")


class TestReach:
    """What a proxy reaches, and for how long."""

    def test_its_scopes_and_no_more(self, family: Family) -> None:
        family.approved(scopes=["appointments"])
        assert not family.sees()
        visit = family.visit(by=family.mother)
        assert visit.status_code == 201
        assert family.visits_seen() == {visit.get_json()["id"]}

    def test_the_record_alone_books_nothing(self, family: Family) -> None:
        family.approved(scopes=["record"])
        assert family.sees()
        family.visit()
        assert family.visits_seen() == set()
        assert code_of(family.visit("11:00", by=family.mother)) == (404, "not_found")

    def test_contact_details_can_be_changed_and_nothing_else(self, family: Family) -> None:
        family.approved()
        path = f"/patients/{family.child['id']}"
        assert family.mother.patch(path, {"phone": "+49 30 1234"}).status_code == 200
        assert code_of(family.mother.patch(path, {"family_name": "New"})) == (403, "contact_fields_only")

    def test_another_child_is_not_there(self, family: Family) -> None:
        family.approved()
        other = family.clinic.patient(birth_date=family.child["birth_date"])
        assert code_of(family.mother.get(f"/patients/{other['id']}")) == (404, "not_found")

    def test_holds_between_its_times_only(self, family: Family) -> None:
        family.approved(starts_at=day_after(1), ends_at=day_after(2))
        assert not family.sees()

    def test_a_proxys_role_must_last(self, family: Family) -> None:
        family.approved()
        family.clinic.admin.put(f"/users/{family.mother.id}/roles", {"roles": ["receptionist", "patient"]})
        family.clinic.admin.put(f"/users/{family.mother.id}/roles", {"roles": ["nurse"]})
        assert not family.sees(family.clinic.signed_in(UUID(family.mother.id)))

    @pytest.mark.parametrize(("zone", "seen"), [(EARLY, False), (LATE, True)])
    def test_ends_the_day_a_child_reaches_the_age_limit_where_the_clinic_is(
        self, family: Family, zone: str, seen: bool
    ) -> None:
        """No job has to run, and the day is the clinic's: born sixteen years ago today on Kiritimati."""
        settings = {"time_zone": zone, "proxy_age_limit": 16}
        assert family.clinic.admin.patch("/organization", settings).status_code == 200
        born = years_before(datetime.now(ZoneInfo(EARLY)), 16)
        family.child = family.clinic.patient(birth_date=born)
        family.approved()
        assert family.sees() is seen

    def test_the_age_limit_is_the_clinics(self, family: Family) -> None:
        family.approved()
        assert family.sees()
        assert family.clinic.admin.patch("/organization", {"proxy_age_limit": 8}).status_code == 200
        assert not family.sees()
        assert family.visits_seen() == set()

    def test_incapacity_knows_no_age(self, family: Family) -> None:
        family.child = family.clinic.patient(birth_date="1940-01-01")
        family.approved(basis="parent")
        assert not family.sees()
        family.mother = family.clinic.patient_with_account()[1]
        family.approved(basis="incapacity", proof="court order 12 C 34/26")
        assert family.sees()


class TestSensitive:
    """A minor's sensitive visit is not there for who acts for them."""

    def test_is_in_no_list_no_count_and_not_to_be_had_by_id(self, family: Family) -> None:
        family.approved()
        plain, sensitive = family.visit().get_json(), family.visit("12:00", sensitive=True).get_json()
        assert sensitive["sensitive"] is True
        assert family.visits_seen() == {plain["id"]}
        for method, tail, body in [
            ("GET", "", None),
            ("GET", "/history", None),
            ("POST", "/cancel", {"reason": "no"}),
            ("POST", "/check-in", None),
        ]:
            answer = family.mother.call(method, f"/appointments/{sensitive['id']}{tail}", body)
            assert code_of(answer) == (404, "not_found")
        assert family.doctor.get(f"/appointments/{sensitive['id']}").status_code == 200

    def test_is_there_for_the_patient(self, family: Family) -> None:
        family.child, child = family.clinic.patient_with_account(birth_date=family.child["birth_date"])
        family.approved()
        sensitive = family.visit(sensitive=True).get_json()
        assert child.get(f"/appointments/{sensitive['id']}").status_code == 200
        assert family.visits_seen() == set()

    def test_the_second_wall_hides_it_too(self, family: Family, app: Flask) -> None:
        family.approved()
        family.visit()
        family.visit("12:00", sensitive=True)
        with app.app_context(), scoped(Scope(family.clinic.organization_id, family.mother.user_id)):
            assert db.session.execute(text("SELECT count(*) FROM appointment")).scalar_one() == 1


class TestRevocation:
    """It ends, for that patient only, with the next request."""

    def test_by_the_desk(self, family: Family) -> None:
        proxy, sibling = family.approved(), family.child
        family.child = family.clinic.patient(birth_date=family.child["birth_date"])
        family.approved()
        family.child, other = sibling, family.child
        desk = family.clinic.user(Role.RECEPTIONIST)
        ended = desk.post(family.path(f"/{proxy['id']}/revoke"), {"reason": "divorced; order 3 F 4/26"})
        assert ended.get_json()["revoked_by"] == desk.id
        assert not family.sees()
        assert family.mother.get(f"/patients/{other['id']}").status_code == 200, "the other child is still hers"
        assert code_of(desk.post(family.path(f"/{proxy['id']}/revoke"), {"reason": "x"})) == (409, "proxy_decided")

    def test_by_who_acts(self, family: Family) -> None:
        proxy = family.approved(scopes=["appointments"])
        assert family.mother.post(family.path(f"/{proxy['id']}/revoke"), {"reason": "x"}).status_code == 200

    def test_not_by_another_parent(self, family: Family) -> None:
        proxy = family.approved()
        father = family.clinic.patient_with_account()[1]
        family.approved(user_id=father.id)
        path = family.path(f"/{proxy['id']}/revoke")
        assert code_of(father.post(path, {"reason": "we fell out"})) == (404, "not_found")
        assert [one["user_id"] for one in father.get(family.path()).get_json()["items"]] == [father.id]

    def test_what_was_never_approved_can_be_withdrawn(self, family: Family) -> None:
        proxy = family.proposed()
        assert family.clinic.admin.post(family.path(f"/{proxy['id']}/revoke"), {"reason": "typo"}).status_code == 200
        assert code_of(family.second.post(family.path(f"/{proxy['id']}/approve"))) == (409, "proxy_decided")

    def test_a_proxy_of_another_patient_is_not_there(self, family: Family) -> None:
        proxy = family.proposed()
        family.child = family.clinic.patient()
        assert code_of(family.second.post(family.path(f"/{proxy['id']}/approve"))) == (404, "not_found")


class TestLists:
    """Who acts for whom."""

    def test_newest_first_in_pages_and_ones_own(self, family: Family) -> None:
        people = [family.clinic.patient_with_account()[1] for _ in range(3)]
        made = [family.proposed(user_id=person.id)["id"] for person in people]
        first = family.clinic.admin.get(family.path(), limit=2).get_json()
        assert [one["id"] for one in first["items"]] == made[:0:-1]
        rest = family.clinic.admin.get(family.path(), limit=2, cursor=first["next"]).get_json()
        assert ([one["id"] for one in rest["items"]], rest["next"]) == (made[:1], None)
        assert [one["id"] for one in people[0].get("/me/proxies").get_json()["items"]] == made[:1]

    def test_explained(self, family: Family) -> None:
        proxy = family.approved()
        query = {"user_id": family.mother.id, "permission": "patient:read", "patient_id": family.child["id"]}
        for asking in (family.clinic.admin, family.clinic.user(Role.AUDITOR)):
            explanation = asking.get("/access/explain", **query).get_json()
            assert explanation["allowed"]
            assert ("proxy", True, proxy["id"]) in [
                (link["kind"], link["holds"], link["source_id"]) for link in explanation["chain"]
            ]


class TestOrganization:
    """What the clinic sets for itself."""

    def test_is_read_and_changed_with_its_version(self, clinic: Clinic) -> None:
        first = clinic.admin.get("/organization")
        assert {name: first.get_json()[name] for name in ("time_zone", "proxy_age_limit")} == {
            "time_zone": "UTC",
            "proxy_age_limit": 16,
        }
        change = {"time_zone": "Europe/Berlin"}
        assert clinic.admin.patch("/organization", change, If_Match=first.headers["ETag"]).status_code == 200
        assert code_of(clinic.admin.patch("/organization", change, If_Match=first.headers["ETag"])) == (412, "stale")

    def test_every_problem_is_named(self, clinic: Clinic) -> None:
        refused = clinic.admin.patch("/organization", {"time_zone": "Moon/Sea", "proxy_age_limit": 99})
        assert sorted(error["pointer"] for error in refused.get_json()["errors"]) == ["/proxy_age_limit", "/time_zone"]


class TestSecondWall:
    """What PostgreSQL itself refuses."""

    def test_one_person_is_not_two(self, family: Family, database_url: str) -> None:
        proxy = family.proposed()
        with psycopg.connect(psycopg_url(database_url)) as connection, pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(
                "UPDATE patient_proxy SET approved_at = now(), approved_by = proposed_by WHERE id = %s", [proxy["id"]]
            )

    def test_nobody_elses_grants_show(self, family: Family, app: Flask) -> None:
        family.approved()
        stranger = family.clinic.patient_with_account()[1]
        counts = []
        for caller in (stranger, family.mother, family.clinic.admin, family.clinic.user(Role.NURSE)):
            with app.app_context(), scoped(Scope(family.clinic.organization_id, caller.user_id)):
                counts.append(db.session.execute(text("SELECT count(*) FROM patient_proxy")).scalar_one())
        assert counts == [0, 1, 1, 0]
