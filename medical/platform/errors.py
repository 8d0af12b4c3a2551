"""Refusals that callers understand: RFC 9457 problem details, one class per reason."""

from collections.abc import Iterable
from typing import Any, ClassVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

PROBLEM = "application/problem+json"
"""The media type of problem documents."""


class FieldProblem(Struct, frozen=True):
    """One thing wrong with the input: where (a JSON Pointer, RFC 6901) and what."""

    pointer: str
    message: str


class Problem(Struct, frozen=True, kw_only=True):
    """What went wrong with a request (RFC 9457); `code` is stable, clients switch on it."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldProblem] | UnsetType = UNSET


class AppError(Exception):
    """A refusal with a status and a stable code.

    ``members`` are extra members of the problem document; ``headers`` go with the answer.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    detail: str = "Something went wrong here; tell the operator the request_id."
    shape: ClassVar[type[Struct]] = Problem
    media_type: ClassVar[str] = "application/problem+json"
    keeps_changes: ClassVar[bool] = False
    """Whether what the request changed before it was refused is committed nonetheless."""

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: Iterable[FieldProblem] = (),
        members: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.detail = detail or type(self).detail
        self.errors = list(errors)
        self.members = members or {}
        self.headers = headers or {}
        super().__init__(self.detail)

    def complete(self) -> None:
        """Look up what else is told; called once, when the refused transaction is over and holds no locks."""

    def document(self, request_id: str) -> bytes:
        """The JSON of the problem document."""
        problem = Problem(
            type=f"urn:medical-backend:problem:{self.code}",
            title=self.title,
            status=self.status,
            detail=self.detail,
            code=self.code,
            request_id=request_id,
            errors=self.errors or UNSET,
        )
        return msgspec.json.encode(msgspec.to_builtins(problem) | msgspec.to_builtins(self.members))


class MalformedJson(AppError):
    """The body is not JSON."""

    status, code, title = 400, "malformed_json", "Malformed JSON"
    detail = "The body is not valid JSON in UTF-8, or has a name twice in one object."


class BadRequest(AppError):
    """The request cannot be read as HTTP."""

    status, code, title = 400, "bad_request", "Bad request"
    detail = "The request cannot be read."


class HostNotAllowed(BadRequest):
    """The request is for a host that the operator did not name in ALLOWED_HOSTS."""

    code, title = "host_not_allowed", "Host not allowed"
    detail = "This server does not answer under that name."


class Unauthenticated(AppError):
    """No access token, or one that is not good (any more)."""

    status, code, title = 401, "unauthenticated", "Not signed in"
    detail = "Send a valid access token: Authorization: Bearer <token>."

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": 'Bearer realm="medical-backend", error="invalid_token"'})


class Forbidden(AppError):
    """A known caller without the permission."""

    status, code, title = 403, "forbidden", "Not allowed"
    detail = "Your roles do not allow this."


class StepUpRequired(AppError):
    """A sensitive act, and the caller proved who they are too long ago (RFC 9470)."""

    status, code, title = 401, "step_up_required", "Prove again who you are"
    detail = "This needs a sign-in of the last five minutes: call POST /api/v1/auth/step-up, then repeat."

    def __init__(self) -> None:
        challenge = 'Bearer realm="medical-backend", error="insufficient_user_authentication", max_age="300"'
        super().__init__(headers={"WWW-Authenticate": challenge})


class SecondFactorRequired(Forbidden):
    """A role of the caller demands a second factor, and this sign-in has none."""

    code, title = "second_factor_required", "Second factor required"
    detail = "A role of yours demands a second factor: enrol one at POST /api/v1/me/otp, then sign in with it."


class NotFound(AppError):
    """Absent, or nothing the caller may know about."""

    status, code, title = 404, "not_found", "Not found"
    detail = "There is no such thing here, or you may not know of it."


class MethodNotAllowed(AppError):
    """The path is known, the method is not."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"
    detail = "This path does not take that method."


class Conflict(AppError):
    """A refused business action; each has a code of its own."""

    status, code, title = 409, "conflict", "Conflict"


class Stale(AppError):
    """``If-Match`` names a version that is no longer the present one."""

    status, code, title = 412, "stale", "Changed meanwhile"
    detail = "Somebody changed this meanwhile; read it again and repeat the change on what you then see."


class TooLarge(AppError):
    """The body is larger than the server takes."""

    status, code, title = 413, "too_large", "Too large"
    detail = "The body is larger than 1 MiB."


class UnsupportedMediaType(AppError):
    """The body is of another kind than JSON."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"
    detail = "Send the body as application/json."


class InvalidRequest(AppError):
    """Body, query or header of the wrong shape; ``errors`` names every problem."""

    status, code, title = 422, "invalid_request", "Invalid request"

    def __init__(self, errors: Iterable[FieldProblem]) -> None:
        found = list(errors)
        super().__init__(f"{len(found)} problem{'s' if len(found) != 1 else ''} in what was sent.", errors=found)


class IdempotencyKeyReused(AppError):
    """One ``Idempotency-Key`` for two different requests."""

    status, code, title = 422, "idempotency_key_reused", "Idempotency key used before"
    detail = "This Idempotency-Key came with another request; use a new key for each intent."


class TooManyAttempts(AppError):
    """Too many wrong tries lately; ``Retry-After`` says when the next one counts."""

    status, code, title = 429, "too_many_attempts", "Too many attempts"
    detail = "Too many attempts; try again later."

    def __init__(self, seconds: int = 1) -> None:
        super().__init__(headers={"Retry-After": str(seconds)})


class Unavailable(AppError):
    """Nothing wrong with the request; the same may work in a moment."""

    status, code, title = 503, "unavailable", "Unavailable for the moment"
    detail = "The server is busy; try again in a moment."

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, headers={"Retry-After": "1"})


class DatabaseUnreachable(Unavailable):
    """PostgreSQL does not answer."""

    code = "database_unreachable"
    detail = "The database does not answer; try again in a moment."


class DatabaseBusy(Unavailable):
    """A lock or statement took longer than its limit."""

    code = "database_busy"
    detail = "The database is busy; nothing was changed; try again in a moment."


class SchemaBehind(Unavailable):
    """The database has an older schema than the program."""

    code = "schema_behind"
    detail = "The database waits for its migration; the operator runs `medical db upgrade`."
