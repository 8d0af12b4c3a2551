"""The caller's organisation over HTTP."""

from typing import Annotated
from uuid import UUID

from flask import Blueprint
from msgspec import UNSET, Meta, UnsetType

from medical.audit.events import Action
from medical.identity import organizations
from medical.identity.models import Organization
from medical.identity.permissions import Permission
from medical.platform.http import endpoint
from medical.platform.wire import Input, Output, Version
from medical.platform.zones import TimeZone

bp = Blueprint("organization", __name__, url_prefix="/api/v1/organization")

AgeLimit = Annotated[int, Meta(ge=0, le=25)]


class UpdateOrganization(Input, frozen=True, kw_only=True):
    """What shall change."""

    time_zone: TimeZone | UnsetType = UNSET
    proxy_age_limit: AgeLimit | UnsetType = UNSET


class OrganizationOut(Output, frozen=True, kw_only=True):
    """A clinic: in `time_zone` its days begin; from `proxy_age_limit` years on parents no longer act for a patient."""

    id: UUID
    name: str
    time_zone: str
    proxy_age_limit: int
    version: Version

    @classmethod
    def of(cls, organization: Organization) -> "OrganizationOut":
        """The organisation as callers see it."""
        return cls(**{name: getattr(organization, name) for name in cls.__struct_fields__})


@endpoint(
    bp.get(""),
    permission=Permission.ORGANIZATION_READ,
    returns=(200, OrganizationOut),
    audit=Action.ORGANIZATION_READ,
    etag=True,
)
def get_organization() -> OrganizationOut:
    """Read one's own organisation."""
    return OrganizationOut.of(organizations.get_organization())


@endpoint(
    bp.patch(""),
    permission=Permission.ORGANIZATION_UPDATE,
    body=UpdateOrganization,
    returns=(200, OrganizationOut),
    audit=Action.ORGANIZATION_UPDATED,
    if_match=True,
    etag=True,
    step_up=True,
)
def update_organization(body: UpdateOrganization, expected_version: int | None) -> OrganizationOut:
    """Change what the clinic sets for itself."""
    return OrganizationOut.of(organizations.update_organization(expected_version, body.given()))
