"""A fresh proof of who one is (AUTH-10), and accounts that are closed meanwhile (AUTH-11)."""

import psycopg
import pytest
from flask import Flask

from medical.identity import service
from medical.identity.permissions import Role
from medical.platform import clock
from tests.clinic import PASSWORD, Caller, Clinic, second_factor
from tests.conftest import psycopg_url


@pytest.fixture
def stale(clinic: Clinic, database_url: str) -> Caller:
    """An administrator who signed in ten minutes ago."""
    admin = clinic.user(Role.ADMIN, password=PASSWORD)
    with psycopg.connect(psycopg_url(database_url)) as connection:
        query = "UPDATE auth_session SET authenticated_at = now() - interval '10 minutes' WHERE user_id = %s"
        connection.execute(query, [admin.user_id])
    return admin


class TestStepUp:
    """POST /auth/step-up."""

    def test_makes_the_sign_in_fresh(self, clinic: Clinic, stale: Caller) -> None:
        """What was refused before goes through after; a wrong password changes nothing."""
        path = f"/users/{clinic.user(Role.NURSE).id}/deactivate"
        assert stale.post(path).get_json()["code"] == "step_up_required"
        assert stale.post("/me/otp").get_json()["code"] == "step_up_required"
        wrong = stale.post("/auth/step-up", {"password": "wrong, quite wrong"})
        assert (wrong.status_code, wrong.get_json()["code"]) == (401, "invalid_credentials")
        assert stale.post(path).status_code == 401
        proved = stale.post("/auth/step-up", {"password": PASSWORD})
        assert proved.status_code == 200
        assert proved.get_json()["authenticated_at"] < proved.get_json()["fresh_until"]
        assert stale.post(path).status_code == 200

    def test_needs_the_second_factor_of_who_has_one(self, clinic: Clinic) -> None:
        """As the login does."""
        nurse = clinic.user(Role.NURSE, password=PASSWORD)
        totp, _ = second_factor(nurse)
        assert nurse.post("/auth/step-up", {"password": PASSWORD}).get_json()["code"] == "otp_required"
        body = {"password": PASSWORD, "otp": totp.at(clock.now())}
        assert [nurse.post("/auth/step-up", body).status_code for _ in range(2)] == [200, 401]

    def test_is_throttled_like_a_login(self, clinic: Clinic) -> None:
        """A stolen token is no place to guess the password."""
        nurse = clinic.user(Role.NURSE, password=PASSWORD)
        answers = [nurse.post("/auth/step-up", {"password": "wrong, quite wrong"}).status_code for _ in range(11)]
        assert answers == [401] * 10 + [429]


def test_a_change_under_way_fails_when_its_caller_is_deactivated(
    app: Flask, clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AUTH-11: the request was let in before, and commits nothing after."""
    desk, create = clinic.user(Role.ADMIN), service.create_user

    def close_then_create(**given: object) -> object:
        made = create(**given)  # type: ignore[arg-type]
        monkeypatch.undo()
        with psycopg.connect(app.config["SQLALCHEMY_DATABASE_URI"].replace("+psycopg", "")) as connection:
            connection.execute("UPDATE users SET active = false WHERE id = %s", [desk.user_id])
        return made

    monkeypatch.setattr(service, "create_user", close_then_create)
    body = {"email": f"late.{desk.id}@example.org", "given_name": "L", "family_name": "Ate", "roles": ["nurse"]}
    assert desk.post("/users", body).status_code == 401
    assert desk.get("/me").status_code == 401
    assert all(one["email"] != body["email"] for one in clinic.admin.get("/users", limit=200).get_json()["items"])
