"""Wire shapes of apps, and of the endpoints of OAuth."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Self
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from medical.identity.client_schemas import Credentials, KeySet
from medical.platform.errors import FieldProblem
from medical.platform.scopes import parsed
from medical.platform.wire import Input, Instant, Output, Text, Version
from medical.records.scopes import problem_of
from medical.smart.consent import FOR_PATIENT, FROM_CLINIC
from medical.smart.models import SmartApp
from medical.smart.server import OFFLINE, ONLINE

OTHER_SCOPES = (FROM_CLINIC, FOR_PATIENT, OFFLINE, ONLINE)
LOOPBACK = ("127.0.0.1", "[::1]", "localhost")
MOST_PARAMETERS = 20

Address = Annotated[str, Meta(min_length=1, max_length=2000, pattern=r"^[\x21-\x7e]+$")]
Addresses = Annotated[list[Address], Meta(min_length=1, max_length=20)]
Scopes = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=200)]],
    Meta(min_length=1, max_length=100, description="of SMART, such as `patient/Observation.rs`: the most it may ask"),
]


def _address_problem(text: str) -> str | None:
    """What is wrong with where an app wants to be, if anything is (RFC 8252, RFC 9700 section 2.1)."""
    try:
        parts = urlsplit(text)
        host = parts.netloc.rpartition("@")[2].rpartition(":")[0] or parts.netloc
    except ValueError:
        return "is no address"
    if parts.fragment or "#" in text or parts.username is not None:
        return "must have no fragment, and no user in it"
    if parts.scheme == "https" and parts.netloc:
        return None
    if parts.scheme == "http" and host in LOOPBACK:
        return None
    if parts.scheme not in ("http", "https") and "." in parts.scheme:
        return None
    return "must be https, http on this very computer, or a scheme of the app's own such as com.example.app:"


def _problems(addresses: Sequence[tuple[str, str]], scopes: Sequence[str]) -> Iterator[FieldProblem]:
    for place, address in addresses:
        if problem := _address_problem(address):
            yield FieldProblem(place, problem)
    for index, text in enumerate(scopes):
        scope = parsed(text)
        if scope is None and text not in OTHER_SCOPES:
            yield FieldProblem(f"/scopes/{index}", "is no scope that an app may have")
        elif scope and scope.context == "system":
            yield FieldProblem(f"/scopes/{index}", "is for service clients: an app acts for a user")
        elif scope and (problem := problem_of(scope)):
            yield FieldProblem(f"/scopes/{index}", problem)


class CreateSmartApp(Input, frozen=True, kw_only=True):
    """A new app: public unless it is `confidential`, which gets a secret, or has keys."""

    name: Text
    redirect_uris: Addresses
    scopes: Scopes
    launch_uri: Address | None = None
    confidential: bool = False
    jwks: KeySet | None = None

    def problems(self) -> Iterator[FieldProblem]:
        """Addresses that none may be sent to, scopes that are none, keys that are none."""
        addresses = [(f"/redirect_uris/{number}", one) for number, one in enumerate(self.redirect_uris)]
        yield from _problems(
            [*addresses, *([("/launch_uri", self.launch_uri)] if self.launch_uri else [])], self.scopes
        )
        yield from self.jwks.key_problems() if self.jwks else ()

    def arguments(self) -> dict[str, Any]:
        """The fields, the keys as they are kept."""
        return super().arguments() | {"jwks": self.jwks.plain() if self.jwks else None}


class UpdateSmartApp(Input, frozen=True, kw_only=True):
    """Changed fields of an app; keys take the place of a secret."""

    name: Text | UnsetType = UNSET
    redirect_uris: Addresses | UnsetType = UNSET
    scopes: Scopes | UnsetType = UNSET
    launch_uri: Address | UnsetType | None = UNSET
    jwks: KeySet | UnsetType = UNSET

    def problems(self) -> Iterator[FieldProblem]:
        """Addresses that none may be sent to, scopes that are none, keys that are none."""
        addresses = [(f"/redirect_uris/{number}", one) for number, one in enumerate(self.redirect_uris or ())]
        launch = [("/launch_uri", self.launch_uri)] if isinstance(self.launch_uri, str) else []
        yield from _problems([*addresses, *launch], self.scopes or ())
        yield from self.jwks.key_problems() if self.jwks else ()

    def given(self) -> dict[str, Any]:
        """The fields that the caller sent, the keys as they are kept."""
        return super().given() | ({"jwks": self.jwks.plain()} if self.jwks else {})


class SmartAppOut(Output, frozen=True, kw_only=True):
    """An app; `client_id` is what it calls itself by."""

    client_id: UUID
    name: str
    redirect_uris: list[str]
    launch_uri: str | None
    scopes: list[str]
    confidential: bool
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
    def of(cls, app: SmartApp, **more: Any) -> Self:
        """The app as callers see it."""
        return cls(
            client_id=app.id,
            name=app.name,
            redirect_uris=app.redirect_uris,
            launch_uri=app.launch_uri,
            scopes=app.scopes,
            confidential=bool(app.secret_digest or app.jwks),
            jwks=app.jwks,
            active=app.active,
            created_by=app.created_by,
            created_at=app.created_at,
            version=app.version,
            **more,
        )


class NewSmartAppOut(SmartAppOut, frozen=True, kw_only=True):
    """An app and its secret, which is told this once; null for one without, and in a repeated answer."""

    client_secret: str | None

    def repeated(self) -> Self:
        """Without the secret."""
        return msgspec.structs.replace(self, client_secret=None)


class LaunchApp(Input, frozen=True, kw_only=True):
    """For whom the app is opened; nobody in particular if null."""

    patient_id: UUID | None = None


class LaunchOut(Output, frozen=True, kw_only=True):
    """Where the browser is to go, within ten minutes: the app's `launch_uri` with `iss` and `launch`."""

    launch: str
    url: str


class TokenIn(Credentials, frozen=True, kw_only=True):
    """A form of OAuth's about a token (RFC 7009, RFC 7662); more is ignored."""

    token: Annotated[str, Meta(min_length=1, max_length=10_000)]
    token_type_hint: str | UnsetType = UNSET


class IntrospectionOut(Output, frozen=True, kw_only=True, omit_defaults=True):
    """What a token is good for (RFC 7662, SMART App Launch 2.2); of one that is not good, `active` is all."""

    active: bool
    scope: str | None = None
    client_id: str | None = None
    sub: str | None = None
    iss: str | None = None
    exp: int | None = None
    patient: str | None = None


class SignInForm(Struct, frozen=True, kw_only=True):
    """What a user gives on the page, and what the app asked."""

    request: Annotated[str, Meta(max_length=10_000)]
    email: Annotated[str, Meta(max_length=254)]
    password: Annotated[str, Meta(max_length=1024)]
    otp: Annotated[str, Meta(max_length=40)] | UnsetType = UNSET


class DecisionForm(Struct, frozen=True, kw_only=True):
    """What a user decides: `allow`, `deny`, or `search` for another patient."""

    ticket: Annotated[str, Meta(max_length=20_000)]
    decision: Annotated[str, Meta(max_length=10)]
    patient: Annotated[str, Meta(max_length=40)] | UnsetType = UNSET
    q: Annotated[str, Meta(max_length=200)] | UnsetType = UNSET
