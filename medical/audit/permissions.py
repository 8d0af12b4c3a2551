"""What may be done with the trail."""

from enum import StrEnum


class Permission(StrEnum):
    """Acts on the trail; all of them only read it."""

    ACCESS_LOG_READ = "access-log:read"
    """Who opened or changed a record: patients their own, auditors anybody's."""
    AUDIT_READ = "audit:read"
    """The organisation's events, and whether the trail is whole."""
