"""How long a sign-in lasts, by role: unused, and at most (OWASP ASVS 5.0, 7.3; NIST SP 800-63B, AAL2 and AAL3)."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from medical.identity.permissions import Role


@dataclass(frozen=True, slots=True)
class Limits:
    """``idle``: since the last call; ``absolute``: since the login. None: no limit but the sign-in's own expiry."""

    idle: timedelta | None
    absolute: timedelta | None

    def allow(self, created_at: datetime, last_used_at: datetime, now: datetime) -> bool:
        """Whether a sign-in of then still lives."""
        idle = self.idle is not None and now - last_used_at >= self.idle
        over = self.absolute is not None and now - created_at >= self.absolute
        return not (idle or over)


LIMITS = {
    Role.ADMIN: Limits(timedelta(minutes=15), timedelta(hours=12)),
    Role.AUDITOR: Limits(timedelta(minutes=15), timedelta(hours=12)),
    Role.CLINICIAN: Limits(timedelta(minutes=30), timedelta(hours=12)),
    Role.NURSE: Limits(timedelta(minutes=30), timedelta(hours=12)),
    Role.RECEPTIONIST: Limits(timedelta(minutes=30), timedelta(hours=12)),
    Role.PATIENT: Limits(timedelta(minutes=30), timedelta(hours=12)),
    Role.SERVICE: Limits(None, None),
}
"""Who has several roles gets the strictest of each."""


def limits_of(roles: Iterable[str]) -> Limits:
    """What holds for somebody with these roles; for nobody's roles, the strictest there is."""
    own = [LIMITS[Role(role)] for role in roles] or list(LIMITS.values())
    return Limits(_least(one.idle for one in own), _least(one.absolute for one in own))


def _least(limits: Iterable[timedelta | None]) -> timedelta | None:
    return min((limit for limit in limits if limit is not None), default=None)
