"""Which passwords are refused, and how they are kept."""

import unicodedata
from typing import Any

import psycopg
import pytest
from argon2 import PasswordHasher
from flask import Flask

from medical.config import ROLES
from medical.identity import passwords
from medical.identity.permissions import Role
from tests.clinic import PASSWORD, Caller, Clinic
from tests.conftest import psycopg_url

GOOD = "lanterns over a quiet harbour"


@pytest.mark.parametrize(
    "password",
    [
        "1q2w3e4r5t6y7u8i9o0p",
        "passwordpassword",
        "Password1234567",
        "P4ssw0rd!!!!2024",
        "password password password",
        "adminpassword123",
        "iloveyouiloveyou!",
        "qwertyuiopasdfghjkl",
        "123456789012345678",
        "abcdefghijklmnopq",
        "aaaaaaaaaaaaaaaa",
        "abc123abc123abc123",
        "monkeydragon2024!",
    ],
)
def test_a_common_password_is_refused(password: str) -> None:
    """AUTH-02: listed, repeated, put together of two listed ones, or run along the keyboard."""
    assert passwords.common_problem(password) == passwords.TOO_COMMON


@pytest.mark.parametrize("password", [PASSWORD, GOOD, "demo admin password", "ключ от старого сада", "x9$Kq!vR2m#Tz7w"])
def test_others_are_not(password: str) -> None:
    """Any characters, no composition rule."""
    assert passwords.common_problem(password) is None


def test_the_list_is_long_enough() -> None:
    """AUTH-02 asks for 3,000."""
    assert len(passwords._listed()) >= 3000


class TestChoosing:
    """Wherever a password is chosen."""

    @pytest.fixture
    def account(self) -> dict[str, Any]:
        """A nurse to be."""
        return {"email": "grace.hopper@example.org", "given_name": "Grace", "family_name": "Hopper", "roles": ["nurse"]}

    @pytest.mark.parametrize("password", ["a hopper of old grain", "hello GRACE, my friend", "passwordpassword"])
    def test_a_password_that_others_can_guess_is_refused(
        self, clinic: Clinic, account: dict[str, Any], password: str
    ) -> None:
        """With a pointer to it."""
        refused = clinic.admin.post("/users", account | {"password": password})
        assert (refused.status_code, refused.get_json()["code"]) == (422, "invalid_request")
        assert [one["pointer"] for one in refused.get_json()["errors"]] == ["/password"]

    def test_beside_everything_else_that_is_wrong(self, clinic: Clinic, account: dict[str, Any]) -> None:
        """In one answer."""
        refused = clinic.admin.post("/users", account | {"password": "passwordpassword", "email": "none", "x": 1})
        assert {one["pointer"] for one in refused.get_json()["errors"]} == {"/password", "/email", "/x"}

    def test_length_counts_characters_and_all_of_them_count(self, app: Flask, clinic: Clinic) -> None:
        """AUTH-01: two long ones that differ in the last character are two."""
        long = (GOOD * 4)[:79]
        email = clinic.email_of(clinic.user(Role.NURSE, password=long + "a"))
        answers = [Caller(app).post("/auth/login", {"email": email, "password": long + last}) for last in "ab"]
        assert [answer.status_code for answer in answers] == [200, 401]

    def test_one_password_however_the_keyboard_spells_it(self, app: Flask, clinic: Clinic) -> None:
        """Hashed in NFC."""
        spelt = "schöne grüße aus köln"
        email = clinic.email_of(clinic.user(Role.NURSE, password=unicodedata.normalize("NFD", spelt)))
        assert Caller(app).post("/auth/login", {"email": email, "password": spelt}).status_code == 200


@pytest.mark.usefixtures("costly_hashes")
def test_a_weaker_hash_is_renewed_at_the_next_login(app: Flask, clinic: Clinic, database_url: str) -> None:
    """AUTH-03; a wrong password renews nothing."""
    nurse = clinic.user(Role.NURSE, password=PASSWORD)
    weak = PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1).hash(PASSWORD)
    with psycopg.connect(psycopg_url(database_url), autocommit=True) as connection:
        connection.execute("UPDATE users SET password_hash = %s WHERE id = %s", [weak, nurse.user_id])
        query = "SELECT password_hash FROM users WHERE id = %s"
        for password, status, start in [("wrong, quite wrong", 401, weak), (PASSWORD, 200, "$argon2id$v=19$m=47104,")]:
            body = {"email": clinic.email_of(nurse), "password": password}
            assert Caller(app).post("/auth/login", body).status_code == status
            row = connection.execute(query, [nurse.user_id]).fetchone()
            assert row is not None
            assert row[0].startswith(start)


class TestChange:
    """POST /me/password."""

    def test_ends_every_other_sign_in(self, app: Flask, clinic: Clinic) -> None:
        """TOK-09; the old password is good for nothing, the new one signs in."""
        nurse = clinic.user(Role.NURSE, password=PASSWORD)
        assert nurse.user_id
        other, body = clinic.signed_in(nurse.user_id), {"current_password": PASSWORD, "new_password": GOOD}
        wrong = nurse.post("/me/password", body | {"current_password": GOOD})
        assert (wrong.status_code, wrong.get_json()["code"]) == (401, "invalid_credentials")
        assert other.get("/me").status_code == 200
        assert nurse.post("/me/password", body).status_code == 204
        assert [nurse.get("/me").status_code, other.get("/me").status_code] == [200, 401]
        email = clinic.email_of(nurse)
        answers = [Caller(app).post("/auth/login", {"email": email, "password": one}) for one in (PASSWORD, GOOD)]
        assert [answer.status_code for answer in answers] == [401, 200]

    def test_a_new_one_with_ones_name_in_it_is_refused(self, clinic: Clinic) -> None:
        """As everywhere."""
        nurse = clinic.user(Role.NURSE, password=PASSWORD)
        body = {"current_password": PASSWORD, "new_password": "robin sings at dawn"}
        [problem] = nurse.post("/me/password", body).get_json()["errors"]
        assert problem["pointer"] == "/new_password"


def test_the_settings_know_the_roles() -> None:
    """REQUIRE_OTP_FOR names them."""
    assert set(ROLES) == set(Role)
