"""Wire shapes of care relationships, broken glass and explanations."""

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from msgspec import Meta

from medical.people.care import Link, Outcome
from medical.people.models import BreakGlassGrant, CareRelationship
from medical.people.permissions import Permission
from medical.platform.errors import FieldProblem
from medical.platform.paging import PageQuery
from medical.platform.wire import Input, Instant, LongText, Output, Text


class Origin(StrEnum):
    """Why somebody cares for a patient whom they do not (yet) see in a visit."""

    ASSIGNMENT = "assignment"
    REFERRAL = "referral"


class AssignCare(Input, frozen=True, kw_only=True):
    """A clinician or nurse who shall care for the patient; from now on and without end unless said otherwise."""

    user_id: UUID
    origin: Origin
    reason: Text
    starts_at: Instant | None = None
    ends_at: Instant | None = None


class EndCare(Input, frozen=True, kw_only=True):
    """Why it ends."""

    reason: Text


class CareOut(Output, frozen=True, kw_only=True):
    """A relationship by assignment or referral."""

    id: UUID
    patient_id: UUID
    user_id: UUID
    origin: Origin
    reason: str
    starts_at: Instant
    ends_at: Instant | None
    created_by: UUID | None
    ended_at: Instant | None
    ended_by: UUID | None
    end_reason: str | None

    @classmethod
    def of(cls, relationship: CareRelationship) -> "CareOut":
        """The relationship as callers see it."""
        values = {name: getattr(relationship, name) for name in cls.__struct_fields__}
        return cls(**values | {"origin": Origin(relationship.origin)})


class ReasonCode(StrEnum):
    """Why the glass is broken."""

    EMERGENCY = "EMERGENCY"
    COVERAGE = "COVERAGE"
    PATIENT_REQUEST = "PATIENT_REQUEST"
    OTHER = "OTHER"


class BreakGlass(Input, frozen=True, kw_only=True):
    """Why the record must be seen now; the patient and a reviewer will read it."""

    reason_code: ReasonCode
    reason: Annotated[str, Meta(min_length=10, max_length=1000, pattern=r"\S")]


class GrantOut(Output, frozen=True, kw_only=True):
    """Sight of one patient for a while."""

    id: UUID
    patient_id: UUID
    user_id: UUID
    reason_code: ReasonCode
    reason: str
    starts_at: Instant
    expires_at: Instant
    reviewed_at: Instant | None
    reviewed_by: UUID | None
    outcome: Outcome | None
    comment: str | None

    @classmethod
    def of(cls, grant: BreakGlassGrant) -> "GrantOut":
        """The grant as callers see it."""
        values = {name: getattr(grant, name) for name in cls.__struct_fields__}
        values |= {"reason_code": ReasonCode(grant.reason_code), "outcome": grant.outcome and Outcome(grant.outcome)}
        return cls(**values)


class ReviewStatus(StrEnum):
    """Whether somebody has reviewed it."""

    PENDING = "pending"
    DONE = "done"


class ReviewQuery(PageQuery, frozen=True, kw_only=True):
    """Which broken glass to list."""

    status: ReviewStatus = ReviewStatus.PENDING


class ReviewGlass(Input, frozen=True, kw_only=True):
    """What the reviewer finds."""

    outcome: Outcome
    comment: LongText


DECIDED_BY_PATIENT = frozenset({Permission.PATIENT_READ, Permission.PATIENT_UPDATE})
"""Permissions that reach as far as sight of the patient does."""


class ExplainQuery(Input, frozen=True, kw_only=True):
    """Who wants to do what, and on which patient."""

    user_id: UUID
    permission: Text
    patient_id: UUID | None = None

    def problems(self) -> Iterator[FieldProblem]:
        """What is wrong between fields that are right by themselves."""
        if self.patient_id and self.permission not in DECIDED_BY_PATIENT:
            yield FieldProblem("/patient_id", f"decides only {' and '.join(sorted(DECIDED_BY_PATIENT))}")


class LinkOut(Output, frozen=True, kw_only=True):
    """One thing that decides: `account`, `role`, `scope`, `organization`, `own`, `relationship`, `grant` or `proxy`."""

    kind: str
    holds: bool
    detail: str
    source_id: UUID | None
    starts_at: datetime | None
    ends_at: datetime | None

    @classmethod
    def of(cls, link: Link) -> "LinkOut":
        """The link as callers see it."""
        return cls(**{name: getattr(link, name) for name in cls.__struct_fields__})


class ExplanationOut(Output, frozen=True, kw_only=True):
    """Whether, and why."""

    allowed: bool
    chain: list[LinkOut]
