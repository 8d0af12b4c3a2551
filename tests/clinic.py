"""A clinic for a test: an organisation, the people in it, and their calls over HTTP.

Everything has a valid default; a test says only what matters to it.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import jwt
import pyotp
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from flask import Flask
from sqlalchemy import Engine, event, select, update
from werkzeug.test import TestResponse

from medical.identity import passwords, sessions, tokens
from medical.identity.models import Organization, User
from medical.identity.permissions import Role, grantable
from medical.identity.service import create_user
from medical.platform import clock
from medical.platform.db import Scope, db, scoped
from medical.platform.ids import new_id
from medical.scheduling.models import Appointment

API = "/api/v1"
ABSOLUTE = ("/api/", "/fhir/", "/health", "/metrics", "/oauth/", "/.well-known/")
PASSWORD = "a password for tests only"
numbers = itertools.count(1)


class Form(dict[str, str]):
    """A body that is sent as a form."""


class Patch(list[dict[str, Any]]):
    """A body that is sent as a JSON Patch."""


class Caller:
    """Somebody who calls the API, signed in or not."""

    def __init__(self, app: Flask, token: str | None = None, user_id: UUID | None = None) -> None:
        self.app, self.token, self.user_id = app, token, user_id

    @property
    def id(self) -> str:
        """The user's id as it stands in JSON."""
        return str(self.user_id)

    def call(self, method: str, path: str, json: Any = None, headers: dict[str, str] | None = None) -> TestResponse:
        """The answer to a call of ``path`` below the API's base, or of an absolute path."""
        sent = dict(headers or {})
        if self.token:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        body: dict[str, Any] = {"data": dict(json)} if isinstance(json, Form) else {"json": json}
        body |= {"content_type": "application/json-patch+json"} if isinstance(json, Patch) else {}
        return self.app.test_client().open(_url(path), method=method, headers=sent, **body)

    def ask_token(self, client: dict[str, Any], scope: str = "", **given: str) -> TestResponse:
        """The token endpoint's answer to a client that shows its secret."""
        shown = {"client_id": client["client_id"], "client_secret": client["client_secret"]}
        form = Form({"grant_type": "client_credentials", "scope": scope} | shown | given)
        return self.call("POST", "/oauth/token", form)

    def get(self, path: str, **query: Any) -> TestResponse:
        """GET with query parameters; a list repeats its parameter, `from_` stands for `from`."""
        query = {name.rstrip("_"): value for name, value in query.items() if value is not None}
        sent = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return self.app.test_client().get(_url(path), query_string=query, headers=sent)

    def post(self, path: str, json: Any = None, **headers: str) -> TestResponse:
        """POST; header names as keywords with underscores."""
        return self.call("POST", path, json, _header_names(headers))

    def patch(self, path: str, json: Any = None, **headers: str) -> TestResponse:
        """PATCH."""
        return self.call("PATCH", path, json, _header_names(headers))

    def put(self, path: str, json: Any = None, **headers: str) -> TestResponse:
        """PUT."""
        return self.call("PUT", path, json, _header_names(headers))

    def delete(self, path: str, **headers: str) -> TestResponse:
        """DELETE."""
        return self.call("DELETE", path, None, _header_names(headers))


def _url(path: str) -> str:
    """A path below the API's base, unless it says where it is."""
    return path if path.startswith(ABSOLUTE) else API + path


def _header_names(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


class Clinic:
    """A new organisation; its helpers go through the API as its administrator."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.organization_id = new_id()
        with app.app_context(), scoped(Scope(self.organization_id)):
            name = f"Clinic {uuid4()}"
            db.session.add(Organization(id=self.organization_id, name=name, self_registration=False))
            db.session.commit()
        self._admin: Caller | None = None

    @property
    def admin(self) -> Caller:
        """An administrator."""
        if self._admin is None:
            self._admin = self.user(Role.ADMIN)
        return self._admin

    def user(self, *roles: Role, email: str | None = None, password: str | None = None) -> Caller:
        """A user with these roles, signed in."""
        with self.app.app_context(), scoped(Scope(self.organization_id)):
            user = create_user(
                email=email or f"user{next(numbers)}.{uuid4().hex[:8]}@example.org",
                given_name="Robin",
                family_name=f"Tester{next(numbers)}",
                roles=roles,
                password=password,
            )
            user_id = user.id
            db.session.commit()
        return self.signed_in(user_id)

    def set_password(self, caller: Caller, password: str) -> None:
        """Give the caller a password."""
        with self.app.app_context(), scoped(Scope(self.organization_id)):
            hashed = passwords.hash_password(password)
            db.session.execute(update(User).where(User.id == caller.user_id).values(password_hash=hashed))
            db.session.commit()

    def signed_in(self, user_id: UUID, *, minutes_ago: int = 0) -> Caller:
        """A new sign-in of the user, without the cost of a password; their token is fresh in any case."""
        with self.app.app_context(), scoped(Scope(self.organization_id)):
            proved_at = clock.now() - timedelta(minutes=minutes_ago)
            started = sessions.start(self.organization_id, user_id, proved_at)
            claims = tokens.Claims(user_id, started.session_id, self.organization_id)
            token = tokens.issue(self.app.extensions["key_ring"], claims, datetime.now(UTC))
            db.session.commit()
        return Caller(self.app, token, user_id)

    def client(self, *scopes: str, **given: Any) -> dict[str, Any]:
        """A service client that may ask for these scopes, with its secret; for all that a client may, unless said."""
        body = {"name": f"Program {next(numbers)}", "scopes": list(scopes or grantable())}
        return self._made("/service-clients", body | given)

    def program(self, *scopes: str, client: dict[str, Any] | None = None) -> Caller:
        """A service client with a token for these scopes; a new client that may ask for these, unless one is given."""
        client = client or self.client(*scopes)
        answer = Caller(self.app).ask_token(client, " ".join(scopes))
        assert answer.status_code == 200, answer.text
        return Caller(self.app, answer.get_json()["access_token"], UUID(client["client_id"]))

    def email_of(self, caller: Caller) -> str:
        """The email of the caller's account."""
        with self.app.app_context(), scoped(Scope(self.organization_id)):
            return db.session.scalars(select(User.email).where(User.id == caller.user_id)).one()

    def location(self, **given: Any) -> dict[str, Any]:
        """A site."""
        return self._made("/locations", {"name": f"Site {next(numbers)}", "time_zone": "Europe/Berlin"} | given)

    def room(self, site: dict[str, Any]) -> dict[str, Any]:
        """A room of the site."""
        return self._made("/rooms", {"location_id": site["id"], "name": f"Room {next(numbers)}"})

    def device(self, site: dict[str, Any], kind: str = "ecg") -> dict[str, Any]:
        """A device of the site."""
        return self._made("/devices", {"location_id": site["id"], "kind": kind, "name": f"Device {next(numbers)}"})

    def clinician(self, **given: Any) -> Caller:
        """A clinician, signed in."""
        caller = self.user(Role.CLINICIAN)
        body = {"user_id": caller.id, "specialty": "Cardiology", "time_zone": "Europe/Berlin"} | given
        self._made("/clinicians", body)
        return caller

    def appointment_type(self, **given: Any) -> dict[str, Any]:
        """A kind of visit of half an hour, bookable 550 days ahead."""
        body = {"name": f"Visit {next(numbers)}", "duration_minutes": 30, "horizon_days": 550}
        return self._made("/appointment-types", body | given)

    def hours(self, clinician: Caller, **given: Any) -> dict[str, Any]:
        """Weekly hours: every day from nine to five."""
        body = {"clinician_id": clinician.id, "weekdays": [1, 2, 3, 4, 5, 6, 7]}
        return self._made("/availabilities", body | {"start_time": "09:00", "end_time": "17:00"} | given)

    def patient(self, **given: Any) -> dict[str, Any]:
        """A patient."""
        body = {"given_name": "Pat", "family_name": f"Case{next(numbers)}", "birth_date": "1980-05-17", "sex": "female"}
        return self._made("/patients", body | {"confirm_new": True} | given)

    def patient_with_account(self, **given: Any) -> tuple[dict[str, Any], Caller]:
        """A patient and their own sign-in."""
        patient, caller = self.patient(**given), self.user(Role.PATIENT)
        with self.app.app_context(), scoped(Scope(self.organization_id)):
            from medical.people.models import Patient

            db.session.get_one(Patient, UUID(patient["id"])).user_id = caller.user_id
            db.session.commit()
        return patient, caller

    def relate(self, patient: dict[str, Any], carer: Caller, **given: Any) -> dict[str, Any]:
        """An assignment: from now on the carer sees the patient."""
        body = {"user_id": carer.id, "origin": "assignment", "reason": "ward round"}
        return self._made(f"/patients/{patient['id']}/care-relationships", body | given)

    def propose_proxy(self, patient: dict[str, Any], somebody: Caller) -> dict[str, Any]:
        """A parent of the patient, who waits for approval."""
        body = {"user_id": somebody.id, "basis": "parent", "scopes": ["record", "appointments"]}
        return self._made(f"/patients/{patient['id']}/proxies", body | {"proof": "birth certificate"})

    def booking(self, patient: dict[str, Any], clinician: Caller, kind: dict[str, Any], start: str) -> dict[str, Any]:
        """The body of a booking."""
        return {
            "patient_id": patient["id"],
            "clinician_id": clinician.id,
            "appointment_type_id": kind["id"],
            "start": start,
        }

    def appointment(
        self, patient: dict[str, Any], clinician: Caller, kind: dict[str, Any], start: str
    ) -> dict[str, Any]:
        """A booked appointment."""
        return self._made("/appointments", self.booking(patient, clinician, kind, start))

    @contextmanager
    def at(self, moment: str) -> Iterator[Callable[[Caller], Caller]]:
        """It is another moment; what this gives signs somebody in then, for the sign-ins of today are over.

        They are not swept away, though, for it will be today again.
        """
        then = mock.patch.object(clock, "now", return_value=datetime.fromisoformat(moment))
        with then, mock.patch.object(sessions, "_sweep"):
            yield lambda caller: self.signed_in(UUID(caller.id))

    def began(self, appointment: dict[str, Any]) -> None:
        """The appointment's time came: it began half an hour ago, where it is noon now."""
        now = datetime.now(UTC)
        start, hours = now - timedelta(minutes=30), 12 - now.hour
        zone = f"Etc/GMT{-hours:+d}" if hours else "UTC"
        with self.app.app_context(), scoped(Scope(self.organization_id)):
            changed = {
                "start_at": start,
                "end_at": now,
                "time_zone": zone,
                "local_start": start.astimezone(ZoneInfo(zone)).replace(tzinfo=None),
                "version": Appointment.version + 1,
            }
            db.session.execute(update(Appointment).where(Appointment.id == UUID(appointment["id"])).values(changed))
            db.session.commit()

    def free(self, kind: dict[str, Any], start: str, until: str, **given: Any) -> list[str]:
        """The starts of the free times."""
        answer = self.admin.get("/slots", appointment_type_id=kind["id"], from_=start, to=until, **given)
        assert answer.status_code == 200, answer.text
        assert answer.json is not None
        return [slot["start"] for slot in answer.json["items"]]

    def _made(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.admin.post(path, body)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.get_json()
        return made


ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Removed:
    """A claim or header that shall not be there."""

    def __repr__(self) -> str:
        """As it stands in the name of a test."""
        return "REMOVED"


REMOVED = Removed()


class Signer:
    """A program that proves itself by what it signs."""

    def __init__(self, algorithm: str = "ES256", kid: str = "one") -> None:
        makers: dict[str, Callable[[], Any]] = {
            "EdDSA": ed25519.Ed25519PrivateKey.generate,
            "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
            "RS256": lambda: rsa.generate_private_key(65537, 2048),
            "RS384": lambda: rsa.generate_private_key(65537, 2048),
        }
        self.algorithm, self.kid, self.key = algorithm, kid, makers[algorithm]()

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key."""
        public = jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.key.public_key(), as_dict=True)
        return public | {"kid": self.kid}

    @property
    def jwks(self) -> dict[str, Any]:
        """The public key in a set."""
        return {"keys": [self.jwk]}

    def assertion(self, client: dict[str, Any], header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A good assertion of the client, but for what is given."""
        now = int(clock.now().timestamp())
        content = {
            "iss": client["client_id"],
            "sub": client["client_id"],
            "aud": "http://localhost/oauth/token",
            "iat": now,
            "exp": now + 240,
            "jti": uuid4().hex,
        } | claims
        names = {"alg": self.algorithm, "kid": self.kid} | (header or {})
        kept = [{name: value for name, value in part.items() if value is not REMOVED} for part in (content, names)]
        return jwt.encode(kept[0], self.key, algorithm=kept[1]["alg"], headers=kept[1])

    def ask(self, app: Flask, client: dict[str, Any], assertion: str | None = None, **form: str) -> TestResponse:
        """The token endpoint's answer to a client that shows an assertion."""
        shown = {
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": self.assertion(client) if assertion is None else assertion,
        }
        return Caller(app).post("/oauth/token", Form({"grant_type": "client_credentials"} | shown | form))


def day_after(days: int, at: str = "00:00", zone: str = "Z") -> str:
    """An instant some days from now, as the API takes it."""
    return f"{(datetime.now(UTC) + timedelta(days=days)).date()}T{at}:00{zone}"


def second_factor(caller: Caller) -> tuple[pyotp.TOTP, list[str]]:
    """The authenticator app and the recovery codes of the caller, who enrols now."""
    begun = caller.post("/me/otp")
    assert begun.status_code == 200, begun.text
    totp = pyotp.TOTP(begun.get_json()["secret"])
    confirmed = _confirm(caller, totp)
    if confirmed.status_code == 409:  # the half minute ended between the code and the call
        confirmed = _confirm(caller, totp)
    assert confirmed.status_code == 200, confirmed.text
    return totp, confirmed.get_json()["recovery_codes"]


class Statements:
    """The SQL statements sent to an engine since the last ``clear``."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.sent: list[str] = []
        event.listen(engine, "before_cursor_execute", self._note)

    def _note(self, _connection: Any, _cursor: Any, statement: str, *_rest: Sequence[Any]) -> None:
        self.sent.append(statement)

    def clear(self) -> None:
        """Forget what was sent."""
        self.sent.clear()

    @property
    def count(self) -> int:
        """How many were sent."""
        return len(self.sent)

    def stop(self) -> None:
        """Count no more."""
        event.remove(self.engine, "before_cursor_execute", self._note)


def _confirm(caller: Caller, totp: pyotp.TOTP) -> TestResponse:
    """The answer to the code of the half minute before, so that the present one can still be used."""
    return caller.post("/me/otp/confirm", {"otp": totp.at(clock.now(), counter_offset=-1)})
