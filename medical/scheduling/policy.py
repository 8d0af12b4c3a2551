"""Who may act on which diary, and which moves an appointment can make."""

from uuid import UUID

from medical.identity.permissions import Role
from medical.platform.authz import Actor
from medical.scheduling.errors import InvalidTransition, NotYourDiary
from medical.scheduling.models import Status
from medical.scheduling.permissions import DESK, HOURS

MOVES: dict[Status, frozenset[Status]] = {
    Status.BOOKED: frozenset({Status.BOOKED, Status.CHECKED_IN, Status.CANCELLED, Status.NO_SHOW}),
    Status.CHECKED_IN: frozenset({Status.IN_PROGRESS, Status.FULFILLED, Status.CANCELLED}),
    Status.IN_PROGRESS: frozenset({Status.FULFILLED}),
    Status.FULFILLED: frozenset(),
    Status.NO_SHOW: frozenset(),
    Status.CANCELLED: frozenset(),
}
"""From each status, where an appointment can go; booked to booked is a new time."""

RELEASING = frozenset({Status.CANCELLED, Status.NO_SHOW})
"""Statuses that give the time free again."""


BOOKERS = DESK | {Role.SERVICE}
"""Roles that book anybody with everybody; a service client then acts on what it booked alone."""


def ensure_can_move(status: str, to: Status) -> None:
    """Raise ``InvalidTransition`` when the table of moves does not allow it."""
    if to not in MOVES[Status(status)]:
        raise InvalidTransition(f"An appointment that is {status} cannot become {to}.")


def ensure_can_book(actor: Actor, spoken_for: bool, clinician_id: UUID) -> None:
    """Raise ``NotYourDiary`` unless the actor, who may speak for the patient, may book them with this clinician."""
    if actor.roles & BOOKERS:
        return
    if Role.CLINICIAN in actor.roles and clinician_id == actor.user_id:
        return
    if spoken_for:
        return
    raise NotYourDiary


def ensure_can_edit_hours(actor: Actor, clinician_id: UUID) -> None:
    """Raise ``NotYourDiary`` unless the actor may set this clinician's hours."""
    if not actor.roles & HOURS and clinician_id != actor.user_id:
        raise NotYourDiary


def bookable_by(actor: Actor) -> UUID | None:
    """The only clinician the actor may book, or None when they may book everybody."""
    if actor.roles & BOOKERS or Role.PATIENT in actor.roles:
        return None
    return actor.user_id
