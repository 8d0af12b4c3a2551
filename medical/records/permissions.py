"""What may be done with records."""

from enum import StrEnum


class Permission(StrEnum):
    """Acts on resources; of a patient's, on those of patients one may see."""

    RECORD_DELETE = "record:delete"
    """Hide a resource; its versions are kept."""
    RECORD_EDIT = "record:edit"
    """Write resources, and new versions of them."""
    RECORD_EXPORT = "record:export"
    """Have many records written to files: service clients."""
    RECORD_READ = "record:read"
    """Read and search: carers those of patients they care for, patients their own, service clients all."""
