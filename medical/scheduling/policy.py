"""Who may act on which diary, and which moves an appointment can make."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum
from uuid import UUID
from zoneinfo import ZoneInfo

from medical.identity.permissions import Role
from medical.platform.authz import Actor, holds
from medical.platform.errors import FieldProblem, InvalidRequest
from medical.scheduling.errors import CutoffPassed, InvalidTransition, NotToday, NotYourDiary, TooEarly
from medical.scheduling.models import AppointmentType, Status
from medical.scheduling.permissions import DESK, HOURS, Permission


class Act(StrEnum):
    """What can be done with an appointment; by these names it is called."""

    APPROVE = "approve"
    DECLINE = "decline"
    RESCHEDULE = "reschedule"
    ARRIVE = "arrive"
    CHECK_IN = "check-in"
    START = "start"
    COMPLETE = "complete"
    NO_SHOW = "no-show"
    CANCEL = "cancel"
    REINSTATE = "reinstate"
    ENTER_IN_ERROR = "enter-in-error"


MOVES: dict[Act, tuple[frozenset[Status], Status]] = {
    Act.APPROVE: (frozenset({Status.REQUESTED}), Status.BOOKED),
    Act.DECLINE: (frozenset({Status.REQUESTED}), Status.CANCELLED),
    Act.RESCHEDULE: (frozenset({Status.BOOKED}), Status.BOOKED),
    Act.ARRIVE: (frozenset({Status.BOOKED}), Status.ARRIVED),
    Act.CHECK_IN: (frozenset({Status.BOOKED, Status.ARRIVED}), Status.CHECKED_IN),
    Act.START: (frozenset({Status.CHECKED_IN}), Status.IN_PROGRESS),
    Act.COMPLETE: (frozenset({Status.ARRIVED, Status.CHECKED_IN, Status.IN_PROGRESS}), Status.FULFILLED),
    Act.NO_SHOW: (frozenset({Status.BOOKED}), Status.NO_SHOW),
    Act.CANCEL: (
        frozenset({Status.REQUESTED, Status.BOOKED, Status.ARRIVED, Status.CHECKED_IN}),
        Status.CANCELLED,
    ),
    Act.REINSTATE: (frozenset({Status.CANCELLED, Status.NO_SHOW}), Status.BOOKED),
    Act.ENTER_IN_ERROR: (frozenset({Status.BOOKED, Status.FULFILLED, Status.NO_SHOW}), Status.ENTERED_IN_ERROR),
}
"""The table of states: from which statuses each act leads to which. What is new begins booked or requested."""

NEEDED = {
    Act.APPROVE: Permission.APPOINTMENT_APPROVE,
    Act.ARRIVE: Permission.APPOINTMENT_CHECK_IN,
    Act.CHECK_IN: Permission.APPOINTMENT_CHECK_IN,
    Act.START: Permission.APPOINTMENT_START,
    Act.COMPLETE: Permission.APPOINTMENT_COMPLETE,
    Act.NO_SHOW: Permission.APPOINTMENT_NO_SHOW,
    Act.CANCEL: Permission.APPOINTMENT_CANCEL,
    Act.REINSTATE: Permission.APPOINTMENT_REINSTATE,
    Act.ENTER_IN_ERROR: Permission.APPOINTMENT_ENTER_IN_ERROR,
}
"""What it takes to let an appointment become something that is named by its status alone."""

RELEASING = frozenset({Status.CANCELLED, Status.NO_SHOW, Status.ENTERED_IN_ERROR})
"""Statuses that give the time free again."""

GRACE = timedelta(minutes=10)
"""So long after the start a patient may still come."""

BOOKERS = DESK | {Role.SERVICE}
"""Roles that book anybody with everybody; a service client then acts on what it booked alone."""


def outcome_of(act: Act, status: str) -> Status:
    """The status that the act leads to; raises ``InvalidTransition`` when the table does not allow it."""
    sources, to = MOVES[act]
    if status not in sources:
        raise InvalidTransition(f"An appointment that is {status} cannot become {to}.")
    return to


def act_towards(status: str, to: Status) -> Act:
    """The act by which what has one status gets another; raises ``InvalidTransition`` where there is none."""
    for act in NEEDED:
        sources, outcome = MOVES[act]
        if outcome == to and status in sources:
            return act
    raise InvalidTransition(f"An appointment that is {status} cannot become {to}.")


def ensure_fits(kind: AppointmentType, minutes: int | None, with_ids: Sequence[UUID] = ()) -> None:
    """Raise ``InvalidRequest`` unless a visit of this type may last so long, None being as usual, with others there."""
    problems = []
    if minutes not in (None, kind.duration_minutes, *kind.other_durations_minutes):
        problems.append(FieldProblem("/duration_minutes", "is not a duration of this type of appointment"))
    if kind.group_capacity and with_ids:
        problems.append(FieldProblem("/with_clinician_ids", "a group has one clinician"))
    if problems:
        raise InvalidRequest(problems)


def ensure_timely(act: Act, start: datetime, zone: str, now: datetime) -> None:
    """Raise ``TooEarly`` or ``NotToday`` for what can be said of an appointment only when it is its time.

    Patients arrive on the day of the appointment, by the clock of the place.
    """
    if act is Act.NO_SHOW and now < start + GRACE:
        raise TooEarly
    if act in (Act.ARRIVE, Act.CHECK_IN) and local_day(now, zone) != local_day(start, zone):
        raise NotToday


def local_day(instant: datetime, zone: str) -> date:
    """The day that it is in ``zone``."""
    return instant.astimezone(ZoneInfo(zone)).date()


def is_late(actor: Actor, start: datetime, cutoff_minutes: int, now: datetime) -> bool:
    """Whether it is past the cut-off; raises ``CutoffPassed`` if so and the actor may not act then."""
    late = now >= start - timedelta(minutes=cutoff_minutes)
    if late and not holds(actor, Permission.APPOINTMENT_CANCEL_LATE):
        raise CutoffPassed
    return late


def ensure_can_book(actor: Actor, spoken_for: bool, clinician_id: UUID) -> None:
    """Raise ``NotYourDiary`` unless the actor, who may speak for the patient, may book them with this clinician."""
    if actor.roles & BOOKERS:
        return
    if Role.CLINICIAN in actor.roles and clinician_id == actor.user_id:
        return
    if spoken_for:
        return
    raise NotYourDiary


def only_choice(actor: Actor, spoken_for: bool) -> UUID | None:
    """The only clinician with whom the actor may book a patient, or None when all are open to choice."""
    return None if spoken_for or actor.roles & BOOKERS else actor.user_id


def ensure_can_hold(actor: Actor, clinician_id: UUID) -> None:
    """Raise ``NotYourDiary`` unless the actor may book this clinician at all."""
    if bookable_by(actor) not in (None, clinician_id):
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
