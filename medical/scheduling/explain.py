"""Why there is, or is no, free time with a clinician at an instant."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import Row, text

from medical.platform import clock
from medical.platform.authz import Actor
from medical.platform.db import db, scope_organization
from medical.platform.errors import NotFound
from medical.scheduling import policy, queries, service, slots, sql
from medical.scheduling.errors import NotYourDiary
from medical.scheduling.models import Appointment

EXPLAIN = text(sql.read("explain.sql"))

CLOSING = ("time_off", "holiday", "other_types")
TAKING = ("booked", "held", "buffer")
OFF_GRID = "off_grid"

DETAILS = {
    "too_soon": "The start is past, or nearer than the type's notice allows.",
    "beyond_horizon": "The start is farther ahead than the type allows.",
    "time_off": "The clinician has time off.",
    "holiday": "The site is closed on this holiday.",
    "other_types": "These hours are for other types of appointment.",
    "partly_open": "These hours do not cover the whole visit.",
    "not_open": "The clinician has no hours at this time.",
    "booked": "The clinician's time is taken.",
    "held": "Somebody holds the clinician's time for some minutes.",
    "buffer": "The buffer before or after the visit would meet time that is taken.",
    "room_taken": "The visit needs a room, and none of the site is free.",
    "device_taken": "The visit needs a device, and not one of each kind is free at the site.",
    OFF_GRID: "It can be booked, but is not offered: it does not lie on the grid of these hours.",
}


class Reason(Struct, frozen=True):
    """One thing that stands in the way: the id is of the hours, opening, time off, holiday or appointment."""

    code: str
    detail: str
    source_id: UUID | None = None
    start: datetime | None = None
    end: datetime | None = None
    name: str | None = None


class Explanation(Struct, frozen=True):
    """Whether a time is offered, whether it could be booked, and all that stands in the way."""

    offered: bool
    bookable: bool
    reasons: Sequence[Reason]


def explain(
    actor: Actor,
    *,
    clinician_id: UUID,
    appointment_type_id: UUID,
    start: datetime,
    location_id: UUID | None,
    duration_minutes: int | None = None,
) -> Explanation:
    """Why a time is, or is not, offered; the appointment in the way is named to who may see it.

    Raises ``NotFound`` for a type or clinician that is not there, ``NotYourDiary``, and ``InvalidRequest`` for a
    duration that the type has not.
    """
    if policy.bookable_by(actor) not in (None, clinician_id):
        raise NotYourDiary
    asked = {
        "clinician_id": clinician_id,
        "appointment_type_id": appointment_type_id,
        "start": start,
        "location_id": location_id,
        "minutes": duration_minutes,
    }
    if duration_minutes:
        policy.ensure_fits(service.get_appointment_type(appointment_type_id), duration_minutes)
    now = clock.now()
    place = slots.place(**asked, now=now)  # type: ignore[arg-type]  # the values of different types
    if place is None or place.clinician_id is None:
        raise NotFound
    rows = db.session.execute(EXPLAIN, asked | {"organization_id": scope_organization(), "now": now}).all()
    visible = _visible(actor, [row.source_id for row in rows if row.what in TAKING])
    reasons = [*_reasons(place, rows, start, visible)]
    bookable = all(reason.code == OFF_GRID for reason in reasons)
    return Explanation(offered=not reasons, bookable=bookable, reasons=reasons)


def _visible(actor: Actor, ids: Sequence[UUID]) -> set[UUID]:
    """Which of these appointments the actor may see."""
    query = queries.visible_appointments(actor).where(Appointment.id.in_(ids)).with_only_columns(Appointment.id)
    return set(db.session.scalars(query)) if ids else set()


def _reasons(place: Any, rows: Sequence[Row[Any]], start: datetime, visible: set[UUID]) -> Iterator[Reason]:
    if start < place.earliest:
        yield Reason("too_soon", DETAILS["too_soon"], start=place.earliest)
    if place.beyond_horizon:
        yield Reason("beyond_horizon", DETAILS["beyond_horizon"])
    hours = [row for row in rows if row.what == "open"]
    if place.time_zone is None:
        yield from _closed(rows, hours)
    elif not place.equipped:
        code = "room_taken" if place.needs_room and place.room_id is None else "device_taken"
        yield Reason(code, DETAILS[code])
    for row in rows:
        if row.what in TAKING:
            yield _reason(row.what, row, row.source_id if row.source_id in visible else None)
    if place.time_zone and not any(row.on_grid for row in hours):
        yield Reason(OFF_GRID, DETAILS[OFF_GRID])


def _closed(rows: Sequence[Row[Any]], hours: Sequence[Row[Any]]) -> Iterator[Reason]:
    closing = [row for row in rows if row.what in CLOSING]
    for row in closing:
        yield _reason(row.what, row, row.source_id)
    for row in hours:
        yield _reason("partly_open", row, row.source_id)
    if not closing and not hours:
        yield Reason("not_open", DETAILS["not_open"])


def _reason(code: str, row: Row[Any], source_id: UUID | None) -> Reason:
    return Reason(code, DETAILS[code], source_id, row.start_at, row.end_at, row.name)
