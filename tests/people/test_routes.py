"""Patients, clinicians and locations over HTTP."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from sqlalchemy import select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import selectinload

from medical.identity.models import User
from medical.identity.permissions import Role
from medical.people.models import Clinician, Patient
from medical.platform.db import Scope, db, scoped
from medical.scheduling.models import Availability
from tests.clinic import Clinic, Statements

ZOE: dict[str, Any] = {"given_name": "Zoë", "family_name": "Müller", "birth_date": "1980-02-03", "sex": "female"}


def found(clinic: Clinic, q: str) -> list[str]:
    """The family names that a search gives, best first."""
    answer = clinic.admin.get("/patients", q=q)
    assert answer.status_code == 200, answer.text
    return [patient["family_name"] for patient in answer.get_json()["items"]]


class TestRegisterPatient:
    """A patient is registered at the desk."""

    def test_is_answered_whole_and_can_be_read_again(self, clinic: Clinic) -> None:
        body = ZOE | {
            "email": "zoe@example.org",
            "phone": "+49 30 901820",
            "identifiers": [{"system": "urn:ssn", "value": "123"}],
            "address": {"line": ["Main Street 1"], "city": "Berlin", "postal_code": "10115"},
        }
        made = clinic.admin.post("/patients", body)
        assert made.status_code == 201
        patient = made.get_json()
        assert patient["mrn"].startswith("P")
        assert patient["address"] == body["address"] | {"state": None, "country": None}
        assert {name: patient[name] for name in body if name != "address"} == {
            name: value for name, value in body.items() if name != "address"
        }
        assert clinic.admin.get(made.headers["Location"]).get_json() == patient

    @pytest.mark.parametrize(
        "like", [{"given_name": "Zoe", "family_name": "Muller"}, {"family_name": "Mueller"}, {"given_name": "ZOE"}]
    )
    def test_probably_the_same_person_is_asked_about_and_made_when_confirmed(
        self, clinic: Clinic, like: dict[str, str]
    ) -> None:
        first = clinic.admin.post("/patients", ZOE).get_json()
        asked = clinic.admin.post("/patients", ZOE | like)
        assert (asked.status_code, asked.get_json()["code"]) == (409, "possible_duplicate")
        shown = ("id", "mrn", "given_name", "family_name", "birth_date", "sex")
        assert asked.get_json()["candidates"] == [{name: first[name] for name in shown}]
        assert clinic.admin.post("/patients", ZOE | like | {"confirm_new": True}).status_code == 201

    def test_another_birth_date_or_name_is_another_person(self, clinic: Clinic) -> None:
        clinic.admin.post("/patients", ZOE)
        assert clinic.admin.post("/patients", ZOE | {"birth_date": "1980-02-04"}).status_code == 201
        assert clinic.admin.post("/patients", ZOE | {"given_name": "Tom", "family_name": "Abe"}).status_code == 201

    def test_candidates_are_ones_own_organisations(self, clinic: Clinic, other_clinic: Clinic) -> None:
        other_clinic.admin.post("/patients", ZOE)
        assert clinic.admin.post("/patients", ZOE).status_code == 201

    def test_an_identifier_in_common_is_asked_about_and_cannot_be_had_twice(self, clinic: Clinic) -> None:
        number = {"identifiers": [{"system": "urn:ssn", "value": uuid4().hex}]}
        clinic.admin.post("/patients", ZOE | number)
        other = {"given_name": "Tom", "family_name": "Abe", "birth_date": "1960-01-01", "sex": "male"} | number
        assert clinic.admin.post("/patients", other).get_json()["code"] == "possible_duplicate"
        confirmed = clinic.admin.post("/patients", other | {"confirm_new": True})
        assert (confirmed.status_code, confirmed.get_json()["code"]) == (409, "identifier_taken")

    def test_eight_desks_at_once_register_the_person_once(self, clinic: Clinic) -> None:
        desk = clinic.user(Role.RECEPTIONIST)
        with ThreadPoolExecutor(8) as pool:
            statuses = sorted(pool.map(lambda _: desk.post("/patients", ZOE).status_code, range(8)))
        assert statuses == [201] + [409] * 7

    @pytest.mark.parametrize(
        ("given", "pointers"),
        [
            ({"birth_date": "2999-01-01"}, ["/birth_date"]),
            ({"birth_date": "1849-12-31"}, ["/birth_date"]),
            ({"sex": "f", "given_name": " "}, ["/given_name", "/sex"]),
            ({"phone": "call me", "email": "me"}, ["/email", "/phone"]),
            ({"identifiers": [{"system": "a", "value": "b"}] * 2}, ["/identifiers"]),
            ({"identifiers": [{"system": "a"}]}, ["/identifiers/0/value"]),
            ({"address": {"line": ["x"], "planet": "Mars"}}, ["/address/planet"]),
            ({"mrn": "P1", "organization_id": "x"}, ["/mrn", "/organization_id"]),
        ],
    )
    def test_every_problem_is_named(self, clinic: Clinic, given: dict[str, Any], pointers: list[str]) -> None:
        refused = clinic.admin.post("/patients", ZOE | given)
        assert refused.status_code == 422
        assert sorted(error["pointer"] for error in refused.get_json()["errors"]) == pointers


class TestSearchPatients:
    """Somebody is looked for at the desk."""

    @pytest.fixture
    def people(self, clinic: Clinic) -> Clinic:
        """Zoë Müller among others."""
        clinic.patient(given_name="Tom", family_name="Abe", birth_date="1960-01-01", phone="030 555 1234")
        clinic.patient(given_name="Ana", family_name="Silva", birth_date="1990-07-08")
        numbers = {"identifiers": [{"system": "urn:ssn", "value": "999-55-1111"}], "phone": "+49 (30) 901-820"}
        clinic.patient(**ZOE, **numbers)
        return clinic

    @pytest.mark.parametrize(
        "q", ["zoe", "Zoë", "MULLER", "müller", "zoe muler", "Müller Zoë", "1980-02-03", "30901820", "901820"]
    )
    def test_name_birth_date_and_phone_find_her_tolerantly(self, people: Clinic, q: str) -> None:
        assert found(people, q) == ["Müller"]

    def test_record_number_and_identifier_find_her(self, people: Clinic) -> None:
        mrn = people.admin.get("/patients", q="zoe").get_json()["items"][0]["mrn"]
        assert found(people, mrn) == found(people, mrn.lower()) == found(people, "999-55-1111") == ["Müller"]

    def test_a_stranger_is_not_found(self, people: Clinic, other_clinic: Clinic) -> None:
        assert found(people, "xyzzy") == []
        assert found(other_clinic, "zoe") == []

    def test_wildcards_are_letters_like_others(self, people: Clinic) -> None:
        assert found(people, "%") == found(people, "_") == []

    def test_without_a_question_all_come_by_name(self, people: Clinic) -> None:
        everybody = people.admin.get("/patients").get_json()["items"]
        assert [one["family_name"] for one in everybody] == ["Abe", "Müller", "Silva"]

    def test_pages_make_the_whole(self, clinic: Clinic) -> None:
        for number in range(7):
            clinic.patient(given_name="Same", family_name="Name", birth_date=f"1980-01-0{number + 1}")
        whole = clinic.admin.get("/patients", q="same name").get_json()["items"]
        paged, cursor = [], None
        while True:
            page = clinic.admin.get("/patients", q="same name", limit=3, cursor=cursor).get_json()
            paged += page["items"]
            if (cursor := page["next"]) is None:
                break
        assert len(whole) == 7
        assert paged == whole

    def test_costs_the_same_number_of_statements_however_long(self, clinic: Clinic, statements: Statements) -> None:
        for path in ("/patients", "/clinicians", "/locations"):
            counts = []
            for _ in range(2):
                clinic.patient(), clinic.clinician(), clinic.location()
                clinic.patient(), clinic.clinician(), clinic.location()
                statements.clear()
                clinic.admin.get(path)
                counts.append(statements.count)
            assert counts[0] == counts[1]
            assert counts[0] <= 5


class TestUpdatePatient:
    """Details change."""

    def test_null_removes_and_what_is_not_given_stays(self, clinic: Clinic) -> None:
        before = clinic.patient(email="a@example.org", phone="030 1234", address={"city": "Berlin"})
        changed = clinic.admin.patch(f"/patients/{before['id']}", {"email": None, "address": None}, If_Match='"1"')
        assert changed.get_json() == before | {"email": None, "address": None, "version": 2}

    def test_identifiers_are_replaced_as_a_whole(self, clinic: Clinic) -> None:
        kept, gone, new = ({"system": "urn:x", "value": f"{name}{uuid4().hex}"} for name in "abc")
        patient = clinic.patient(identifiers=[kept, gone])
        changed = clinic.admin.patch(f"/patients/{patient['id']}", {"identifiers": [kept, new]})
        assert changed.get_json()["identifiers"] == [kept, new]
        assert changed.get_json()["version"] == 2

    def test_a_change_based_on_an_older_version_is_stale(self, clinic: Clinic) -> None:
        patient = clinic.patient()
        clinic.admin.patch(f"/patients/{patient['id']}", {"phone": "030 1234"})
        stale = clinic.admin.patch(f"/patients/{patient['id']}", {"phone": "030 9999"}, If_Match='"1"')
        assert (stale.status_code, stale.get_json()["code"]) == (412, "stale")

    def test_patients_change_their_contact_details_and_nothing_else(self, clinic: Clinic) -> None:
        patient, own = clinic.patient_with_account()
        path = f"/patients/{patient['id']}"
        assert own.patch(path, {"phone": "030 4321"}).get_json()["phone"] == "030 4321"
        for change in ({"family_name": "Other"}, {"birth_date": "1999-01-01"}, {"phone": "030 1", "sex": "male"}):
            refused = own.patch(path, change)
            assert (refused.status_code, refused.get_json()["code"]) == (403, "contact_fields_only")
        assert own.get(path).get_json()["phone"] == "030 4321"

    def test_patients_see_and_change_nobody_else(self, clinic: Clinic) -> None:
        _, own = clinic.patient_with_account()
        other = f"/patients/{clinic.patient()['id']}"
        assert [own.get(other).status_code, own.patch(other, {"phone": "030 4321"}).status_code] == [404, 404]


class TestClinicians:
    """Users who treat."""

    def test_a_user_becomes_one_with_the_role_once(self, clinic: Clinic) -> None:
        nurse, place = clinic.user(Role.NURSE), clinic.location()
        body = {
            "user_id": nurse.id,
            "specialty": "Dermatology",
            "time_zone": "Europe/Paris",
            "location_id": place["id"],
        }
        made = clinic.admin.post("/clinicians", body)
        assert made.status_code == 201
        assert (made.get_json()["id"], made.get_json()["specialty"]) == (nurse.id, "Dermatology")
        assert nurse.get("/me").get_json()["roles"] == ["clinician", "nurse"]
        assert nurse.get("/me").get_json()["clinician_id"] == nurse.id
        again = clinic.admin.post("/clinicians", body)
        assert (again.status_code, again.get_json()["code"]) == (409, "clinician_exists")

    def test_filters_narrow_the_list(self, clinic: Clinic) -> None:
        place = clinic.location()
        skin = clinic.clinician(specialty="Dermatology", location_id=place["id"])
        heart = clinic.clinician(specialty="Cardiology")

        def ids(**query: str) -> set[str]:
            return {one["id"] for one in clinic.admin.get("/clinicians", **query).get_json()["items"]}

        assert ids() == {skin.id, heart.id}
        assert ids(specialty="dermatology") == ids(location_id=place["id"]) == {skin.id}
        name = clinic.admin.get(f"/clinicians/{heart.id}").get_json()["family_name"]
        assert heart.id in ids(q=name.upper())

    @pytest.mark.parametrize("end", ["deactivate", "roles"])
    def test_who_works_here_no_more_is_not_listed(self, clinic: Clinic, end: str) -> None:
        gone = clinic.clinician()
        if end == "roles":
            clinic.admin.put(f"/users/{gone.id}/roles", {"roles": ["nurse"]})
        else:
            clinic.admin.post(f"/users/{gone.id}/deactivate")
        assert clinic.admin.get("/clinicians").get_json()["items"] == []
        assert clinic.admin.get(f"/clinicians/{gone.id}").status_code == 404

    def test_ids_of_others_are_not_there(self, clinic: Clinic, other_clinic: Clinic) -> None:
        body = {"user_id": clinic.user(Role.NURSE).id, "specialty": "X", "time_zone": "UTC"}
        foreign_user = clinic.admin.post("/clinicians", body | {"user_id": other_clinic.user(Role.NURSE).id})
        foreign_place = clinic.admin.post("/clinicians", body | {"location_id": other_clinic.location()["id"]})
        assert [foreign_user.status_code, foreign_place.status_code] == [404, 404]


class TestLocations:
    """Sites."""

    def test_names_are_unique_in_the_organisation_only(self, clinic: Clinic, other_clinic: Clinic) -> None:
        body = {"name": "Main Street", "time_zone": "America/New_York"}
        statuses = [caller.post("/locations", body).status_code for caller in (clinic.admin, other_clinic.admin)]
        assert statuses == [201, 201]
        refused = clinic.admin.post("/locations", body)
        assert (refused.status_code, refused.get_json()["code"]) == (409, "location_exists")

    @pytest.mark.parametrize("zone", ["CET", "EST5EDT", "Mars/Base", "europe/berlin", "", "+01:00"])
    def test_only_known_zones_by_their_names(self, clinic: Clinic, zone: str) -> None:
        refused = clinic.admin.post("/locations", {"name": "Site", "time_zone": zone})
        assert refused.status_code == 422
        assert [error["pointer"] for error in refused.get_json()["errors"]] == ["/time_zone"]


class TestPages:
    """Clinicians and sites, page by page."""

    @pytest.mark.parametrize("path", ["/clinicians", "/locations"])
    def test_make_the_whole_in_order_and_nothing_of_others(
        self, clinic: Clinic, other_clinic: Clinic, path: str
    ) -> None:
        for somewhere in (clinic, other_clinic):
            for _ in range(5):
                somewhere.clinician(), somewhere.location()
        whole = clinic.admin.get(path).get_json()["items"]
        paged: list[dict[str, Any]] = []
        cursor, pages = None, 0
        while pages == 0 or cursor:
            page = clinic.admin.get(path, limit=2, cursor=cursor).get_json()
            paged, cursor, pages = paged + page["items"], page["next"], pages + 1
        assert (len(whole), pages) == (5, 3)
        assert paged == whole
        keys = [(one.get("family_name"), one.get("given_name"), one.get("name"), one["id"]) for one in whole]
        assert keys == sorted(keys, key=str)

    @pytest.mark.parametrize("path", ["/clinicians", "/locations", "/patients", "/users"])
    def test_a_cursor_of_another_list_is_refused(self, clinic: Clinic, path: str) -> None:
        for _ in range(2):
            clinic.appointment_type()
            clinic.clinician()
        foreign = clinic.admin.get("/appointment-types" if path != "/locations" else "/users", limit=1)
        cursor = foreign.get_json()["next"]
        assert cursor
        refused = clinic.admin.get(path, cursor=cursor)
        assert (refused.status_code, [one["pointer"] for one in refused.get_json()["errors"]]) == (422, ["/cursor"])


class TestRelations:
    """Both directions of each, on data."""

    def test_user_patient_and_clinician_find_each_other(self, app: Flask, clinic: Clinic) -> None:
        patient, own = clinic.patient_with_account()
        doctor = clinic.clinician()
        with app.app_context(), scoped(Scope(clinic.organization_id)):
            query = select(User).options(selectinload(User.patient), selectinload(User.clinician))
            users = {user.id: user for user in db.session.scalars(query)}
            assert own.user_id
            assert doctor.user_id
            assert str(users[own.user_id].patient.id) == patient["id"]  # type: ignore[union-attr]
            as_patient = db.session.scalars(select(Patient).options(selectinload(Patient.user))).one()
            as_clinician = db.session.scalars(select(Clinician).options(selectinload(Clinician.user))).one()
            assert as_patient.user is users[own.user_id]
            assert as_clinician.user is users[doctor.user_id]
            assert users[doctor.user_id].clinician is as_clinician

    def test_user_and_availabilities_find_each_other(self, app: Flask, clinic: Clinic) -> None:
        doctor, noise = clinic.clinician(), clinic.clinician()
        hours = {clinic.hours(doctor, weekdays=[day])["id"] for day in (1, 2)}
        clinic.hours(noise)
        with app.app_context(), scoped(Scope(clinic.organization_id)):
            query = select(User).where(User.id == doctor.user_id).options(selectinload(User.availabilities))
            user = db.session.scalars(query).one()
            assert {str(one.id) for one in user.availabilities} == hours
            there = select(Availability).where(Availability.id.in_(hours)).options(selectinload(Availability.clinician))
            assert {one.clinician for one in db.session.scalars(there)} == {user}

    def test_a_relation_that_nobody_asked_for_is_an_error_and_no_query(self, app: Flask, clinic: Clinic) -> None:
        doctor = clinic.clinician()
        with app.app_context(), scoped(Scope(clinic.organization_id)):
            user = db.session.get_one(User, doctor.user_id)
            for name in ("roles", "clinician", "patient", "availabilities"):
                with pytest.raises(InvalidRequestError, match="lazy='raise'"):
                    getattr(user, name)
