"""Why a booking or another act on a diary is refused."""

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import Struct

from medical.platform.errors import Conflict, Forbidden, Problem


class Reason(Struct, frozen=True):
    """One thing that stands in the way."""

    code: str
    detail: str


class FreeTime(Struct, frozen=True):
    """A time that could be booked instead."""

    clinician_id: UUID
    location_id: UUID | None
    start: datetime
    end: datetime


class BookingProblem(Problem, frozen=True, kw_only=True):
    """Why a time cannot be booked: `reasons` has everything in the way, `code` is the first of them.

    `next_free` are the next times, at most three, at which the same would work.
    """

    reasons: list[Reason]
    next_free: list[FreeTime]


class NotBookable(Conflict):
    """A time that cannot be booked."""

    shape = BookingProblem

    def __init__(
        self,
        detail: str | None = None,
        *,
        reasons: "Sequence[type[NotBookable]]" = (),
        next_free: Callable[[], Sequence[FreeTime]] | None = None,
    ) -> None:
        self.reasons = [Reason(one.code, one.detail) for one in reasons or [type(self)]]
        self._next_free = next_free
        super().__init__(detail, members={"reasons": msgspec.to_builtins(self.reasons), "next_free": []})

    def complete(self) -> None:
        """Look up the next free times."""
        if self._next_free:
            self.members["next_free"] = msgspec.to_builtins(self._next_free())


class HoldExpired(NotBookable):
    """The hold is no more, or not the caller's, or for something else."""

    code, title = "hold_expired", "Hold expired"
    detail = "You hold no such time any more; look for a free one."


class SlotTaken(NotBookable):
    """Somebody else has this time with the clinician."""

    code, title = "slot_taken", "Time taken"
    detail = "The clinician is taken at this time; look for another free slot."


class GroupFull(NotBookable):
    """All seats of the group are taken."""

    code, title = "group_full", "Group full"
    detail = "All seats of this group are taken; look for another time."


class PatientBusy(NotBookable):
    """The patient has another appointment at this time."""

    code, title = "patient_busy", "Patient busy"
    detail = "The patient has another appointment at this time."


class RoomTaken(NotBookable):
    """The visit needs a room, and at this time none is free where it would be."""

    code, title = "room_taken", "No room"
    detail = "No room is free there at this time; look for another free slot."


class DeviceTaken(NotBookable):
    """The visit needs a device, and at this time none of its kind is free where it would be."""

    code, title = "device_taken", "No device"
    detail = "A device that this type of appointment needs is not free there at this time; look for another free slot."


class OutsideAvailability(NotBookable):
    """The clinician does not work then, or not for this type of appointment."""

    code, title = "outside_availability", "Outside availability"
    detail = "The clinician has no availability for this type of appointment over the whole of this time."


class TooSoon(NotBookable):
    """The start is past, or nearer than the type's notice allows."""

    code, title = "too_soon", "Too soon"
    detail = "The start is past, or nearer than this type of appointment allows."


class BeyondHorizon(NotBookable):
    """The start is farther ahead than the type allows."""

    code, title = "beyond_horizon", "Too far ahead"
    detail = "The start is farther ahead than this type of appointment allows."


class DayFull(NotBookable):
    """The clinician has as many appointments of this type on that day as it allows."""

    code, title = "day_full", "Day full"
    detail = "The clinician has as many appointments of this type on that day as they take."


class PatientLimit(NotBookable):
    """The patient has as many appointments of this type ahead as it allows."""

    code, title = "patient_limit", "Patient's limit reached"
    detail = "The patient has as many appointments of this type ahead as one may have."


IN_ORDER = (
    HoldExpired,
    TooSoon,
    BeyondHorizon,
    OutsideAvailability,
    SlotTaken,
    GroupFull,
    RoomTaken,
    DeviceTaken,
    PatientBusy,
    DayFull,
    PatientLimit,
)
"""The reasons in the order in which they are told; the first gives the code."""


def refusal_for(
    reasons: Sequence[type[NotBookable]], next_free: Callable[[], Sequence[FreeTime]] | None = None
) -> NotBookable:
    """The refusal that tells all the reasons; free times are looked up once the refused transaction is over."""
    told = sorted(set(reasons), key=IN_ORDER.index)
    return told[0](reasons=told, next_free=next_free)


class AlreadyWaiting(Conflict):
    """The patient waits for this type of appointment already."""

    code, title = "already_waiting", "Already waiting"
    detail = "The patient waits for this type of appointment already."


class NotWaiting(Conflict):
    """The patient waits no more."""

    code, title = "not_waiting", "Not waiting"
    detail = "This patient waits no more."


class OfferExpired(Conflict):
    """Nothing is offered to the patient, or not any more."""

    code, title = "offer_expired", "Nothing offered"
    detail = "Nothing is offered to this patient, or the deadline passed."


class NoHoldInGroups(Conflict):
    """Seats of a group are booked, not held; nobody waits for one on the waitlist either."""

    code, title = "no_hold_in_groups", "Groups are not held"
    detail = "A seat of a group is booked at once; it cannot be held, nor waited for."


class TooManyHolds(Conflict):
    """The caller holds as many times as one may hold."""

    code, title = "too_many_holds", "Too many holds"
    detail = "You hold as many times as one may; book or give up one of them, or wait until one expires."


class TooEarly(Conflict):
    """Nobody is missed before they are late."""

    code, title = "too_early", "Too early"
    detail = "A patient is missed ten minutes after the start at the earliest."


class NotToday(Conflict):
    """Patients arrive on the day of their appointment."""

    code, title = "not_today", "Not today"
    detail = "The appointment is not today, where it takes place."


class CutoffPassed(Conflict):
    """So near to the start, only those who may can call an appointment off, or move it."""

    code, title = "cutoff_passed", "Too late to cancel"
    detail = "It is too late to cancel or move this appointment yourself; call the desk."


class InvalidTransition(Conflict):
    """The appointment's status does not allow this move."""

    code, title = "invalid_transition", "Not from this status"
    detail = "The appointment's status does not allow this."


class AppointmentTypeExists(Conflict):
    """Another appointment type has this name."""

    code, title = "appointment_type_exists", "Appointment type exists"
    detail = "Another appointment type has this name."


class HolidayExists(Conflict):
    """The site has a day of its own on this date."""

    code, title = "holiday_exists", "Holiday exists"
    detail = "This location has a day of its own on this date already."


class NationalHoliday(Conflict):
    """National holidays come from the calendar and are not removed one by one."""

    code, title = "national_holiday", "National holiday"
    detail = "This day comes from the calendar; to work on it, add a day with `closed: false`."


class NotYourDiary(Forbidden):
    """Clinicians act on their own diary, patients for themselves."""

    code, title = "not_your_diary", "Not your diary"
    detail = "Clinicians act on their own diary, patients for themselves; ask the desk."


class RefusedOccurrence(Struct, frozen=True):
    """An occurrence that cannot be booked, why, and the nearest free times where they were asked for."""

    occurrence: int
    start: datetime
    reasons: list[Reason]
    proposed: list[FreeTime]


class SeriesProblem(Problem, frozen=True, kw_only=True):
    """Why a series is refused: every occurrence that cannot be booked, in order."""

    refused: list[RefusedOccurrence]


class SeriesRefused(Conflict):
    """Some occurrences cannot be booked, so none is."""

    code, title = "series_refused", "Series refused"
    detail = "Some of the occurrences cannot be booked; nothing was changed."
    shape = SeriesProblem

    def __init__(self, detail: str | None = None, *, refused: Sequence[RefusedOccurrence] = ()) -> None:
        super().__init__(detail, members=msgspec.to_builtins({"refused": list(refused)}))


class RefusedDecision(Struct, frozen=True):
    """An appointment of which what was decided cannot be done, and why."""

    appointment_id: UUID
    reasons: list[Reason]


class DecisionsProblem(Problem, frozen=True, kw_only=True):
    """Why time off is refused: every decision that cannot be carried out."""

    refused: list[RefusedDecision]


class DecisionsRefused(Conflict):
    """What was decided of some appointments cannot be done, so nothing is."""

    code, title = "decisions_refused", "Decisions refused"
    detail = "Not all that was decided can be done; nothing was changed, and no time off taken."
    shape = DecisionsProblem

    def __init__(self, detail: str | None = None, *, refused: Sequence[RefusedDecision] = ()) -> None:
        super().__init__(detail, members=msgspec.to_builtins({"refused": list(refused)}))


class NoneAhead(Conflict):
    """Of the series, nothing that could be changed is ahead from this occurrence on."""

    code, title = "none_ahead", "None ahead"
    detail = "From this occurrence on, no appointment of the series is ahead that could be changed."
