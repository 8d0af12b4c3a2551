"""What an app asks of a user, and what the user says to it.

Nothing is kept while the user decides: what was asked, and who signed in, goes sealed through the pages. No cookie is
set, so nobody else's page can decide for the user.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from authlib.oauth2 import OAuth2Error
from msgspec import Struct

from medical.audit import service as audit
from medical.identity import service as accounts
from medical.identity.permissions import Role
from medical.identity.service import Access
from medical.people import service as people
from medical.people.models import Patient
from medical.platform import authz, clock
from medical.platform.authz import Actor
from medical.platform.db import Scope, enter
from medical.platform.errors import NotFound, SecondFactorRequired
from medical.platform.scopes import parsed_all
from medical.platform.sealing import Seal, Tampered
from medical.smart import apps
from medical.smart.errors import AuthorizationRefused, ConsentOver, NoLaunchAddress, OtherClinic
from medical.smart.models import SmartApp
from medical.smart.server import SERVER, CodeGrant, Request

FOR_PATIENT, FROM_CLINIC = "launch/patient", "launch"
OPEN_FOR = timedelta(minutes=10)
MOST_SHOWN = 20
T = TypeVar("T")


class Launch(Struct, frozen=True):
    """That a user opened an app for a patient, from the clinic's own program."""

    app_id: UUID
    user_id: UUID
    patient_id: UUID | None
    until: datetime


class Asked(Struct, frozen=True):
    """What an app asks of a user."""

    client_id: str
    redirect_uri: str
    scopes: tuple[str, ...]
    code_challenge: str
    state: str | None
    launch: Launch | None

    @property
    def needs_patient(self) -> bool:
        """Whether the app asks for one patient's record."""
        return FOR_PATIENT in self.scopes or any(one.context == "patient" for one in parsed_all(self.scopes))


class Ticket(Struct, frozen=True):
    """Who signed in to answer an app, and what it asks."""

    asked: Asked
    organization_id: UUID
    user_id: UUID
    second_factor: bool
    until: datetime


class SentBack(Exception):
    """The user goes back to the app, which is told why it gets nothing (RFC 6749 section 4.1.2.1)."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.location = location


class Consent:
    """Reads what apps ask, and seals what goes through pages; ``secret`` is the program's."""

    def __init__(self, secret: str) -> None:
        self._tickets = Seal(secret, "consent tickets")
        self._launches = Seal(secret, "app launches")

    def launch(self, actor: Actor, app_id: UUID, patient_id: UUID | None) -> tuple[SmartApp, str]:
        """The app, and the launch to open it with, within ten minutes and by this user.

        Raises ``NotFound`` for an app or a patient the actor does not see, or ``NoLaunchAddress``.
        """
        app = apps.get_app(app_id)
        if not app.active:
            raise NotFound
        if not app.launch_uri:
            raise NoLaunchAddress
        if patient_id:
            people.get_visible_patient(actor, patient_id)
        made = Launch(app.id, actor.user_id, patient_id, clock.now() + OPEN_FOR)
        return app, _sealed(self._launches, made, str(app.id))

    def read(self, parameters: Mapping[str, str], audience: str) -> tuple[SmartApp, Asked]:
        """The app that asks, and what it asks for, as far as it may.

        Raises ``AuthorizationRefused`` where nobody can be sent back to it, else ``SentBack``.
        """
        request = Request("GET", parameters)
        try:
            grant = SERVER.get_authorization_grant(request)
            grant.validate_consent_request()
        except OAuth2Error as refusal:
            raise _refused(refusal, parameters) from None
        app: SmartApp = request.client.app
        asked = Asked(
            client_id=str(app.id),
            redirect_uri=parameters["redirect_uri"],
            scopes=tuple(request.scope.split()),
            code_challenge=parameters["code_challenge"],
            state=parameters.get("state"),
            launch=self._launched(app, parameters),
        )
        if parameters.get("aud", "").rstrip("/") != audience:
            raise _back(asked.redirect_uri, asked.state, "invalid_request", f"aud must be {audience}")
        return app, asked

    def _launched(self, app: SmartApp, parameters: Mapping[str, str]) -> Launch | None:
        """The launch that the app was opened with, if it was. Raises ``SentBack``."""
        if not parameters.get("launch"):
            return None
        launch = _opened(self._launches, parameters["launch"], str(app.id), Launch)
        if launch is None or launch.until < clock.now():
            raise _back(parameters["redirect_uri"], parameters.get("state"), "invalid_request", "launch is over")
        return launch

    def sign_in(
        self, access: Access, app: SmartApp, asked: Asked, *, email: str, password: str, otp: str | None
    ) -> tuple[Ticket, Actor]:
        """Who signed in to answer. Raises what ``prove`` raises, ``OtherClinic`` or ``SecondFactorRequired``."""
        organization_id = app.organization_id
        person = accounts.prove(access, email=email, password=password, otp=otp)
        if person.organization_id != organization_id:
            raise OtherClinic
        audit.touch("smart-app", UUID(asked.client_id))
        until = clock.now() + OPEN_FOR
        ticket = Ticket(asked, person.organization_id, person.user_id, person.second_factor, until)
        actor = _actor(ticket)
        if actor.roles & access.otp_roles and not person.second_factor:
            raise SecondFactorRequired
        return ticket, actor

    def sealed(self, ticket: Ticket) -> str:
        """The ticket as it goes through the page."""
        return _sealed(self._tickets, ticket, "")

    def opened(self, text: str) -> tuple[Ticket, Actor, SmartApp]:
        """The ticket of a page, who decides, and about which app; from here on their organisation's rows are seen.

        Raises ``ConsentOver``.
        """
        ticket = _opened(self._tickets, text, "", Ticket)
        if ticket is None or ticket.until < clock.now():
            raise ConsentOver
        enter(Scope(ticket.organization_id, ticket.user_id, authz.current_request_id()))
        actor, app = _actor(ticket), apps.get_app(UUID(ticket.asked.client_id))
        if not app.active:
            raise ConsentOver
        return ticket, actor, app


def patients_for(actor: Actor, asked: Asked, q: str | None) -> Sequence[Patient]:
    """Whom the user can choose: the patient the app was opened for, or those whom they see and who fit ``q``."""
    if not asked.needs_patient:
        return []
    if asked.launch and asked.launch.patient_id:
        return [people.get_visible_patient(actor, asked.launch.patient_id)]
    found = people.search_patients(actor, q or None, MOST_SHOWN, None)
    return [row for row, _ in found[:MOST_SHOWN] if isinstance(row, Patient)]


def allow(ticket: Ticket, actor: Actor, app: SmartApp, patient_id: UUID | None) -> str:
    """Where the user goes back to, with a code for the app.

    Raises ``NotFound`` for a patient whom they do not see, or ``ConsentOver`` where the app was opened by another user
    or for another patient.
    """
    asked, launch = ticket.asked, ticket.asked.launch
    if launch and (launch.user_id != actor.user_id or launch.patient_id not in (None, patient_id)):
        raise ConsentOver
    if patient_id:
        people.get_visible_patient(actor, patient_id)
    parameters = {
        "response_type": "code",
        "redirect_uri": asked.redirect_uri,
        "scope": " ".join(asked.scopes),
        "code_challenge": asked.code_challenge,
    }
    parameters |= {"state": asked.state} if asked.state else {}
    parameters |= {"patient": str(patient_id)} if patient_id else {}
    grant = CodeGrant(Request("POST", parameters, app), SERVER)
    _, _, headers = grant.create_authorization_response(asked.redirect_uri, actor)
    return str(dict(headers)["Location"])


def declined(ticket: Ticket) -> str:
    """Where the user goes back to, having said no."""
    asked = ticket.asked
    return _back(asked.redirect_uri, asked.state, "access_denied", "the user said no").location


def _actor(ticket: Ticket) -> Actor:
    """The user, with the second factor that they gave. Raises ``ConsentOver`` for an account that was closed."""
    actor = accounts.without_sign_in(ticket.user_id)
    if actor is None:
        raise ConsentOver
    return replace(actor, second_factor=ticket.second_factor)


def is_patient_alone(actor: Actor) -> bool:
    """Whether the user is here as a patient, or for one, and not as staff."""
    return actor.roles == {Role.PATIENT}


def _refused(refusal: OAuth2Error, parameters: Mapping[str, str]) -> Exception:
    """The refusal of Authlib as ours: told to the app where it is known where its users are sent back to."""
    if refusal.redirect_uri:
        return _back(refusal.redirect_uri, parameters.get("state"), refusal.error, refusal.get_error_description())
    return AuthorizationRefused(refusal.get_error_description() or None)


def _back(redirect_uri: str, state: str | None, error: str, description: str) -> SentBack:
    told = {"error": error, "error_description": description} | ({"state": state} if state else {})
    return SentBack(f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{urlencode(told)}")


def _sealed(seal: Seal, value: Struct, place: str) -> str:
    return urlsafe_b64encode(seal.seal(msgspec.json.encode(value), place)).decode()


def _opened(seal: Seal, text: str, place: str, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(seal.open(urlsafe_b64decode(text.encode()), place), type=kind)
    except (Tampered, ValueError):
        return None
