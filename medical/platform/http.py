"""One declaration per route, from which everything that must not be forgotten follows.

``endpoint`` wraps a view so that each request is authenticated, its permission checked, its input
read, its idempotency key honoured, its trail written and its transaction ended, in this order and
in one place. The same declaration is what the OpenAPI document is made of.
"""

import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import wraps
from typing import Any
from uuid import UUID

import msgspec
from flask import Flask, Response, current_app, g, request
from msgspec import Struct
from werkzeug.routing import Rule

from medical.platform import authz, clock, db, idempotency
from medical.platform.authz import Actor
from medical.platform.db import Scope
from medical.platform.errors import (
    AppError,
    FieldProblem,
    Forbidden,
    InvalidRequest,
    SecondFactorRequired,
    StepUpRequired,
    TooLarge,
    Unauthenticated,
    UnsupportedMediaType,
)
from medical.platform.idempotency import Answer, Intent
from medical.platform.wire import MAXIMUM_BODY, Input, Output, pointer_to, read_body, read_query

ATTEMPTS = 4
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,200}")
IF_MATCH = re.compile(r'(?:W/)?"([0-9]{1,9})"')

View = Callable[..., Any]

SAFE = frozenset({"GET", "HEAD"})
BODIED = frozenset({"POST", "PUT", "PATCH"})
LARGEST_RAW = 16 * 1024 * 1024
"""Of the body of a route that reads it itself, in bytes."""
FRESH = timedelta(minutes=5)
"""How long a proof of who one is counts for sensitive acts (OWASP ASVS 5.0, 7.5)."""

TRAILED = frozenset({401, 403, 404, 409, 429})
"""Statuses of refusals that leave a trail; those of malformed requests do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What a route promises."""

    permission: str | None
    body: type[Input] | None
    form: type[Struct] | None
    query: type[Input] | None
    status: int
    answer: Any
    media_type: str
    errors: Sequence[type[AppError]]
    audit: str | None
    idempotent: bool
    if_match: bool
    etag: bool
    step_up: bool
    own_sign_in: bool
    max_age: int | None
    raw: bool
    smart: str | None

    @property
    def public(self) -> bool:
        """Whether anybody may call it, signed in or not."""
        return self.permission is None


@dataclass(slots=True)
class Hooks:
    """What the layers above give the edge: who calls, and how to leave a trail."""

    authenticate: Callable[[str], Actor]
    """From a bearer token to the caller; raises ``Unauthenticated``; enters the caller's scope."""
    guest_scope: Callable[[], Scope | None]
    """The organisation a guest's idempotency key belongs to."""
    hold: Callable[[Actor], Actor]
    """The caller as they are now, and as they stay until the transaction ends; raises ``Unauthenticated``."""
    record: Callable[[str, str, str | None], None]
    """Writes the trail of this request: action, outcome, code of the refusal."""
    public: set[str] = field(default_factory=set)
    """Endpoints that may lack a permission."""


class UndeclaredRoute(Exception):
    """A route without a permission and without a place on the public list: no start with it."""


def init_app(app: Flask, hooks: Hooks) -> None:
    """Give the edge its hooks."""
    app.extensions["http"] = hooks


def declaration_of(view: View) -> Declaration | None:
    """What the view was declared with, if it was."""
    found: Declaration | None = getattr(view, "declaration", None)
    return found


def declared_routes(app: Flask) -> Iterator[tuple[Rule, str, Declaration]]:
    """Every route as (rule, method, declaration), in the order of paths.

    Raises ``UndeclaredRoute`` for one that was not declared, or is public without being listed.
    """
    hooks: Hooks = app.extensions["http"]
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        declaration = declaration_of(app.view_functions[rule.endpoint])
        if declaration is None:
            raise UndeclaredRoute(f"{rule.rule} is not declared with endpoint()")
        if declaration.public and rule.endpoint not in hooks.public:
            raise UndeclaredRoute(f"{rule.rule} has no permission and is not on the public list")
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield rule, method, declaration


def ensure_declared(app: Flask) -> None:
    """Raise ``UndeclaredRoute`` for a route that `declared_routes` would refuse."""
    for _rule, _method, _declaration in declared_routes(app):
        pass


def endpoint(
    route: Callable[[View], View],
    *,
    permission: str | None = None,
    body: type[Input] | None = None,
    form: type[Struct] | None = None,
    query: type[Input] | None = None,
    returns: tuple[int, Any] = (200, None),
    media_type: str = JSON,
    errors: Sequence[type[AppError]] = (),
    audit: str | None = None,
    idempotent: bool = False,
    if_match: bool = False,
    etag: bool = False,
    step_up: bool = False,
    own_sign_in: bool = False,
    max_age: int | None = None,
    raw: bool = False,
    smart: str | None = None,
) -> Callable[[View], View]:
    """Declare the view of ``route``.

    ``permission``: what the caller's roles must allow; None makes it public, if it is listed so.
    ``form``: the shape of a body that is a form, which the view takes as it came, and reads.
    ``returns``: status and type of the answer. ``audit``: the action that the trail names; None for
    what touches no person's data. ``idempotent``: ``Idempotency-Key`` is honoured. ``if_match``: the
    view takes ``expected_version`` (None without the header). ``etag``: the answer's ``version`` is its ETag;
    of what is no JSON it is a digest, and who has that already gets 304.
    ``step_up``: the caller must have proved who they are in the last five minutes. ``own_sign_in``: about
    the caller's own sign-in, so it needs no second factor yet, and may end what it was authenticated with.
    ``max_age``: for how many seconds anybody may keep the answer, for what is public and no person's; None: nobody.
    ``raw``: the view takes the parameters as pairs and a body that is no form as bytes, whatever they are, and gives an
    ``Answer``.
    ``smart``: interactions of SMART scopes, ``Type.rs`` or ``rs`` for any type, of which an app's token must allow
    one; None: no app may call it. The view sees to it that the app reaches no more than its scopes say.
    """
    if max_age is not None and permission is not None:
        raise ValueError("what is not for everybody is not kept by anybody")
    if idempotent and any(error.keeps_changes for error in errors):
        raise ValueError("a refusal that keeps its changes would leave an idempotency key without its answer")
    declaration = Declaration(
        permission=permission,
        body=body,
        form=form,
        query=query,
        status=returns[0],
        answer=returns[1],
        media_type=media_type,
        errors=errors,
        audit=audit,
        idempotent=idempotent,
        if_match=if_match,
        etag=etag,
        step_up=step_up,
        own_sign_in=own_sign_in,
        max_age=max_age,
        raw=raw,
        smart=smart,
    )

    def declare(view: View) -> View:
        @wraps(view)
        def serve(**path: Any) -> Response:
            return _serve(declaration, view, path)

        serve.declaration = declaration  # type: ignore[attr-defined]  # functions take attributes
        return route(serve)

    return declare


def _serve(declaration: Declaration, view: View, path: dict[str, Any]) -> Response:
    """Answer, running the whole transaction again when PostgreSQL asks for it."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _response(_attempt(declaration, view, path))
        except AppError as refusal:
            if first := _end_refused(declaration, refusal):
                return _response(_replay(first))
            raise
        except Exception as error:
            db.db.session.remove()  # with all that this attempt noted in it
            if attempt == ATTEMPTS or not db.may_retry(error) or g.get("committing"):
                raise
            time.sleep(random.uniform(0.01, 0.03) * attempt)  # noqa: S311 - jitter, not a secret
    raise AssertionError("the last attempt returns or raises")


def _attempt(declaration: Declaration, view: View, path: dict[str, Any]) -> Answer:
    """One transaction from authentication to commit."""
    hooks: Hooks = current_app.extensions["http"]
    g.pop("intent", None)
    g.pop("changes_self", None)
    g.actor = _authenticate(declaration, hooks)
    arguments = _arguments(declaration)
    intent = _intent(declaration, hooks)
    if intent and (first := idempotency.claim(intent)):
        if declaration.audit:
            hooks.record(declaration.audit, "success", "replayed")
        db.db.session.commit()
        return _replay(first)
    g.intent = intent
    result = view(**path, **arguments)
    answer = _answer(declaration, result)
    if declaration.audit:
        hooks.record(declaration.audit, "success", None)
    if intent:
        repeated = result.repeated() if isinstance(result, Output) else result
        idempotency.store(intent, _answer(declaration, repeated))
    _ensure_still_allowed(declaration, hooks)
    if request.method in SAFE and not declaration.audit:
        db.db.session.rollback()
    else:
        g.committing = True
        db.db.session.commit()
    return answer


def _replay(first: Answer) -> Answer:
    return Answer(first.status, first.headers | {"Idempotency-Replayed": "true"}, first.body)


def _authenticate(declaration: Declaration, hooks: Hooks) -> Actor | None:
    db.enter(None)
    if declaration.permission is None:
        return None
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated
    g.actor = actor = hooks.authenticate(token.strip())
    authz.ensure_holds(actor, declaration.permission)
    type_name, _, letters = (declaration.smart or "").rpartition(".")
    authz.ensure_app_may(actor, letters, type_name or None)
    if actor.second_factor_due and not declaration.own_sign_in:
        raise SecondFactorRequired
    if declaration.step_up and clock.now() - actor.authenticated_at > FRESH:
        raise StepUpRequired
    return actor


def _ensure_still_allowed(declaration: Declaration, hooks: Hooks) -> None:
    """A change whose caller was signed out, deactivated or demoted meanwhile does not come about."""
    actor = authz.find_actor()
    exempt = request.method in SAFE or declaration.own_sign_in or g.get("changes_self")
    if actor and declaration.permission and not exempt:
        authz.ensure_holds(hooks.hold(actor), declaration.permission)


def _arguments(declaration: Declaration) -> dict[str, Any]:
    """What the view is called with, besides the parts of the path."""
    arguments: dict[str, Any] = {}
    if declaration.raw:
        request.max_content_length = LARGEST_RAW + 1
        arguments["query"] = list(request.args.items(multi=True))
        if request.method in BODIED and not declaration.form:
            arguments["body"] = request.get_data()
    elif declaration.query:
        arguments["query"] = read_query(request.args, declaration.query)
    elif request.args:
        raise InvalidRequest([FieldProblem(pointer_to(name), "unknown field") for name in request.args])
    if declaration.body:
        if request.mimetype != JSON:
            raise UnsupportedMediaType
        arguments["body"] = read_body(request.get_data(), declaration.body)
    if declaration.form:
        if request.mimetype != FORM:
            raise UnsupportedMediaType(f"Send the body as {FORM}.")
        arguments["form"] = request.get_data()
        if len(arguments["form"]) > MAXIMUM_BODY:
            raise TooLarge
    if declaration.if_match:
        arguments["expected_version"] = _expected_version(request.headers.get("If-Match"))
    return arguments


def _expected_version(header: str | None) -> int | None:
    if header is None or header.strip() == "*":
        return None
    if not (match := IF_MATCH.fullmatch(header.strip())):
        raise InvalidRequest([FieldProblem("If-Match", 'must be the ETag of an answer, like "3"')])
    return int(match[1])


def _intent(declaration: Declaration, hooks: Hooks) -> Intent | None:
    """The request as an intent, when it came with a key that counts here."""
    key = request.headers.get("Idempotency-Key")
    if not declaration.idempotent or key is None:
        return None
    if not IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidRequest([FieldProblem("Idempotency-Key", "must be 1 to 200 visible ASCII characters")])
    actor = authz.find_actor()
    if actor is None:
        scope = hooks.guest_scope()
        if scope is None:
            return None
        db.enter(scope)
        organization_id, caller = scope.organization_id, f"guest {request.remote_addr}"
    else:
        organization_id, caller = actor.organization_id, str(actor.user_id)
    secret = str(current_app.config["SECRET_KEY"])
    target = request.full_path if request.args else request.path
    digest = idempotency.digest_of(secret, request.method, target, request.get_data())
    return Intent(organization_id, caller, key, digest)


def _answer(declaration: Declaration, result: Any) -> Answer:
    if isinstance(result, Answer):
        return result
    if declaration.answer is None:
        return Answer(declaration.status, {}, b"")
    if declaration.media_type != JSON:
        return Answer(declaration.status, {}, result if isinstance(result, bytes) else str(result).encode())
    headers = {}
    if declaration.max_age is not None:
        headers["Cache-Control"] = f"public, max-age={declaration.max_age}"
    if declaration.etag:
        headers["ETag"] = f'"{result.version}"'
    if declaration.status == 201 and isinstance(getattr(result, "id", None), UUID):
        headers["Location"] = f"{request.path}/{result.id}"
    return Answer(declaration.status, headers, msgspec.json.encode(result))


def own_address() -> str:
    """Where callers reach this server: as the operator says, else as the request says."""
    public_url: str = current_app.extensions["settings"].public_url
    return public_url or request.host_url.rstrip("/")


def _response(answer: Answer) -> Response:
    declaration = declaration_of(current_app.view_functions[request.endpoint or ""])
    media_type = declaration.media_type if declaration and answer.status < 400 else "application/problem+json"
    response = Response(answer.body, status=answer.status, headers=answer.headers)
    response.content_type = media_type
    if answer.status == 204:
        del response.headers["Content-Type"]
    if declaration and declaration.etag and media_type == declaration.media_type != JSON:
        response.headers["Cache-Control"] = "private, no-cache"
        response.add_etag()
        response.make_conditional(request)
        del response.headers["Date"]  # which the server sets
    return response


def _end_refused(declaration: Declaration, refusal: AppError) -> Answer | None:
    """End the transaction of a refused request; what must outlast it is written in its own.

    A refused business action is the answer to its idempotency key. Where a repeat that came meanwhile
    got another answer first, that one is returned.
    """
    session = db.db.session
    if refusal.keeps_changes:
        session.commit()
    else:
        session.rollback()
    refusal.complete()
    intent: Intent | None = g.get("intent")
    first = None
    if intent and refusal.status == 409:
        first = idempotency.claim(intent)
        if first is None:
            idempotency.store(intent, Answer(refusal.status, refusal.headers, refusal.document(g.request_id)))
    trailed = refusal.status in TRAILED or refusal.keeps_changes
    if declaration.audit and trailed and (authz.find_actor() or declaration.public):
        hooks: Hooks = current_app.extensions["http"]
        hooks.record(declaration.audit, "denied" if isinstance(refusal, Forbidden) else "refused", refusal.code)
    session.commit()
    return first
