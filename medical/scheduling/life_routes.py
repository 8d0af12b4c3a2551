"""What becomes of appointments over HTTP, beside the moves of every day: approval, arrival, undoing, overbooking."""

from uuid import UUID

from flask import Blueprint

from medical.audit.events import Action
from medical.platform.authz import current_actor
from medical.platform.http import endpoint
from medical.scheduling import booking, life
from medical.scheduling.errors import InvalidTransition, NotToday, PatientBusy, SlotTaken
from medical.scheduling.permissions import Permission
from medical.scheduling.policy import Act
from medical.scheduling.routes import BOOKING_REFUSALS
from medical.scheduling.schemas import AppointmentOut, OverbookAppointment, WithReason

decisions = Blueprint("appointment-decisions", __name__, url_prefix="/api/v1/appointments")


@endpoint(
    decisions.post("/overbook"),
    permission=Permission.APPOINTMENT_OVERBOOK,
    body=OverbookAppointment,
    returns=(201, AppointmentOut),
    errors=BOOKING_REFUSALS,
    audit=Action.APPOINTMENT_OVERBOOKED,
    idempotent=True,
    etag=True,
)
def overbook(body: OverbookAppointment) -> AppointmentOut:
    """Book a time, beside what the clinician has then."""
    return AppointmentOut.of(booking.overbook(current_actor(), **body.arguments()))


@endpoint(
    decisions.post("/<uuid:appointment_id>/approve"),
    permission=Permission.APPOINTMENT_APPROVE,
    returns=(200, AppointmentOut),
    errors=[InvalidTransition],
    audit=Action.APPOINTMENT_APPROVED,
    if_match=True,
    etag=True,
)
def approve(appointment_id: UUID, expected_version: int | None) -> AppointmentOut:
    """What was requested is booked."""
    return _changed(appointment_id, expected_version, Act.APPROVE)


@endpoint(
    decisions.post("/<uuid:appointment_id>/decline"),
    permission=Permission.APPOINTMENT_APPROVE,
    body=WithReason,
    returns=(200, AppointmentOut),
    errors=[InvalidTransition],
    audit=Action.APPOINTMENT_DECLINED,
    if_match=True,
    etag=True,
)
def decline(appointment_id: UUID, body: WithReason, expected_version: int | None) -> AppointmentOut:
    """What was requested does not take place; its time is free again."""
    return _changed(appointment_id, expected_version, Act.DECLINE, body.reason)


@endpoint(
    decisions.post("/<uuid:appointment_id>/arrive"),
    permission=Permission.APPOINTMENT_CHECK_IN,
    returns=(200, AppointmentOut),
    errors=[InvalidTransition, NotToday],
    audit=Action.APPOINTMENT_ARRIVED,
    if_match=True,
    etag=True,
)
def arrive(appointment_id: UUID, expected_version: int | None) -> AppointmentOut:
    """The patient is in the house."""
    return _changed(appointment_id, expected_version, Act.ARRIVE)


@endpoint(
    decisions.post("/<uuid:appointment_id>/reinstate"),
    permission=Permission.APPOINTMENT_REINSTATE,
    body=WithReason,
    returns=(200, AppointmentOut),
    errors=[InvalidTransition, SlotTaken, PatientBusy],
    audit=Action.APPOINTMENT_REINSTATED,
    if_match=True,
    etag=True,
)
def reinstate(appointment_id: UUID, body: WithReason, expected_version: int | None) -> AppointmentOut:
    """Undo that it was cancelled or missed, if its time is still free."""
    return _changed(appointment_id, expected_version, Act.REINSTATE, body.reason)


@endpoint(
    decisions.post("/<uuid:appointment_id>/enter-in-error"),
    permission=Permission.APPOINTMENT_ENTER_IN_ERROR,
    body=WithReason,
    returns=(200, AppointmentOut),
    errors=[InvalidTransition],
    audit=Action.APPOINTMENT_ENTERED_IN_ERROR,
    if_match=True,
    etag=True,
)
def enter_in_error(appointment_id: UUID, body: WithReason, expected_version: int | None) -> AppointmentOut:
    """It should never have been written down; its time is free again."""
    return _changed(appointment_id, expected_version, Act.ENTER_IN_ERROR, body.reason)


def _changed(appointment_id: UUID, expected_version: int | None, act: Act, reason: str | None = None) -> AppointmentOut:
    return AppointmentOut.of(life.change(current_actor(), appointment_id, expected_version, act, reason))
