"""Apps that run in a browser alone: scripts of the origins that registered apps are sent back to may call FHIR.

Nobody else's may: the headers of https://fetch.spec.whatwg.org/#http-cors-protocol are for these origins only. They
allow no cookies, of which there are none; what a caller may is said by their token, here as elsewhere.
"""

import re
import time

from flask import Flask, Response, g, request
from sqlalchemy import text

from medical.platform.db import db, enter

PATHS = re.compile(r"/fhir/R4(/.*)?|/oauth/(token|revoke|introspect)|/\.well-known/.+")
"""What an app calls from its scripts; users are sent to the pages."""
ORIGIN = re.compile(r"https?://[a-z0-9.\-\[\]:]{1,260}")
KNOWN_FOR = 60.0
"""Seconds for which a process need not ask again about an origin."""
MOST_KNOWN = 1000

NAME_ORIGIN = text("SELECT set_config('app.origin', :origin, true)")
IS_KNOWN = text("SELECT EXISTS (SELECT FROM smart_app WHERE active AND has_origin(redirect_uris, :origin))")

ALWAYS = {
    "Access-Control-Expose-Headers": "Content-Location, ETag, Last-Modified, Location, Retry-After, WWW-Authenticate,"
    " X-Progress, X-Request-ID"
}
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
    "Access-Control-Allow-Headers": "Accept, Authorization, Content-Type, If-Match, If-Modified-Since, If-None-Exist,"
    " If-None-Match, Prefer, X-Request-ID",
    "Access-Control-Max-Age": "600",
}


class Origins:
    """The origins that were asked about lately, and whether an app of any organisation is served from there."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[bool, float]] = {}

    def is_known(self, origin: str) -> bool:
        """Whether scripts of this origin may call; asks the database once a minute."""
        known, until = self._known.get(origin, (False, 0.0))
        if until < time.monotonic():
            known = bool(ORIGIN.fullmatch(origin)) and _is_registered(origin)
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[origin] = (known, time.monotonic() + KNOWN_FOR)
        return known


def _is_registered(origin: str) -> bool:
    """Whether an app is sent back there (the policy `browser` shows it, in whatever organisation)."""
    enter(None)
    db.session.execute(NAME_ORIGIN, {"origin": origin})
    found = bool(db.session.scalar(IS_KNOWN, {"origin": origin}))
    db.session.rollback()
    return found


def init_app(app: Flask) -> None:
    """Let scripts of registered apps read the answers of ``app``."""
    origins = Origins()

    def begin() -> Response | None:
        """Answer a preflight; note the origin of any other request of an app's."""
        origin = request.headers.get("Origin", "")
        if not origin or not PATHS.fullmatch(request.path) or not origins.is_known(origin):
            return None
        g.origin = origin
        asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        return Response(status=204, headers=PREFLIGHT) if asks else None

    def finish(response: Response) -> Response:
        """Let the script read the answer, whatever it says."""
        if origin := g.get("origin"):
            response.headers.update(ALWAYS | {"Access-Control-Allow-Origin": origin})
        return response

    app.before_request(begin)
    app.after_request(finish)
