"""What may be done with patients, clinicians and places."""

from enum import StrEnum


class Permission(StrEnum):
    """Acts on people and places."""

    CLINICIAN_CREATE = "clinician:create"
    CLINICIAN_READ = "clinician:read"
    LOCATION_CREATE = "location:create"
    LOCATION_READ = "location:read"
    PATIENT_CREATE = "patient:create"
    PATIENT_READ = "patient:read"
    """Patients one may see: all of the organisation's for its staff, themselves for patients."""
    PATIENT_SEARCH = "patient:search"
    PATIENT_UPDATE = "patient:update"
    """Any field for staff, contact details for patients."""
