"""The pages on which a user signs in for an app, and decides, over HTTP."""

from collections.abc import Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec
from flask import Blueprint, Response, current_app, request
from msgspec import Struct

from medical.audit.events import Action
from medical.identity.errors import InvalidCredentials, OtpRequired
from medical.identity.service import Access
from medical.platform.errors import NotFound, SecondFactorRequired, TooManyAttempts
from medical.platform.http import endpoint, own_address
from medical.platform.idempotency import Answer
from medical.smart import pages
from medical.smart.app_routes import BASE
from medical.smart.consent import Consent, SentBack, allow, declined, patients_for
from medical.smart.errors import AuthorizationRefused, ConsentOver, OtherClinic
from medical.smart.pages import HTML
from medical.smart.schemas import MOST_PARAMETERS, DecisionForm, SignInForm

bp = Blueprint("authorize", __name__, url_prefix="/oauth/authorize", template_folder="templates")

T = TypeVar("T", bound=Struct)
Query = Sequence[tuple[str, str]]


@endpoint(bp.get(""), returns=(200, str), media_type=HTML, errors=[AuthorizationRefused], raw=True)
def ask(query: Query) -> Answer:
    """Begin to let an app act for a user: a page to sign in on (RFC 6749 section 4.1.1, SMART App Launch 2.2).

    Takes `response_type=code`, `client_id`, `redirect_uri`, `scope`, `state`, `aud`, `code_challenge` with
    `code_challenge_method=S256`, and `launch`. What is wrong with it is told to the app, by sending the user back.
    """
    try:
        app, asked = _consent().read(_once(query), own_address() + BASE)
    except SentBack as back:
        return Answer(302, {"Location": back.location}, b"")
    return pages.sign_in(app, asked, request.query_string.decode("ascii", "replace"))


@endpoint(
    bp.post(""),
    form=SignInForm,
    returns=(200, str),
    media_type=HTML,
    errors=[
        AuthorizationRefused,
        InvalidCredentials,
        OtpRequired,
        OtherClinic,
        SecondFactorRequired,
        TooManyAttempts,
    ],
    audit=Action.SMART_APP_SIGNED_IN,
    raw=True,
)
def sign_in(query: Query, form: bytes) -> Answer:
    """Sign in to answer an app: a page that says what it asks, and lets the user choose a patient."""
    given = _read(form, SignInForm)
    try:
        app, asked = _consent().read(_once(parse_qsl(given.request, keep_blank_values=True)), own_address() + BASE)
    except SentBack as back:
        return Answer(302, {"Location": back.location}, b"")
    access: Access = current_app.extensions["access"]
    ticket, actor = _consent().sign_in(
        access, app, asked, email=given.email, password=given.password, otp=given.otp or None
    )
    return pages.consent(app, asked, actor, _consent().sealed(ticket), patients_for(actor, asked, None))


@endpoint(
    bp.post("/decision"),
    form=DecisionForm,
    returns=(302, str),
    media_type=HTML,
    errors=[AuthorizationRefused, ConsentOver, NotFound],
    audit=Action.SMART_APP_ANSWERED,
    raw=True,
)
def decide(query: Query, form: bytes) -> Answer:
    """Say yes or no to an app, and go back to it: with a code that is good for a minute, or without."""
    given = _read(form, DecisionForm)
    ticket, actor, app = _consent().opened(given.ticket)
    if given.decision == "deny":
        return Answer(302, {"Location": declined(ticket)}, b"")
    patient_id = _id(given.patient)
    if given.decision == "allow" and (patient_id or not ticket.asked.needs_patient):
        return Answer(302, {"Location": allow(ticket, actor, app, patient_id)}, b"")
    problem = "Choose a patient." if given.decision == "allow" else ""
    q = given.q or ""
    found = patients_for(actor, ticket.asked, q)
    return pages.consent(app, ticket.asked, actor, given.ticket, found, q, problem)


def _consent() -> Consent:
    consent: Consent = current_app.extensions["consent"]
    return consent


def _once(query: Query) -> dict[str, str]:
    """The parameters, each of which is there once (RFC 6749 section 3.1). Raises ``AuthorizationRefused``."""
    given = {name: value for name, value in query if value}
    if len(query) > MOST_PARAMETERS or len(given) < len([value for _, value in query if value]):
        raise AuthorizationRefused("A parameter is there twice.")
    if any("\0" in value for value in given.values()):
        raise AuthorizationRefused("A parameter contains a NUL character.")
    return given


def _read(form: bytes, shape: type[T]) -> T:
    """What a form says. Raises ``AuthorizationRefused``."""
    try:
        given: dict[str, Any] = _once(parse_qsl(form.decode(), errors="strict", max_num_fields=MOST_PARAMETERS))
        return msgspec.convert(given, shape)
    except (ValueError, msgspec.ValidationError):
        raise AuthorizationRefused("The form is not one of this page's.") from None


def _id(text: object) -> UUID | None:
    """The id that a form names, if it does. Raises ``AuthorizationRefused``."""
    try:
        return UUID(text) if isinstance(text, str) and text else None
    except ValueError:
        raise AuthorizationRefused("The form is not one of this page's.") from None


@bp.after_request
def _dress(response: Response) -> Response:
    """A refusal is a page too, which has the style of the others."""
    response.headers.setdefault("Content-Security-Policy", pages.policy(None))
    return response
