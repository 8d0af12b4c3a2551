"""Appointment types, availabilities, slots and appointments over HTTP."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from flask import Blueprint
from msgspec import Meta

from medical.audit.events import Action
from medical.platform.authz import current_actor
from medical.platform.errors import NotFound
from medical.platform.http import endpoint
from medical.platform.paging import Page, PageQuery, page_of, read_cursor
from medical.scheduling import booking, life, service
from medical.scheduling.errors import (
    IN_ORDER,
    AppointmentTypeExists,
    CutoffPassed,
    InvalidTransition,
    NotToday,
    NotYourDiary,
    TooEarly,
)
from medical.scheduling.permissions import Permission
from medical.scheduling.policy import Act
from medical.scheduling.schemas import (
    AppointmentEventOut,
    AppointmentOut,
    AppointmentQuery,
    AppointmentTypeOut,
    AvailabilityOut,
    AvailabilityQuery,
    BookAppointment,
    CancelAppointment,
    CreateAppointmentType,
    CreateAvailability,
    RescheduleAppointment,
    SlotOut,
    SlotQuery,
    UpdateAvailability,
)

types = Blueprint("appointment-types", __name__, url_prefix="/api/v1/appointment-types")
availabilities = Blueprint("availabilities", __name__, url_prefix="/api/v1/availabilities")
slots = Blueprint("slots", __name__, url_prefix="/api/v1/slots")
appointments = Blueprint("appointments", __name__, url_prefix="/api/v1/appointments")

EventVersion = Annotated[int, Meta(ge=1, le=2**31 - 1)]

BOOKING_REFUSALS = [
    NotFound,
    NotYourDiary,
    *IN_ORDER,
]


@endpoint(
    types.post(""),
    permission=Permission.APPOINTMENT_TYPE_CREATE,
    body=CreateAppointmentType,
    returns=(201, AppointmentTypeOut),
    errors=[AppointmentTypeExists],
    audit=Action.APPOINTMENT_TYPE_CREATED,
    idempotent=True,
    etag=True,
)
def create_appointment_type(body: CreateAppointmentType) -> AppointmentTypeOut:
    """Add a kind of visit."""
    return AppointmentTypeOut.of(service.create_appointment_type(**body.arguments()))


@endpoint(
    types.get(""),
    permission=Permission.APPOINTMENT_TYPE_READ,
    query=PageQuery,
    returns=(200, Page[AppointmentTypeOut]),
)
def list_appointment_types(query: PageQuery) -> Page[AppointmentTypeOut]:
    """List kinds of visits, ordered by name, id."""
    rows = service.list_appointment_types(query.limit, read_cursor(query.cursor, tuple[str, UUID]))
    return page_of(rows, query.limit, AppointmentTypeOut.of, lambda kind: (kind.name, kind.id))


@endpoint(
    types.get("/<uuid:type_id>"),
    permission=Permission.APPOINTMENT_TYPE_READ,
    returns=(200, AppointmentTypeOut),
    etag=True,
)
def get_appointment_type(type_id: UUID) -> AppointmentTypeOut:
    """Read a kind of visit."""
    return AppointmentTypeOut.of(service.get_appointment_type(type_id))


@endpoint(
    availabilities.post(""),
    permission=Permission.AVAILABILITY_EDIT,
    body=CreateAvailability,
    returns=(201, AvailabilityOut),
    errors=[NotFound, NotYourDiary],
    audit=Action.AVAILABILITY_CREATED,
    idempotent=True,
    etag=True,
)
def create_availability(body: CreateAvailability) -> AvailabilityOut:
    """Add weekly hours of a clinician."""
    return AvailabilityOut.of(service.create_availability(current_actor(), **body.arguments()))


@endpoint(
    availabilities.get(""),
    permission=Permission.AVAILABILITY_READ,
    query=AvailabilityQuery,
    returns=(200, Page[AvailabilityOut]),
)
def list_availabilities(query: AvailabilityQuery) -> Page[AvailabilityOut]:
    """List weekly hours, ordered by clinician, id."""
    after = read_cursor(query.cursor, tuple[UUID, UUID])
    rows = service.list_availabilities(query.clinician_id, query.limit, after)
    return page_of(rows, query.limit, AvailabilityOut.of, lambda one: (one.clinician_id, one.id))


@endpoint(
    availabilities.get("/<uuid:availability_id>"),
    permission=Permission.AVAILABILITY_READ,
    returns=(200, AvailabilityOut),
    etag=True,
)
def get_availability(availability_id: UUID) -> AvailabilityOut:
    """Read weekly hours."""
    return AvailabilityOut.of(service.get_availability(availability_id))


@endpoint(
    availabilities.patch("/<uuid:availability_id>"),
    permission=Permission.AVAILABILITY_EDIT,
    body=UpdateAvailability,
    returns=(200, AvailabilityOut),
    errors=[NotYourDiary],
    audit=Action.AVAILABILITY_UPDATED,
    if_match=True,
    etag=True,
)
def update_availability(
    availability_id: UUID, body: UpdateAvailability, expected_version: int | None
) -> AvailabilityOut:
    """Change weekly hours; what is booked stays booked."""
    changed = service.update_availability(current_actor(), availability_id, expected_version, body.given())
    return AvailabilityOut.of(changed)


@endpoint(
    availabilities.delete("/<uuid:availability_id>"),
    permission=Permission.AVAILABILITY_EDIT,
    returns=(204, None),
    errors=[NotYourDiary],
    audit=Action.AVAILABILITY_DELETED,
    if_match=True,
)
def delete_availability(availability_id: UUID, expected_version: int | None) -> None:
    """Remove weekly hours; what is booked stays booked."""
    service.delete_availability(current_actor(), availability_id, expected_version)


@endpoint(
    slots.get(""),
    permission=Permission.SLOT_READ,
    query=SlotQuery,
    returns=(200, Page[SlotOut]),
    errors=[NotFound],
)
def search_slots(query: SlotQuery) -> Page[SlotOut]:
    """Find free times, ordered by start, then clinician."""
    rows = service.search_slots(
        current_actor(),
        appointment_type_id=query.appointment_type_id,
        start=query.start,
        until=query.until,
        clinician_ids=query.clinician_id,
        specialty=query.specialty,
        location_id=query.location_id,
        limit=query.limit,
        after=read_cursor(query.cursor, tuple[datetime, UUID]),
        duration_minutes=query.duration_minutes,
        with_clinician_ids=query.with_clinician_id,
    )
    return page_of(
        rows,
        query.limit,
        lambda slot: SlotOut(
            clinician_id=slot.clinician_id, location_id=slot.location_id, start=slot.start, end=slot.end
        ),
        lambda slot: (slot.start, slot.clinician_id),
    )


@endpoint(
    appointments.post(""),
    permission=Permission.APPOINTMENT_BOOK,
    body=BookAppointment,
    returns=(201, AppointmentOut),
    errors=BOOKING_REFUSALS,
    audit=Action.APPOINTMENT_BOOKED,
    idempotent=True,
    etag=True,
)
def book_appointment(body: BookAppointment) -> AppointmentOut:
    """Book a free time with a clinician, or with the fairest of a specialty."""
    return AppointmentOut.of(booking.book(current_actor(), **body.arguments()))


@endpoint(
    appointments.get(""),
    permission=Permission.APPOINTMENT_READ,
    query=AppointmentQuery,
    returns=(200, Page[AppointmentOut]),
    audit=Action.APPOINTMENT_SEARCHED,
)
def list_appointments(query: AppointmentQuery) -> Page[AppointmentOut]:
    """List appointments, ordered by start, id."""
    rows = service.list_appointments(
        current_actor(),
        start=query.start,
        until=query.until,
        clinician_id=query.clinician_id,
        patient_id=query.patient_id,
        location_id=query.location_id,
        status=query.status,
        limit=query.limit,
        after=read_cursor(query.cursor, tuple[datetime, UUID]),
    )
    return page_of(rows, query.limit, AppointmentOut.of, lambda one: (one.start_at, one.id))


@endpoint(
    appointments.get("/<uuid:appointment_id>"),
    permission=Permission.APPOINTMENT_READ,
    returns=(200, AppointmentOut),
    audit=Action.APPOINTMENT_READ,
    etag=True,
)
def get_appointment(appointment_id: UUID) -> AppointmentOut:
    """Read an appointment."""
    return AppointmentOut.of(service.get_appointment(current_actor(), appointment_id))


@endpoint(
    appointments.get("/<uuid:appointment_id>/history"),
    permission=Permission.APPOINTMENT_READ,
    query=PageQuery,
    returns=(200, Page[AppointmentEventOut]),
    audit=Action.APPOINTMENT_HISTORY_READ,
)
def get_history(appointment_id: UUID, query: PageQuery) -> Page[AppointmentEventOut]:
    """What became of an appointment, oldest first."""
    after = read_cursor(query.cursor, tuple[EventVersion])
    rows = service.history(current_actor(), appointment_id, query.limit, after[0] if after else None)
    return page_of(rows, query.limit, AppointmentEventOut.of, lambda event: (event.version,))


@endpoint(
    appointments.post("/<uuid:appointment_id>/cancel"),
    permission=Permission.APPOINTMENT_CANCEL,
    body=CancelAppointment,
    returns=(200, AppointmentOut),
    errors=[InvalidTransition, CutoffPassed],
    audit=Action.APPOINTMENT_CANCELLED,
    if_match=True,
    etag=True,
)
def cancel(appointment_id: UUID, body: CancelAppointment, expected_version: int | None) -> AppointmentOut:
    """Cancel an appointment; its time is free again."""
    return _moved(appointment_id, expected_version, Act.CANCEL, body.reason)


@endpoint(
    appointments.post("/<uuid:appointment_id>/reschedule"),
    permission=Permission.APPOINTMENT_RESCHEDULE,
    body=RescheduleAppointment,
    returns=(200, AppointmentOut),
    errors=[*BOOKING_REFUSALS, InvalidTransition, CutoffPassed],
    audit=Action.APPOINTMENT_RESCHEDULED,
    if_match=True,
    etag=True,
)
def reschedule(appointment_id: UUID, body: RescheduleAppointment, expected_version: int | None) -> AppointmentOut:
    """Give an appointment another time, keeping its id; if refused it stays where it was."""
    moved = booking.reschedule(current_actor(), appointment_id, expected_version, **body.arguments())
    return AppointmentOut.of(moved)


@endpoint(
    appointments.post("/<uuid:appointment_id>/check-in"),
    permission=Permission.APPOINTMENT_CHECK_IN,
    returns=(200, AppointmentOut),
    errors=[InvalidTransition, NotToday],
    audit=Action.APPOINTMENT_CHECKED_IN,
    if_match=True,
    etag=True,
)
def check_in(appointment_id: UUID, expected_version: int | None) -> AppointmentOut:
    """The patient is here and ready; they get a queue number."""
    return _moved(appointment_id, expected_version, Act.CHECK_IN)


@endpoint(
    appointments.post("/<uuid:appointment_id>/start"),
    permission=Permission.APPOINTMENT_START,
    returns=(200, AppointmentOut),
    errors=[InvalidTransition],
    audit=Action.APPOINTMENT_STARTED,
    if_match=True,
    etag=True,
)
def start(appointment_id: UUID, expected_version: int | None) -> AppointmentOut:
    """The patient is with the clinician."""
    return _moved(appointment_id, expected_version, Act.START)


@endpoint(
    appointments.post("/<uuid:appointment_id>/complete"),
    permission=Permission.APPOINTMENT_COMPLETE,
    returns=(200, AppointmentOut),
    errors=[InvalidTransition],
    audit=Action.APPOINTMENT_FULFILLED,
    if_match=True,
    etag=True,
)
def complete(appointment_id: UUID, expected_version: int | None) -> AppointmentOut:
    """The visit has taken place."""
    return _moved(appointment_id, expected_version, Act.COMPLETE)


@endpoint(
    appointments.post("/<uuid:appointment_id>/no-show"),
    permission=Permission.APPOINTMENT_NO_SHOW,
    returns=(200, AppointmentOut),
    errors=[InvalidTransition, TooEarly],
    audit=Action.APPOINTMENT_MISSED,
    if_match=True,
    etag=True,
)
def no_show(appointment_id: UUID, expected_version: int | None) -> AppointmentOut:
    """The patient did not come; the time is free again."""
    return _moved(appointment_id, expected_version, Act.NO_SHOW)


def _moved(appointment_id: UUID, expected_version: int | None, act: Act, reason: str | None = None) -> AppointmentOut:
    return AppointmentOut.of(life.change(current_actor(), appointment_id, expected_version, act, reason))
