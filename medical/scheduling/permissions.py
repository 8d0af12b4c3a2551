"""What may be done with diaries."""

from enum import StrEnum

from medical.identity.permissions import Role

DESK = frozenset({Role.ADMIN, Role.NURSE, Role.RECEPTIONIST})
"""Roles that act on every diary of their organisation."""
HOURS = frozenset({Role.ADMIN, Role.RECEPTIONIST, Role.SERVICE})
"""Roles that set everybody's hours."""


class Permission(StrEnum):
    """Acts on appointment types, availabilities and appointments."""

    APPOINTMENT_BOOK = "appointment:book"
    """Into any diary for the desk and service clients, into their own for clinicians, for themselves for patients."""
    APPOINTMENT_APPROVE = "appointment:approve"
    """What was requested becomes booked, or is declined."""
    APPOINTMENT_CANCEL = "appointment:cancel"
    APPOINTMENT_CANCEL_LATE = "appointment:cancel-late"
    """Call off or move what is nearer than its type's cut-off."""
    APPOINTMENT_CHECK_IN = "appointment:check-in"
    APPOINTMENT_COMPLETE = "appointment:complete"
    APPOINTMENT_ENTER_IN_ERROR = "appointment:enter-in-error"
    APPOINTMENT_NO_SHOW = "appointment:no-show"
    APPOINTMENT_OVERBOOK = "appointment:overbook"
    """Book beside what a clinician has already."""
    APPOINTMENT_READ = "appointment:read"
    APPOINTMENT_REINSTATE = "appointment:reinstate"
    """Undo that it was cancelled or missed."""
    APPOINTMENT_RESCHEDULE = "appointment:reschedule"
    APPOINTMENT_START = "appointment:start"
    APPOINTMENT_TYPE_CREATE = "appointment-type:create"
    APPOINTMENT_TYPE_READ = "appointment-type:read"
    AVAILABILITY_EDIT = "availability:edit"
    """Everybody's for the desk, their own for clinicians."""
    AVAILABILITY_READ = "availability:read"
    CALENDAR_FEED_EDIT = "calendar-feed:edit"
    """Make and revoke secret addresses of calendars: of everybody's for the desk, else of one's own."""
    CALENDAR_FEED_READ = "calendar-feed:read"
    HOLIDAY_EDIT = "holiday:edit"
    HOLIDAY_READ = "holiday:read"
    SLOT_READ = "slot:read"
