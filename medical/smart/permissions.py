"""What may be done with apps."""

from enum import StrEnum


class Permission(StrEnum):
    """Acts on apps."""

    SMART_APP_LAUNCH = "smart-app:launch"
    """Open an app for a patient whom one sees."""
    SMART_APP_MANAGE = "smart-app:manage"
    SMART_APP_READ = "smart-app:read"
