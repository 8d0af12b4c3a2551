"""The organisation that a command is for."""

from uuid import UUID

from sqlalchemy import select, text

from medical.identity.models import Organization
from medical.platform.db import Scope, db, enter
from medical.platform.refusal import Refused

EACH = text("SELECT id FROM upkeep ORDER BY id")


def entered(name: str | None) -> UUID:
    """The id of the organisation of this name, or of the only one there is, for which the process works from here on.

    Raises ``Refused``.
    """
    names: dict[str, UUID] = {}
    for organization_id in db.session.scalars(EACH).all():
        enter(Scope(organization_id))
        if found := db.session.scalar(select(Organization.name)):
            names[found] = organization_id
        db.session.rollback()
    enter(None)
    if name is None and len(names) == 1:
        name = next(iter(names))
    if not names:
        raise Refused("there is no clinic yet: make one with `medical create-admin`")
    if name not in names:
        raise Refused(f"name one of the clinics with --organization: {', '.join(sorted(names))}")
    enter(Scope(names[name]))
    return names[name]
