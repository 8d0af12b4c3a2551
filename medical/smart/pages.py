"""The pages that users see when an app wants to act for them; without scripts, cookies, or anything from elsewhere."""

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from urllib.parse import urlsplit

from flask import render_template

from medical.identity.errors import InvalidCredentials, OtpRequired
from medical.people.models import Patient
from medical.platform.authz import Actor
from medical.platform.errors import AppError
from medical.platform.idempotency import Answer
from medical.platform.scopes import EVERY, Scope, parsed
from medical.smart.consent import Asked, is_patient_alone
from medical.smart.models import SmartApp

HTML = "text/html; charset=utf-8"
STYLE = """
body{font:1rem/1.5 system-ui,sans-serif;margin:0;background:#f3f5f7;color:#1b2733}
main{max-width:34rem;margin:4vh auto;padding:2rem;background:#fff;border-radius:.5rem}
label{display:block;margin:.8rem 0}
label.choice{margin:.3rem 0}
input:not([type=radio]){display:block;width:100%;box-sizing:border-box;padding:.5rem;font:inherit}
fieldset{border:1px solid #c5ced6;border-radius:.4rem;margin:1rem 0}
button{font:inherit;padding:.5rem 1.2rem;margin:.4rem .4rem 0 0;cursor:pointer}
button.main{background:#0a5c8f;color:#fff;border:1px solid #0a5c8f;border-radius:.3rem}
[role=alert]{border-left:4px solid #b3261e;padding-left:.8rem}
.small{font-size:.8rem;color:#556}
"""
STYLE_HASH = b64encode(sha256(STYLE.encode()).digest()).decode()
DOING = {"c": "create", "r": "read", "u": "change", "d": "delete", "s": "search"}
CONTEXTS = {
    "patient": "of the patient you choose",
    "user": "of every patient whose record you may open",
    "system": "of every patient",
}
WORDS = {
    "launch": "Know for whom you opened it",
    "launch/patient": "Know which patient you choose",
    "online_access": "Go on for up to twelve hours",
    "offline_access": "Go on for up to 90 days, also when you are not there",
}


def policy(redirect_uri: str | None) -> str:
    """The content security policy of a page whose form may lead on to an app."""
    target = ""
    if redirect_uri:
        parts = urlsplit(redirect_uri)
        web = parts.scheme in ("http", "https")
        target = f" {parts.scheme}://{parts.netloc}" if web else f" {parts.scheme}:"
    return (
        f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; form-action 'self'{target}; "
        "frame-ancestors 'none'; base-uri 'none'"
    )


def sign_in(app: SmartApp, asked: Asked, request_text: str, problem: str = "", email: str = "") -> Answer:
    """Where a user signs in, having come from an app."""
    body = render_template(
        "smart/sign_in.html", style=STYLE, app=app.name, request_text=request_text, problem=problem, email=email
    )
    return _page(body, asked.redirect_uri)


def consent(
    app: SmartApp,
    asked: Asked,
    actor: Actor,
    ticket: str,
    patients: Sequence[Patient],
    q: str = "",
    problem: str = "",
) -> Answer:
    """Where a user sees what an app asks for, chooses a patient, and decides."""
    body = render_template(
        "smart/consent.html",
        style=STYLE,
        app=app.name,
        lines=[said_of(one) for one in asked.scopes],
        email=actor.email,
        ticket=ticket,
        needs_patient=asked.needs_patient,
        patients=patients,
        searchable=not is_patient_alone(actor) and not (asked.launch and asked.launch.patient_id),
        q=q,
        problem=problem,
    )
    return _page(body, asked.redirect_uri)


def _page(body: str, redirect_uri: str | None) -> Answer:
    return Answer(200, {"Content-Security-Policy": policy(redirect_uri)}, body.encode())


def refusal_page(refusal: AppError, request_id: str) -> tuple[str, bytes]:
    """A refusal as a page: media type and HTML."""
    title, detail = refusal.title, refusal.detail
    if isinstance(refusal, OtpRequired):
        detail = "Your account has a second factor: go back, and give its code too."
    elif isinstance(refusal, InvalidCredentials):
        detail = "Go back and try again: email, password and code do not belong together."
    if refusal.errors:
        detail = "; ".join(f"{one.pointer.strip('/')} {one.message}" for one in refusal.errors)
    body = render_template("smart/refusal.html", style=STYLE, title=title, detail=detail, request_id=request_id)
    return HTML, body.encode()


def said_of(text: str) -> str:
    """What a scope means, in words."""
    scope = parsed(text)
    return _said(scope) if scope else WORDS.get(text, text)


def _said(scope: Scope) -> str:
    doing = [DOING[one] for one in scope.letters]
    verbs = " and ".join(filter(None, (", ".join(doing[:-1]), doing[-1]))).capitalize()
    kind = "everything" if scope.type == EVERY else scope.type
    narrowed = f" with {scope.query}" if scope.query else ""
    return f"{verbs} {kind}{narrowed} {CONTEXTS[scope.context]}"
