"""Wire shapes of the trail."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta, field
from sqlalchemy import Row

from medical.audit import words
from medical.audit.models import AuditEvent
from medical.audit.reading import END, Verified
from medical.audit.service import DRY_RUN
from medical.platform.errors import FieldProblem
from medical.platform.paging import PageQuery
from medical.platform.wire import Input, Instant, Output, Text


class Outcome(StrEnum):
    """What became of it: refused for the matter or for want of sight, denied for want of a permission."""

    SUCCESS = "success"
    REFUSED = "refused"
    DENIED = "denied"


class EventQuery(PageQuery, frozen=True, kw_only=True):
    """Which events: those of [from, to) that fit all that is given."""

    start: Instant | None = field(name="from", default=None)
    until: Instant | None = field(name="to", default=None)
    actor_id: UUID | None = None
    patient_id: UUID | None = None
    action: Text | None = None
    outcome: Outcome | None = None

    def problems(self) -> Iterator[FieldProblem]:
        """A period ends after it begins."""
        if self.start and self.until and self.until <= self.start:
            yield FieldProblem("/to", "must lie after from")


class EventOut(Output, frozen=True, kw_only=True):
    """One event: who did what to which patient's record; never what the record says.

    `position` is its place in the chain of seals, null until it has one.
    """

    id: UUID
    occurred_at: Instant
    actor_id: UUID | None
    actor_name: str | None
    actor_roles: list[str]
    on_behalf_of: UUID | None
    client_id: str | None
    action: str
    outcome: Outcome
    code: str | None
    purpose: str | None
    patient_id: UUID | None
    entity_type: str | None
    entity_id: UUID | None
    session_id: UUID | None
    request_id: str | None
    source: str | None
    position: int | None

    @classmethod
    def of(cls, row: Row[Any]) -> "EventOut":
        """The event as auditors see it."""
        event: AuditEvent = row.AuditEvent
        name = f"{row.given_name} {row.family_name}" if row.family_name else None
        same = {one: getattr(event, one) for one in cls.__struct_fields__ if hasattr(event, one)}
        return cls(**same | {"outcome": Outcome(event.outcome), "actor_name": name, "position": row.position})


class AccessOut(Output, frozen=True, kw_only=True):
    """One access to a patient's record, in plain words.

    `reason` and `reason_code` are there where the record was opened in an emergency (`break_glass`).
    """

    id: UUID
    occurred_at: Instant
    who: str
    role: str
    what: str
    action: str
    refused: bool
    break_glass: bool
    reason_code: str | None
    reason: str | None

    @classmethod
    def of(cls, row: Row[Any]) -> "AccessOut":
        """The access as the patient reads it."""
        who = words.name_of(row.given_name, row.family_name, row.actor_roles, own=row.own)
        refused = row.outcome != Outcome.SUCCESS
        return cls(
            id=row.id,
            occurred_at=row.occurred_at,
            who=who,
            role=words.roles_said(row.actor_roles),
            what=words.said_of(row.action, who, refused=refused, dry_run=row.code == DRY_RUN),
            action=row.action,
            refused=refused,
            break_glass=row.reason_code is not None or row.purpose == "BTG",
            reason_code=row.reason_code,
            reason=words.reason_said(row.reason_code),
        )


class VerifyQuery(Input, frozen=True, kw_only=True):
    """How much of the trail: so many seals, of what lies before a place in the chain."""

    seals: Annotated[int, Meta(ge=1, le=1000)] = 100
    before: Annotated[int, Meta(ge=1, le=END, description="By default its end.")] = END


class ProblemOut(Output, frozen=True, kw_only=True):
    """Where the trail is not whole: at a place of the chain, or somewhere from there to `until_position`."""

    kind: str
    detail: str
    position: int | None
    until_position: int | None


class VerifiedOut(Output, frozen=True, kw_only=True):
    """Whether a part of the trail is whole, and where it first is not.

    Of other organisations' events it is checked that they are there and have the digests that were sealed;
    `own_events` were checked in full. `next_before` is the `before` of the part in front of this one.
    Compare `public_keys` with the one that the operator published.
    """

    whole: bool
    first_problem: ProblemOut | None
    problems: int
    first_position: int | None
    last_position: int | None
    seals: int
    own_events: int
    head: str | None
    sealed_at: Instant | None
    public_keys: list[str]
    waiting: int
    next_before: int | None

    @classmethod
    def of(cls, verified: Verified) -> "VerifiedOut":
        """What was found, as auditors see it."""
        found = verified.first_problem
        problem = found and ProblemOut(
            kind=found.kind, detail=found.said, position=found.position, until_position=found.until
        )
        same = {one: getattr(verified, one) for one in cls.__struct_fields__ if hasattr(verified, one)}
        return cls(**same | {"whole": verified.problems == 0, "first_problem": problem})
