"""Who works here and where, as FHIR: documents of the rows that accounts, clinicians and sites are.

The rows are the home of what they have columns for; a FHIR client may say the rest.
"""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import joinedload

from medical.identity.models import Organization
from medical.people.models import Clinician, Location
from medical.platform.db import db

Json = dict[str, Any]
TIME_ZONE = "http://hl7.org/fhir/StructureDefinition/timezone"
TYPES = frozenset({"Organization", "Practitioner", "PractitionerRole", "Location"})


class Own(NamedTuple):
    """A resource of the directory: what its row says of it."""

    type: str
    fhir_id: str
    elements: Json


def entries(ids: Collection[UUID] | None = None) -> Iterator[Own]:
    """What the rows say: of the organisation, its sites and its clinicians; of all, or of those with these ids."""
    clinicians = select(Clinician).options(joinedload(Clinician.user)).order_by(Clinician.id)
    for clinician in db.session.scalars(clinicians if ids is None else clinicians.where(Clinician.id.in_(ids))):
        yield from _of_clinician(clinician)
    locations = select(Location).order_by(Location.id)
    for location in db.session.scalars(locations if ids is None else locations.where(Location.id.in_(ids))):
        yield _of_location(location)
    organizations = select(Organization)
    for one in db.session.scalars(organizations if ids is None else organizations.where(Organization.id.in_(ids))):
        yield Own("Organization", str(one.id), {"active": True, "name": one.name})


def _of_clinician(clinician: Clinician) -> Iterator[Own]:
    user = clinician.user
    name = {"use": "official", "family": user.family_name, "given": [user.given_name]}
    yield Own("Practitioner", str(clinician.id), {"active": user.active, "name": [name]})
    role: Json = {
        "active": user.active,
        "practitioner": {"reference": f"Practitioner/{clinician.id}"},
        "organization": {"reference": f"Organization/{clinician.organization_id}"},
        "specialty": [{"text": clinician.specialty}],
    }
    if clinician.location_id:
        role["location"] = [{"reference": f"Location/{clinician.location_id}"}]
    yield Own("PractitionerRole", str(clinician.id), role)


def _of_location(location: Location) -> Own:
    zone = {"url": TIME_ZONE, "valueCode": location.time_zone}
    elements: Json = {"status": "active", "name": location.name, "mode": "instance", "extension": [zone]}
    return Own("Location", str(location.id), elements)
