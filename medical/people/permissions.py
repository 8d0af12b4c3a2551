"""What may be done with patients, clinicians and places."""

from enum import StrEnum


class Permission(StrEnum):
    """Acts on people and places."""

    ACCESS_EXPLAIN = "access:explain"
    """Ask why somebody may or may not see a patient."""
    BREAK_GLASS_OPEN = "break-glass:open"
    """See a patient without a relationship, for an hour, with a reason, to be reviewed."""
    BREAK_GLASS_REVIEW = "break-glass:review"
    """Judge what others opened."""
    CARE_ASSIGN = "care:assign"
    """Give care of a patient to others: anybody's for administrators, their own for who cares."""
    CARE_END = "care:end"
    CARE_READ = "care:read"
    CLINICIAN_CREATE = "clinician:create"
    CLINICIAN_READ = "clinician:read"
    LOCATION_CREATE = "location:create"
    LOCATION_READ = "location:read"
    PATIENT_CREATE = "patient:create"
    PATIENT_READ = "patient:read"
    """Patients one may see: the desk all of the organisation's, who cares for them theirs, patients themselves."""
    PATIENT_SEARCH = "patient:search"
    """The same; who cares for patients finds others as a minimal card."""
    PATIENT_UPDATE = "patient:update"
    """Any field for staff, contact details for patients."""
