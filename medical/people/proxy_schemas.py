"""Wire shapes of proxies."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from msgspec import Meta

from medical.people.models import PatientProxy
from medical.people.proxies import Basis
from medical.platform.errors import FieldProblem
from medical.platform.wire import Input, Instant, Output, Text


class Scope(StrEnum):
    """What a proxy reaches: the record, or seeing and making appointments."""

    RECORD = "record"
    APPOINTMENTS = "appointments"


Scopes = Annotated[list[Scope], Meta(min_length=1, max_length=len(Scope))]


class ProposeProxy(Input, frozen=True, kw_only=True):
    """Somebody with a patient's account who shall act for the patient; `proof` says where the document is."""

    user_id: UUID
    basis: Basis
    scopes: Scopes
    proof: Text | None = None
    starts_at: Instant | None = None
    ends_at: Instant | None = None

    def problems(self) -> Iterator[FieldProblem]:
        """What is wrong between fields that are right by themselves."""
        if self.basis is not Basis.CONSENT and self.proof is None:
            yield FieldProblem("/proof", f"is needed for the basis {self.basis}")


class RevokeProxy(Input, frozen=True, kw_only=True):
    """Why it ends."""

    reason: Text


class ProxyOut(Output, frozen=True, kw_only=True):
    """That somebody acts for a patient; it gives nothing before `approved_at` and after `revoked_at`."""

    id: UUID
    patient_id: UUID
    user_id: UUID
    basis: Basis
    scopes: list[Scope]
    proof: str | None
    starts_at: Instant
    ends_at: Instant | None
    proposed_by: UUID
    proposed_at: Instant
    approved_by: UUID | None
    approved_at: Instant | None
    revoked_by: UUID | None
    revoked_at: Instant | None
    revoke_reason: str | None

    @classmethod
    def of(cls, proxy: PatientProxy) -> "ProxyOut":
        """The proxy as callers see it."""
        values = {name: getattr(proxy, name) for name in cls.__struct_fields__}
        return cls(**values | {"basis": Basis(proxy.basis), "scopes": [Scope(scope) for scope in proxy.scopes]})
