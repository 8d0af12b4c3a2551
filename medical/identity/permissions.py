"""Roles, and what may be done with accounts."""

from enum import StrEnum

from medical.platform import authz


class Role(StrEnum):
    """What a user is in their organisation; a user may hold several."""

    ADMIN = "admin"
    CLINICIAN = "clinician"
    NURSE = "nurse"
    RECEPTIONIST = "receptionist"
    PATIENT = "patient"
    AUDITOR = "auditor"
    SERVICE = "service"


class Permission(StrEnum):
    """Acts on accounts and sign-ins."""

    ORGANIZATION_READ = "organization:read"
    ORGANIZATION_UPDATE = "organization:update"
    """Set what the clinic sets for itself."""
    SERVICE_CLIENT_MANAGE = "service-client:manage"
    SERVICE_CLIENT_READ = "service-client:read"
    SESSION_OWN = "session:own"
    """See who one is signed in as and where, and sign out."""
    SESSION_END_ANY = "session:end-any"
    """See the sign-ins of others, and end them."""
    USER_ASSIGN_ROLE = "user:assign-role"
    USER_CREATE = "user:create"
    USER_DEACTIVATE = "user:deactivate"
    USER_READ = "user:read"
    USER_RESET_OTP = "user:reset-otp"
    """Remove a second factor that somebody lost."""
    USER_UPDATE = "user:update"


def grantable() -> frozenset[str]:
    """The permissions that a service client may be given as scopes."""
    return authz.permissions_of(Role.SERVICE) - {Permission.SESSION_OWN}
