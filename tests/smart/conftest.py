"""An app and its users, each of whom goes through the pages as a browser would."""

import re
import secrets
from base64 import urlsafe_b64encode
from hashlib import sha256
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import psycopg
import pytest
from werkzeug.test import TestResponse

from tests.clinic import PASSWORD, Caller, Clinic, Form
from tests.conftest import psycopg_url
from tests.records.conftest import Fhir

AUD = "http://localhost/fhir/R4"
BACK = "https://app.example.org/back"
SCOPES = ["launch", "launch/patient", "offline_access", "patient/*.cruds", "user/*.cruds"]


@pytest.fixture(autouse=True)
def nobody_failed_before(database_url: str) -> None:
    """Every test has sign-ins of its own, all from one address."""
    with psycopg.connect(psycopg_url(database_url)) as connection:
        connection.execute("DELETE FROM sign_in_throttle")


class App:
    """An app, and the browser of whoever uses it."""

    def __init__(self, clinic: Clinic, **given: Any) -> None:
        body = {"name": "Growth charts", "redirect_uris": [BACK], "scopes": SCOPES} | given
        answer = clinic.admin.post("/smart-apps", body)
        assert answer.status_code == 201, answer.text
        self.clinic, self.flask, self.made = clinic, clinic.app, answer.get_json()
        self.id: str = self.made["client_id"]
        self.guest = Caller(clinic.app)
        self.verifier = secrets.token_urlsafe(48)

    @property
    def challenge(self) -> str:
        """What the verifier is known by before it is told."""
        return urlsafe_b64encode(sha256(self.verifier.encode()).digest()).decode().rstrip("=")

    def asked(self, scope: str = "launch/patient patient/*.rs", **given: str | None) -> dict[str, str]:
        """What the app asks, but for what is given."""
        usual = {
            "response_type": "code",
            "client_id": self.id,
            "redirect_uri": BACK,
            "scope": scope,
            "state": "abc def",
            "aud": AUD,
            "code_challenge": self.challenge,
            "code_challenge_method": "S256",
        }
        return {name: value for name, value in (usual | given).items() if value is not None}

    def begin(self, scope: str = "launch/patient patient/*.rs", **given: str | None) -> TestResponse:
        """The first page."""
        return self.guest.get("/oauth/authorize", **self.asked(scope, **given))

    def sign_in(self, caller: Caller, scope: str = "launch/patient patient/*.rs", **given: str | None) -> TestResponse:
        """The page on which the user decides."""
        self.clinic.set_password(caller, PASSWORD)
        email = self.clinic.email_of(caller)
        form = {"request": urlencode(self.asked(scope, **given)), "email": email, "password": PASSWORD}
        return self.guest.post("/oauth/authorize", Form(form))

    def decide(self, page: TestResponse, decision: str = "allow", **given: str) -> TestResponse:
        """What the user says on the page."""
        assert page.status_code == 200, page.text
        ticket = re.search(r'name="ticket" value="([^"]+)"', page.text)
        assert ticket, page.text
        form = {"ticket": unescape(ticket[1]), "decision": decision} | given
        return self.guest.post("/oauth/authorize/decision", Form(form))

    def code(self, caller: Caller, scope: str, patient: str | None = None, **given: str | None) -> str:
        """The code that the app gets."""
        page = self.sign_in(caller, scope, **given)
        answer = self.decide(page, **({"patient": patient} if patient else {}))
        return sent_back(answer)["code"]

    def redeem(self, code: str, /, **given: str) -> TestResponse:
        """The token endpoint's answer to a code."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": BACK,
            "client_id": self.id,
            "code_verifier": self.verifier,
        }
        return self.guest.post("/oauth/token", Form(form | given))

    def refresh(self, refresh_token: str, **given: str) -> TestResponse:
        """The token endpoint's answer to a refresh token."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": self.id}
        return self.guest.post("/oauth/token", Form(form | given))

    def tokens(self, caller: Caller, scope: str, patient: str | None = None) -> dict[str, Any]:
        """The tokens that come of the user's consent."""
        answer = self.redeem(self.code(caller, scope, patient))
        assert answer.status_code == 200, answer.text
        given: dict[str, Any] = answer.get_json()
        return given

    def acting(self, caller: Caller, scope: str, patient: str | None = None) -> Fhir:
        """The app as it calls FHIR for the user."""
        return Fhir(Caller(self.flask, self.tokens(caller, scope, patient)["access_token"]))


def sent_back(answer: TestResponse, to: str = BACK) -> dict[str, str]:
    """What the app is told when the user comes back."""
    assert answer.status_code == 302, answer.text
    parts = urlsplit(answer.headers["Location"])
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == to
    return dict(parse_qsl(parts.query))


@pytest.fixture
def smart_app(clinic: Clinic) -> App:
    """A public app."""
    return App(clinic)
