"""Accounts, as an administrator keeps them, and as people open them for themselves."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from flask import Flask

from medical.identity import passwords
from medical.identity.permissions import Role
from tests.clinic import PASSWORD, Caller, Clinic, Statements
from tests.conftest import psycopg_url


@pytest.fixture
def somebody() -> Callable[..., dict[str, Any]]:
    """The body of a new account, another each time."""

    def body(**given: Any) -> dict[str, Any]:
        email = f"new.{uuid4().hex[:10]}@example.org"
        return {"email": email, "given_name": "Ada", "family_name": "Byron", "roles": ["nurse"]} | given

    return body


class TestCreate:
    """An administrator opens an account."""

    def test_is_answered_with_the_account_and_where_it_is(
        self, clinic: Clinic, somebody: Callable[..., dict[str, Any]]
    ) -> None:
        body = somebody(roles=["nurse", "receptionist"])
        made = clinic.admin.post("/users", body)
        assert made.status_code == 201
        account = made.get_json()
        assert account == body | {"id": account["id"], "active": True, "version": 1}
        assert (made.headers["ETag"], made.headers["Location"]) == ('"1"', f"/api/v1/users/{account['id']}")
        assert clinic.admin.get(made.headers["Location"]).get_json() == account

    def test_with_a_password_it_can_sign_in_and_without_it_cannot(
        self, app: Flask, clinic: Clinic, somebody: Callable[..., dict[str, Any]]
    ) -> None:
        able, unable = somebody(password=PASSWORD), somebody()
        for body in (able, unable):
            assert clinic.admin.post("/users", body).status_code == 201
        statuses = [
            Caller(app).post("/auth/login", {"email": body["email"], "password": PASSWORD}).status_code
            for body in (able, unable)
        ]
        assert statuses == [200, 401]

    def test_an_email_belongs_to_one_account_of_the_installation_in_whatever_case(
        self, clinic: Clinic, other_clinic: Clinic, somebody: Callable[..., dict[str, Any]]
    ) -> None:
        body = somebody()
        assert clinic.admin.post("/users", body).status_code == 201
        for elsewhere in (clinic, other_clinic):
            refused = elsewhere.admin.post("/users", body | {"email": body["email"].upper()})
            assert (refused.status_code, refused.get_json()["code"]) == (409, "email_taken")

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("email", "no address"),
            ("roles", []),
            ("roles", ["king"]),
            ("password", "too short"),
            ("password", "x" * 257),
            ("given_name", "  "),
        ],
    )
    def test_what_is_wrong_is_named(
        self, clinic: Clinic, somebody: Callable[..., dict[str, Any]], field: str, value: Any
    ) -> None:
        refused = clinic.admin.post("/users", somebody(**{field: value}))
        assert refused.status_code == 422
        assert [error["pointer"].split("/")[1] for error in refused.get_json()["errors"]] == [field]


class TestList:
    """The accounts of one's own organisation, by name."""

    def test_pages_show_each_once_in_order_and_nobody_elses(self, clinic: Clinic, other_clinic: Clinic) -> None:
        noise = other_clinic.user(Role.NURSE).id
        wanted = {clinic.admin.id, *(clinic.user(Role.NURSE).id for _ in range(4))}
        seen, cursor = [], None
        while True:
            page = clinic.admin.get("/users", limit=2, cursor=cursor).get_json()
            seen += page["items"]
            if (cursor := page["next"]) is None:
                break
        ids = [one["id"] for one in seen]
        assert noise not in ids
        assert len(ids) == len(wanted)
        assert set(ids) == wanted
        names = [(one["family_name"], one["given_name"], one["id"]) for one in seen]
        assert names == sorted(names)

    def test_costs_the_same_number_of_statements_however_long(self, clinic: Clinic, statements: Statements) -> None:
        clinic.user(Role.NURSE)
        clinic.admin.get("/users")
        statements.clear()
        clinic.admin.get("/users")
        few = statements.count
        for _ in range(8):
            clinic.user(Role.NURSE)
        statements.clear()
        clinic.admin.get("/users")
        assert statements.count == few


class TestUpdate:
    """Names and email of an account."""

    def test_changes_what_is_given_and_counts_the_version(self, clinic: Clinic) -> None:
        nurse = clinic.user(Role.NURSE)
        before = clinic.admin.get(f"/users/{nurse.id}").get_json()
        changed = clinic.admin.patch(f"/users/{nurse.id}", {"given_name": "Grace"}, If_Match='"1"')
        assert changed.get_json() == before | {"given_name": "Grace", "version": 2}
        assert changed.headers["ETag"] == '"2"'

    def test_a_change_based_on_an_older_version_is_stale(self, clinic: Clinic) -> None:
        nurse = clinic.user(Role.NURSE)
        clinic.admin.patch(f"/users/{nurse.id}", {"given_name": "Grace"})
        stale = clinic.admin.patch(f"/users/{nurse.id}", {"given_name": "Joan"}, If_Match='"1"')
        assert (stale.status_code, stale.get_json()["code"]) == (412, "stale")
        assert clinic.admin.get(f"/users/{nurse.id}").get_json()["given_name"] == "Grace"

    def test_ten_at_once_on_one_version_leave_one(self, clinic: Clinic) -> None:
        nurse = clinic.user(Role.NURSE)

        def change(number: int) -> int:
            body = {"given_name": f"Grace {number}"}
            return clinic.admin.patch(f"/users/{nurse.id}", body, If_Match='"1"').status_code

        with ThreadPoolExecutor(10) as pool:
            statuses = sorted(pool.map(change, range(10)))
        assert statuses == [200] + [412] * 9


class TestRoles:
    """Which roles a user has."""

    def test_exactly_the_given_ones_hold(self, clinic: Clinic) -> None:
        nurse = clinic.user(Role.NURSE, Role.AUDITOR)
        changed = clinic.admin.put(f"/users/{nurse.id}/roles", {"roles": ["auditor", "receptionist"]})
        assert (changed.get_json()["roles"], changed.get_json()["version"]) == (["auditor", "receptionist"], 2)

    def test_the_same_roles_again_change_nothing(self, clinic: Clinic) -> None:
        nurse = clinic.user(Role.NURSE, Role.AUDITOR)
        again = clinic.admin.put(f"/users/{nurse.id}/roles", {"roles": ["auditor", "nurse", "nurse"]}, If_Match='"1"')
        assert (again.status_code, again.get_json()["version"]) == (200, 1)

    def test_a_change_based_on_an_older_version_is_stale(self, clinic: Clinic) -> None:
        nurse = clinic.user(Role.NURSE)
        clinic.admin.patch(f"/users/{nurse.id}", {"given_name": "Grace"})
        stale = clinic.admin.put(f"/users/{nurse.id}/roles", {"roles": ["auditor"]}, If_Match='"1"')
        assert stale.status_code == 412
        assert nurse.get("/me").get_json()["roles"] == ["nurse"]

    def test_only_another_active_administrator_of_ones_own_counts(self, clinic: Clinic, other_clinic: Clinic) -> None:
        admin = clinic.user(Role.ADMIN, Role.NURSE)
        path, body = f"/users/{admin.id}/roles", {"roles": ["nurse"]}
        elsewhere, closed = other_clinic.admin, clinic.user(Role.ADMIN)
        assert admin.post(f"/users/{closed.id}/deactivate").status_code == 200
        assert admin.put(path, body).status_code == 409
        clinic.user(Role.ADMIN)
        assert admin.put(path, body).status_code == 200
        assert elsewhere.get("/me").get_json()["roles"] == ["admin"]

    def test_nobody_gives_themselves_a_role(self, clinic: Clinic) -> None:
        clinic.user(Role.ADMIN)
        refused = clinic.admin.put(f"/users/{clinic.admin.id}/roles", {"roles": ["admin", "auditor"]})
        assert (refused.status_code, refused.get_json()["code"]) == (403, "own_roles")
        assert clinic.admin.get("/me").get_json()["roles"] == ["admin"]

    def test_the_last_administrator_stays_one(self, clinic: Clinic) -> None:
        refused = clinic.admin.put(f"/users/{clinic.admin.id}/roles", {"roles": ["nurse"]})
        assert (refused.status_code, refused.get_json()["code"]) == (409, "last_admin")
        closed = clinic.admin.post(f"/users/{clinic.admin.id}/deactivate")
        assert (closed.status_code, closed.get_json()["code"]) == (409, "last_admin")
        assert clinic.admin.get("/me").get_json()["roles"] == ["admin"]

    def test_two_administrators_who_demote_each_other_leave_one(self, clinic: Clinic) -> None:
        for _ in range(5):
            first, second = clinic.admin, clinic.user(Role.ADMIN)
            with ThreadPoolExecutor(2) as pool:
                answers = list(
                    pool.map(
                        lambda pair: pair[0].put(f"/users/{pair[1].id}/roles", {"roles": ["nurse"]}),
                        [(first, second), (second, first)],
                    )
                )
            assert sorted(answer.status_code for answer in answers) in ([200, 403], [200, 409])
            left = [one for one in (first, second) if "admin" in one.get("/me").get_json()["roles"]]
            assert len(left) == 1
            clinic._admin = left[0]


class TestDeactivate:
    """An account is closed."""

    def test_is_shown_and_may_be_said_twice(self, clinic: Clinic) -> None:
        nurse, noise = clinic.user(Role.NURSE), clinic.user(Role.NURSE)
        answers = [clinic.admin.post(f"/users/{nurse.id}/deactivate") for _ in range(2)]
        assert [(one.status_code, one.get_json()["active"], one.get_json()["version"]) for one in answers] == [
            (200, False, 2),
            (200, False, 2),
        ]
        assert clinic.admin.get(f"/users/{noise.id}").get_json()["active"] is True

    def test_a_decision_based_on_an_older_version_is_stale(self, clinic: Clinic) -> None:
        nurse = clinic.user(Role.NURSE)
        clinic.admin.patch(f"/users/{nurse.id}", {"given_name": "Grace"})
        assert clinic.admin.post(f"/users/{nurse.id}/deactivate", If_Match='"1"').status_code == 412
        assert nurse.get("/me").status_code == 200
        assert clinic.admin.post(f"/users/{nurse.id}/deactivate", If_Match='"2"').status_code == 200
        assert nurse.get("/me").status_code == 401


class TestRegister:
    """A person opens their own patient account."""

    @pytest.fixture
    def person(self) -> dict[str, Any]:
        """Somebody new."""
        return {
            "email": f"self.{uuid4().hex[:10]}@example.org",
            "password": PASSWORD,
            "given_name": "Maya",
            "family_name": "Okafor",
            "birth_date": "1991-04-12",
        }

    def test_can_sign_in_and_is_a_patient(self, app: Flask, open_clinic: Clinic, person: dict[str, Any]) -> None:
        made = Caller(app).post("/auth/register", person)
        assert made.status_code == 201
        token = Caller(app).post("/auth/login", {"email": person["email"], "password": PASSWORD}).get_json()
        me = Caller(app, token["access_token"]).get("/me").get_json()
        assert {"user_id": me["id"], "patient_id": me["patient_id"]} == made.get_json()
        assert (me["roles"], me["organization_id"]) == (["patient"], str(open_clinic.organization_id))

    def test_a_known_email_is_answered_like_a_new_one_and_nothing_is_made(
        self, app: Flask, open_clinic: Clinic, person: dict[str, Any]
    ) -> None:
        first = Caller(app).post("/auth/register", person)
        again = Caller(app).post("/auth/register", person | {"password": "another password of hers"})
        assert (again.status_code, set(again.get_json())) == (first.status_code, set(first.get_json()))
        assert again.get_json() != first.get_json()
        login = Caller(app).post("/auth/login", {"email": person["email"], "password": "another password of hers"})
        assert login.status_code == 401
        assert open_clinic.admin.get(f"/users/{again.get_json()['user_id']}").status_code == 404
        assert open_clinic.admin.get(f"/patients/{again.get_json()['patient_id']}").status_code == 404

    def test_a_repeat_with_the_same_key_is_a_replay(
        self, app: Flask, open_clinic: Clinic, person: dict[str, Any]
    ) -> None:
        key = uuid4().hex
        first = Caller(app).post("/auth/register", person, Idempotency_Key=key)
        again = Caller(app).post("/auth/register", person, Idempotency_Key=key)
        assert again.get_json() == first.get_json()
        assert again.headers["Idempotency-Replayed"] == "true"

    def test_eight_at_once_make_one_account(self, app: Flask, open_clinic: Clinic, person: dict[str, Any]) -> None:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: Caller(app).post("/auth/register", person), range(8)))
        assert {answer.status_code for answer in answers} == {201}
        found = [open_clinic.admin.get(f"/users/{one.get_json()['user_id']}").status_code for one in answers]
        assert sorted(found) == [200] + [404] * 7

    def test_a_database_has_one_organisation_at_most_that_takes_them(
        self, open_clinic: Clinic, clinic: Clinic, database_url: str
    ) -> None:
        with (
            psycopg.connect(psycopg_url(database_url)) as connection,
            pytest.raises(psycopg.errors.UniqueViolation, match="uq_organization_self_registration"),
        ):
            connection.execute(
                "UPDATE organization SET self_registration = true WHERE id = %s", [clinic.organization_id]
            )

    def test_a_known_email_costs_as_much_work_as_a_new_one(
        self, app: Flask, open_clinic: Clinic, person: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hashed: list[str] = []
        original = passwords.hash_password

        def count(given: str) -> str:
            hashed.append(given)
            return original(given)

        monkeypatch.setattr(passwords, "hash_password", count)
        work = []
        for _ in range(2):
            hashed.clear()
            assert Caller(app).post("/auth/register", person).status_code == 201
            work.append(len(hashed))
        assert work == [1, 1]

    def test_is_closed_where_no_organisation_takes_registrations(self, own_app: Flask, person: dict[str, Any]) -> None:
        refused = Caller(own_app).post("/auth/register", person)
        assert (refused.status_code, refused.get_json()["code"]) == (409, "registration_closed")
