"""The caller's own organisation: what a clinic sets for itself."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from medical.audit import service as audit
from medical.identity.models import Organization
from medical.identity.service import ensure_version
from medical.platform.db import db, scope_organization


def get_organization(*, lock: bool = False) -> Organization:
    """The organisation of the present scope."""
    query = select(Organization).where(Organization.id == scope_organization())
    organization = db.session.scalars(query.with_for_update() if lock else query).one()
    audit.touch("organization", organization.id)
    return organization


def update_organization(expected_version: int | None, changes: Mapping[str, Any]) -> Organization:
    """Change what the clinic sets for itself. Raises ``Stale``."""
    organization = get_organization(lock=True)
    ensure_version(organization.version, expected_version)
    for name, value in changes.items():
        setattr(organization, name, value)
    db.session.flush()
    return organization
