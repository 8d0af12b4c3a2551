"""The program itself as who acts on records: in imports, exports and the demo."""

from datetime import datetime
from uuid import UUID

from medical.identity.permissions import Role
from medical.platform import clock
from medical.platform.authz import Actor

NOBODY = UUID(int=0)


def program_of(organization_id: UUID) -> Actor:
    """Who may do to the records of an organisation whatever a service client may; in the trail it is nobody."""
    now: datetime = clock.now()
    return Actor(
        user_id=NOBODY,
        organization_id=organization_id,
        session_id=None,
        email="",
        roles=frozenset({Role.SERVICE}),
        authenticated_at=now,
    )
