"""Wire shapes of service clients and of the token endpoint."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from medical.identity import assertions
from medical.identity.errors import InvalidTokenRequest, UnsupportedGrantType
from medical.identity.models import ServiceClient
from medical.identity.permissions import grantable
from medical.platform.errors import FieldProblem
from medical.platform.scopes import parsed
from medical.platform.wire import Input, Instant, Output, Text, Version

CLIENT_CREDENTIALS = "client_credentials"
GRANT_TYPES = (CLIENT_CREDENTIALS, "authorization_code", "refresh_token")
MOST_PARAMETERS = 20

Scopes = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=100)]],
    Meta(
        min_length=1,
        max_length=100,
        description="the most that the client may ask for: permissions, or SMART scopes as `system/Observation.rs`",
    ),
]
Member = Annotated[str, Meta(min_length=1, max_length=2000, pattern="^[A-Za-z0-9_-]+$")]
"""A number or a point of a key, in base64url."""


class PublicKey(Input, frozen=True, kw_only=True):
    """A public key (RFC 7517): OKP on Ed25519, EC on P-256 or P-384, or RSA of 2048 bits or more."""

    kty: Literal["OKP", "EC", "RSA"]
    kid: Annotated[str, Meta(min_length=1, max_length=200)]
    alg: str | UnsetType = UNSET
    use: str | UnsetType = UNSET
    key_ops: list[str] | UnsetType = UNSET
    crv: str | UnsetType = UNSET
    x: Member | UnsetType = UNSET
    y: Member | UnsetType = UNSET
    n: Member | UnsetType = UNSET
    e: Member | UnsetType = UNSET


class KeySet(Input, frozen=True, kw_only=True):
    """A JWK set of public keys, each with a `kid` of its own; nothing is ever fetched from elsewhere."""

    keys: Annotated[list[PublicKey], Meta(min_length=1, max_length=10)]

    def key_problems(self) -> Iterator[FieldProblem]:
        """What is wrong with the keys."""
        known: set[str] = set()
        for index, key in enumerate(self.keys):
            place = f"/jwks/keys/{index}"
            if key.kid in known:
                yield FieldProblem(f"{place}/kid", "names another key too")
            known.add(key.kid)
            if problem := assertions.key_problem(key.given()):
                yield FieldProblem(place, problem)

    def plain(self) -> dict[str, Any]:
        """The set as it is kept."""
        return {"keys": [key.given() for key in self.keys]}


def _scope_problems(scopes: list[str]) -> Iterator[FieldProblem]:
    allowed = grantable()
    smart = [parsed(scope) for scope in scopes]
    for index, (text, scope) in enumerate(zip(scopes, smart, strict=True)):
        if text not in allowed and (scope is None or scope.context != "system"):
            yield FieldProblem(f"/scopes/{index}", "is no permission or SMART scope that a client may have")
    if any(smart) and not all(smart):
        yield FieldProblem("/scopes", "must be either permissions or SMART scopes")


class CreateServiceClient(Input, frozen=True, kw_only=True):
    """A new client; without keys it gets a secret."""

    name: Text
    scopes: Scopes
    jwks: KeySet | None = None

    def problems(self) -> Iterator[FieldProblem]:
        """Scopes that no client may have, keys that are none."""
        yield from _scope_problems(self.scopes)
        yield from self.jwks.key_problems() if self.jwks else ()


class UpdateServiceClient(Input, frozen=True, kw_only=True):
    """Changed fields of a client; keys take the place of a secret."""

    name: Text | UnsetType = UNSET
    scopes: Scopes | UnsetType = UNSET
    jwks: KeySet | UnsetType = UNSET

    def problems(self) -> Iterator[FieldProblem]:
        """Scopes that no client may have, keys that are none."""
        yield from _scope_problems(self.scopes) if self.scopes else ()
        yield from self.jwks.key_problems() if self.jwks else ()

    def given(self) -> dict[str, Any]:
        """The fields that the caller sent, the keys as they are kept."""
        return super().given() | ({"jwks": self.jwks.plain()} if self.jwks else {})


class ServiceClientOut(Output, frozen=True, kw_only=True):
    """A client."""

    client_id: UUID
    name: str
    scopes: list[str]
    jwks: dict[str, Any] | None
    active: bool
    created_by: UUID | None
    created_at: Instant
    version: Version

    @property
    def id(self) -> UUID:
        """What its address ends with."""
        return self.client_id

    @classmethod
    def of(cls, client: ServiceClient, **more: Any) -> Self:
        """The client as callers see it."""
        return cls(
            client_id=client.id,
            name=client.name,
            scopes=client.scopes,
            jwks=client.jwks,
            active=client.user.active,
            created_by=client.created_by,
            created_at=client.created_at,
            version=client.version,
            **more,
        )


class NewSecretOut(ServiceClientOut, frozen=True, kw_only=True):
    """A client and its secret, which is told this once; null for a client with keys, and in a repeated answer."""

    client_secret: str | None

    def repeated(self) -> Self:
        """Without the secret."""
        return msgspec.structs.replace(self, client_secret=None)


class Credentials(Struct, frozen=True, kw_only=True):
    """By what a program proves itself, in a form; more is ignored."""

    client_id: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET
    client_secret: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET
    client_assertion_type: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET
    client_assertion: Annotated[str, Meta(max_length=10_000)] | UnsetType = UNSET

    def credentials(self) -> dict[str, str | None]:
        """The parameters by which a client proves itself."""
        names = ("client_id", "client_secret", "client_assertion_type", "client_assertion")
        return {name: getattr(self, name) or None for name in names}


class TokenRequest(Credentials, frozen=True, kw_only=True):
    """A request for a token: by itself (RFC 6749 section 4.4.2), by a code (4.1.3), or by a refresh token (6)."""

    grant_type: Literal["client_credentials", "authorization_code", "refresh_token"]
    scope: Annotated[
        str, Meta(max_length=5000, description="scopes with spaces between; all of the client's if absent")
    ] = ""
    code: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET
    redirect_uri: Annotated[str, Meta(max_length=2000)] | UnsetType = UNSET
    code_verifier: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET
    refresh_token: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET

    @classmethod
    def read(cls, form: bytes) -> "TokenRequest":
        """What the form says. Raises ``InvalidTokenRequest`` or ``UnsupportedGrantType``."""
        values = _parameters(form)
        if "grant_type" not in values:
            raise InvalidTokenRequest("grant_type is missing.")
        if values["grant_type"] not in GRANT_TYPES:
            raise UnsupportedGrantType
        return read_form(form, cls)

    @property
    def scopes(self) -> list[str]:
        """The scopes asked for."""
        return self.scope.split()

    def plain(self) -> dict[str, str]:
        """The parameters that are there."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in values.items() if value}


Form = TypeVar("Form", bound=Struct)


def read_form(form: bytes, shape: type[Form]) -> Form:
    """What the form says. Raises ``InvalidTokenRequest``."""
    values = _parameters(form)
    if missing := [one.name for one in msgspec.structs.fields(shape) if one.required and one.name not in values]:
        raise InvalidTokenRequest(f"{missing[0]} is missing.")
    try:
        return msgspec.convert(values, shape)
    except msgspec.ValidationError:
        raise InvalidTokenRequest("A parameter is too long.") from None


def _parameters(form: bytes) -> dict[str, str]:
    """The parameters of a form; those without a value are left out (RFC 6749 section 3.2)."""
    try:
        pairs = parse_qsl(form.decode(), errors="strict", max_num_fields=MOST_PARAMETERS)
    except ValueError:
        raise InvalidTokenRequest("The body is not a form in UTF-8.") from None
    values = dict(pairs)
    if len(values) < len(pairs):
        raise InvalidTokenRequest("A parameter is there twice.")
    if any("\x00" in value for value in values.values()):
        raise InvalidTokenRequest("A parameter contains a NUL character.")
    return values


class TokenOut(Output, frozen=True, kw_only=True):
    """An access token (RFC 6749 section 5.1); `expires_in` seconds from now it is void.

    An app also gets the `patient` in context, and a `refresh_token`, which works once, where it may carry on.
    """

    access_token: str
    token_type: str
    expires_in: int
    scope: str
    refresh_token: str | UnsetType = UNSET
    patient: str | UnsetType = UNSET


class MetadataOut(Output, frozen=True, kw_only=True):
    """What the endpoints of OAuth can do (RFC 8414)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    introspection_endpoint: str
    revocation_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: list[str]
    token_endpoint_auth_signing_alg_values_supported: list[str]
    grant_types_supported: list[str]
    response_types_supported: list[str]
    code_challenge_methods_supported: list[str]
    scopes_supported: list[str]
