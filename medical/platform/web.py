"""What every request gets, whatever its route: an id, a log line, metrics, safe headers, problems as answers."""

import re
import time
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any

import structlog
from flask import Flask, Request, Response, current_app, g, request
from flask.sessions import SessionInterface
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge
from werkzeug.exceptions import NotFound as NoSuchPath

from medical.config import Settings
from medical.platform import db, errors, metrics
from medical.platform.errors import PROBLEM, AppError
from medical.platform.ids import new_id
from medical.platform.logging import get_logger
from medical.platform.proxies import TrustedProxies
from medical.platform.wire import MAXIMUM_BODY

log = get_logger(__name__)

Environ = dict[str, Any]
Dialect = Callable[[AppError, str], tuple[str, bytes]]

PORT = re.compile(r":[0-9]*$")
REQUEST_ID = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}")
REQUEST_ID_KEY = "medical.request_id"
"""Where the request's id is kept before Flask has the request."""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "Vary": "Authorization, Origin",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of every answer; a page that needs more of the CSP sets its own."""


def init_app(app: Flask, settings: Settings) -> None:
    """Give every request of ``app`` its frame."""
    app.wsgi_app = TrustedProxies(app.wsgi_app, settings.trusted_proxies)  # type: ignore[method-assign]  # Flask's way
    app.wsgi_app = Frame(app.wsgi_app)  # type: ignore[method-assign]  # as above
    app.log_exception = _log_failure  # type: ignore[method-assign]  # Flask's own line quotes the path
    app.config["MAX_CONTENT_LENGTH"] = MAXIMUM_BODY + 1  # Werkzeug cuts off a body of unknown length there, silently
    app.session_interface = NoSession()
    app.url_map.merge_slashes = False  # which would answer with a redirect in HTML
    app.before_request(_begin)
    if settings.allowed_hosts:
        app.before_request(partial(_ensure_host_is_among, settings.allowed_hosts))
    app.after_request(_finish)
    app.register_error_handler(AppError, _refused)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _failed)
    app.teardown_request(_leave)
    app.extensions["dialects"] = {}


def speak(app: Flask, prefix: str, dialect: Dialect) -> None:
    """Tell refusals below a path in another form than problem documents: media type and body of each."""
    app.extensions["dialects"][prefix] = dialect


class NoSession(SessionInterface):
    """Callers show a token each time: no cookie is read, none is set."""

    def open_session(self, app: Flask, request: Request) -> None:
        """None, for every request."""


class Frame:
    """A WSGI application whose every answer has the safe headers and its request's id, even where Flask fails.

    An answer counts once the request is over: an error in a hook, or while the request ends, is a problem too.
    """

    def __init__(self, application: Callable[[Environ, Any], Iterable[bytes]]) -> None:
        self.application = application

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """The answer of the application, or that it has none."""
        given = environ.get("HTTP_X_REQUEST_ID", "")
        request_id = environ[REQUEST_ID_KEY] = given if REQUEST_ID.fullmatch(given) else str(new_id())
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        begun: list[tuple[str, list[tuple[str, str]]]] = []
        try:
            body = self.application(environ, lambda status, headers, _error=None: begun.append((status, headers)))
            status, headers = begun[-1]
        except Exception as error:
            log.error("unhandled_error", error=type(error).__name__, exc_info=error)
            document = AppError().document(request_id)
            status, headers = "500 Internal Server Error", [("Content-Type", PROBLEM)]
            headers.append(("Content-Length", str(len(document))))
            body = [document]
        finally:
            structlog.contextvars.clear_contextvars()
        own = {name.lower() for name, _ in headers}
        common = HEADERS | {"X-Request-ID": request_id}
        start_response(status, headers + [(name, value) for name, value in common.items() if name.lower() not in own])
        return body


def _begin() -> None:
    g.request_id = request.environ[REQUEST_ID_KEY]
    g.started = time.perf_counter()


def _ensure_host_is_among(names: Collection[str]) -> None:
    """Raise ``HostNotAllowed`` unless the request's ``Host``, without its port, is one of ``names``."""
    if PORT.sub("", request.host).lower() not in names:
        raise errors.HostNotAllowed


def _finish(response: Response) -> Response:
    route = request.url_rule.rule if request.url_rule else "unknown"
    seconds = time.perf_counter() - g.started
    metrics.observe(request.method, route, response.status_code, seconds)
    actor = g.get("actor")
    log.info(
        "request",
        method=request.method,
        route=route,
        status=response.status_code,
        milliseconds=round(seconds * 1000, 1),
        user_id=str(actor.user_id) if actor else None,
        code=g.get("code"),
    )
    return response


def _leave(_error: BaseException | None) -> None:
    db.enter(None)


def _refused(refusal: AppError) -> Response:
    """A refusal as the caller sees it; one that is nobody's fault but ours says nothing."""
    return _answer(refusal) if refusal.status != AppError.status else _failed(refusal)


def _answer(refusal: AppError) -> Response:
    g.code = refusal.code
    dialects: dict[str, Dialect] = current_app.extensions["dialects"]
    dialect = next((dialect for prefix, dialect in dialects.items() if request.path.startswith(prefix)), _plainly)
    media_type, body = dialect(refusal, g.request_id)
    response = Response(body, status=refusal.status, headers=refusal.headers)
    response.content_type = media_type
    return response


def _plainly(refusal: AppError, request_id: str) -> tuple[str, bytes]:
    return refusal.media_type, refusal.document(request_id)


def _http_error(error: HTTPException) -> Response:
    """Errors of Flask's own, before a view is reached."""
    if isinstance(error, NoSuchPath):
        return _refused(errors.NotFound("There is nothing at this path."))
    if isinstance(error, RequestEntityTooLarge):
        return _refused(errors.TooLarge())
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        refusal = errors.MethodNotAllowed(headers={"Allow": allowed})
        return _refused(refusal)
    if error.code and 400 <= error.code < 500:
        return _refused(errors.BadRequest())
    if getattr(error, "original_exception", None):
        return _answer(AppError())  # Flask has had it logged
    return _failed(error)


def _failed(error: Exception) -> Response:
    """A database that is away or busy is said so; anything else is a bug of ours."""
    if refusal := db.refusal_of(error):
        log.warning("database_error", code=refusal.code, **_database_facts(error))
        return _answer(refusal)
    _log_failure((type(error), error, error.__traceback__))
    return _answer(AppError())


def _log_failure(exc_info: Any) -> None:
    log.error("unhandled_error", error=exc_info[0].__name__, exc_info=exc_info)


def _database_facts(error: Exception) -> dict[str, Any]:
    """The kind of a database error, without the values that its message may quote."""
    origin = getattr(error, "orig", None)
    return {"error": type(origin or error).__name__, "sqlstate": getattr(origin, "sqlstate", None)}
