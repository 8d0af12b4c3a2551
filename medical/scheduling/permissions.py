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
    APPOINTMENT_CANCEL = "appointment:cancel"
    APPOINTMENT_CHECK_IN = "appointment:check-in"
    APPOINTMENT_COMPLETE = "appointment:complete"
    APPOINTMENT_NO_SHOW = "appointment:no-show"
    APPOINTMENT_READ = "appointment:read"
    APPOINTMENT_RESCHEDULE = "appointment:reschedule"
    APPOINTMENT_START = "appointment:start"
    APPOINTMENT_TYPE_CREATE = "appointment-type:create"
    APPOINTMENT_TYPE_READ = "appointment-type:read"
    AVAILABILITY_EDIT = "availability:edit"
    """Everybody's for the desk, their own for clinicians."""
    AVAILABILITY_READ = "availability:read"
    HOLIDAY_EDIT = "holiday:edit"
    HOLIDAY_READ = "holiday:read"
    SLOT_READ = "slot:read"
