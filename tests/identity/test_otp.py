"""Second factors: enrolled, demanded, used once, lost."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import msgspec
import psycopg
import pytest
from flask import Flask

from medical.config import ConfigurationError, Mode, Settings
from medical.identity import service, throttle
from medical.identity.permissions import Role
from medical.platform import clock
from tests.clinic import PASSWORD, Caller, Clinic, second_factor
from tests.conftest import psycopg_url


@pytest.fixture
def nurse(clinic: Clinic) -> Caller:
    """Somebody with a password."""
    return clinic.user(Role.NURSE, password=PASSWORD)


def login(app: Flask, clinic: Clinic, caller: Caller, **given: str) -> Any:
    """The answer to the caller's login."""
    return Caller(app).post("/auth/login", {"email": clinic.email_of(caller), "password": PASSWORD} | given)


def code(answer: Any) -> tuple[int, str]:
    """Status and code of a refusal."""
    return answer.status_code, answer.get_json()["code"]


class TestEnrolment:
    """An authenticator app is made known."""

    def test_shows_secret_address_and_picture(self, nurse: Caller) -> None:
        """The secret is encrypted in the database, and counts only once a code of it came."""
        begun = nurse.post("/me/otp").get_json()
        assert begun["otpauth_uri"].startswith("otpauth://totp/")
        assert begun["secret"] in begun["otpauth_uri"]
        assert "<svg" in begun["qr_svg"]
        assert nurse.get("/me").get_json()["second_factor"] == {"enrolled": False, "required": False}
        assert code(nurse.post("/me/otp/confirm", {"otp": "abcdef"})) == (409, "invalid_otp")

    def test_then_every_login_needs_it(self, app: Flask, clinic: Clinic, nurse: Caller) -> None:
        """Only who knows the password learns that; and sign-ins without it ended."""
        assert nurse.user_id
        other = clinic.signed_in(nurse.user_id)
        totp, codes = second_factor(nurse)
        assert (len(set(codes)), other.get("/me").status_code) == (10, 401)
        assert code(login(app, clinic, nurse)) == (401, "otp_required")
        assert code(login(app, clinic, nurse, password="wrong, quite wrong")) == (401, "invalid_credentials")
        assert code(login(app, clinic, nurse, otp="not it")) == (401, "invalid_credentials")
        assert login(app, clinic, nurse, otp=totp.at(clock.now())).status_code == 200
        assert nurse.get("/me").get_json()["second_factor"]["enrolled"] is True
        assert code(nurse.post("/me/otp")) == (409, "otp_enrolled")

    def test_secret_and_recovery_codes_are_not_in_the_database(self, nurse: Caller, database_url: str) -> None:
        """Neither as text nor as bytes."""
        totp, codes = second_factor(nurse)
        with psycopg.connect(psycopg_url(database_url)) as connection:
            rows = connection.execute(
                "SELECT c::text, r::text FROM otp_credential c JOIN recovery_code r USING (user_id)"
            ).fetchall()
        for secret in (totp.secret, totp.secret.encode().hex(), *codes, codes[0].replace("-", "").encode().hex()):
            assert secret not in str(rows)


class TestOnce:
    """AUTH-07."""

    def test_a_code_used_eight_times_at_once_works_once(
        self, app: Flask, clinic: Clinic, nurse: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And not again while it is shown."""
        totp, codes = second_factor(nurse)
        assert login(app, clinic, nurse, otp=codes[0]).status_code == 200, "so that the network is known"
        otp = totp.at(clock.now())
        monkeypatch.setattr(throttle, "LIMITS", throttle.LIMITS | {"otp_free": 100.0})
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: login(app, clinic, nurse, otp=otp), range(8)))
        assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7
        assert login(app, clinic, nurse, otp=otp).status_code == 401

    def test_a_recovery_code_works_once(self, app: Flask, clinic: Clinic, nurse: Caller) -> None:
        """With or without its dashes; new ones void the old."""
        _, codes = second_factor(nurse)
        assert login(app, clinic, nurse, otp=codes[0].upper()).status_code == 200
        assert login(app, clinic, nurse, otp=codes[0]).status_code == 401
        fresh = nurse.post("/me/otp/recovery-codes").get_json()["recovery_codes"]
        assert login(app, clinic, nurse, otp=codes[1]).status_code == 401
        assert login(app, clinic, nurse, otp=fresh[1].replace("-", "")).status_code == 200

    @pytest.mark.parametrize(("steps", "status"), [(-2, 401), (1, 200), (2, 401)])
    def test_a_clock_may_be_one_step_off(
        self, app: Flask, clinic: Clinic, nurse: Caller, steps: int, status: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not two."""
        totp, _ = second_factor(nurse)
        moment = clock.now() + timedelta(minutes=5)
        monkeypatch.setattr(clock, "now", lambda: moment)
        assert login(app, clinic, nurse, otp=totp.at(moment, counter_offset=steps)).status_code == status

    def test_guessing_it_is_throttled_apart(self, app: Flask, clinic: Clinic, nurse: Caller) -> None:
        """The password's counter stays at nought: without a code the same answer as ever."""
        second_factor(nurse)
        answers = [login(app, clinic, nurse, otp="000 00x").status_code for _ in range(6)]
        assert answers == [401] * 5 + [429]
        assert code(login(app, clinic, nurse)) == (401, "otp_required")


class TestRequired:
    """AUTH-06: REQUIRE_OTP_FOR."""

    @pytest.fixture(autouse=True)
    def demanding(self, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of administrators and auditors."""
        strict = msgspec.structs.replace(app.extensions["access"], otp_roles=frozenset({"admin", "auditor"}))
        hooks = app.extensions["http"]
        monkeypatch.setattr(hooks, "authenticate", partial(service.authenticate, strict))

    def test_an_administrator_without_it_may_enrol_and_nothing_else(self, clinic: Clinic) -> None:
        """Afterwards everything, in the same sign-in; until it is removed."""
        admin = clinic.user(Role.ADMIN, password=PASSWORD)
        assert code(admin.get("/users")) == (403, "second_factor_required")
        assert admin.get("/me").get_json()["second_factor"] == {"enrolled": False, "required": True}
        second_factor(admin)
        assert admin.get("/users").status_code == 200
        assert admin.call("DELETE", "/me/otp").status_code == 204
        assert code(admin.get("/users")) == (403, "second_factor_required")

    def test_others_do_without(self, clinic: Clinic) -> None:
        """Unless they want it."""
        assert clinic.user(Role.NURSE).get("/patients").status_code == 200


class TestLost:
    """DELETE /users/{id}/otp."""

    def test_an_administrator_resets_it(self, app: Flask, clinic: Clinic, nurse: Caller) -> None:
        """The sign-ins of the user end; the password alone signs in again."""
        second_factor(nurse)
        assert clinic.admin.call("DELETE", f"/users/{nurse.id}/otp").status_code == 204
        assert nurse.get("/me").status_code == 401
        assert login(app, clinic, nurse).status_code == 200
        assert code(clinic.admin.call("DELETE", f"/users/{nurse.id}/otp")) == (409, "otp_not_enrolled")


class TestSetting:
    """Absent, empty, wrong."""

    @pytest.mark.parametrize(
        ("environ", "roles"),
        [
            ({}, {"admin", "auditor"}),
            ({"REQUIRE_OTP_FOR": ""}, set()),
            ({"REQUIRE_OTP_FOR": "Nurse, clinician"}, {"nurse", "clinician"}),
            ({"MEDICAL_MODE": "demo"}, set()),
            ({"MEDICAL_MODE": "demo", "REQUIRE_OTP_FOR": "admin"}, {"admin"}),
        ],
    )
    def test_names_the_roles(self, environ: dict[str, str], roles: set[str]) -> None:
        """Empty is a value of its own."""
        assert Settings.load(environ=environ).otp_roles == roles

    def test_an_unknown_role_keeps_the_program_from_starting(self) -> None:
        """Otherwise a slip of the pen would switch it off."""
        with pytest.raises(ConfigurationError, match="expected some of admin, clinician"):
            Settings.load({"mode": Mode.PRODUCTION}, {"REQUIRE_OTP_FOR": "admins"})
