"""Free times, worked out by PostgreSQL in one statement, whatever the days and clinicians.

For each clinician and place: the open windows less the claims on the clinician's time, as multiranges;
the starts on each window's grid that fit in what is left, while a room and devices that the visit needs
are free. A booking asks the same windows whether its time lies within them. The SQL is in `sql/`.

Everything about one clinician is LATERAL to their row, read by index. Joins of the same steps over
all clinicians at once were planned as nested loops of CTEs: over two minutes for a thousand.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import Row, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from medical.platform.db import db, scope_organization
from medical.scheduling import sql

IDS = ARRAY(Uuid)
SEARCH = text(sql.read("search.sql")).bindparams(
    bindparam("clinician_ids", type_=IDS), bindparam("with_ids", type_=IDS)
)
PLACE = text(sql.read("place.sql")).bindparams(bindparam("with_ids", type_=IDS))


def _for_each(statement: str, given: str, columns: str) -> str:
    """The statement, answering for each row of ``given`` what it answers for one; ``n`` counts them from 1."""
    for column in columns.split(", "):
        statement = re.sub(rf":{column}\b", f"given.{column}", statement)
    return (
        f"SELECT given.n::int, found.* FROM unnest({given}) WITH ORDINALITY AS given ({columns}, n)"  # noqa: S608 - made of files and constants of ours
        f" CROSS JOIN LATERAL (\n{statement}\n) AS found ORDER BY given.n"
    )


PLACES = text(_for_each(sql.read("place.sql"), "CAST(:starts AS timestamptz[])", "start")).bindparams(
    bindparam("with_ids", type_=IDS)
)
AROUND = text(
    _for_each(sql.read("search.sql"), "CAST(:starts AS timestamptz[]), CAST(:untils AS timestamptz[])", "start, until")
).bindparams(bindparam("clinician_ids", type_=IDS), bindparam("with_ids", type_=IDS))


class Slot(Struct, frozen=True):
    """A free time with a clinician."""

    clinician_id: UUID
    location_id: UUID | None
    start: datetime
    end: datetime


def search(
    *,
    appointment_type_id: UUID,
    start: datetime,
    until: datetime,
    clinician_ids: Sequence[UUID] | None,
    specialty: str | None,
    location_id: UUID | None,
    now: datetime,
    limit: int,
    after: tuple[datetime, UUID] | None,
    minutes: int | None = None,
    with_ids: Sequence[UUID] = (),
) -> Sequence[Slot] | None:
    """Free times that start in [start, until), by start and clinician; None without such a type.

    They last ``minutes``, by default as long as the type says, and all of ``with_ids`` are free then too.
    One more than ``limit`` when more follow.
    """
    values = {
        "organization_id": scope_organization(),
        "appointment_type_id": appointment_type_id,
        "start": start,
        "until": until,
        "clinician_ids": None if clinician_ids is None else list(clinician_ids),
        "specialty": specialty,
        "location_id": location_id,
        "now": now,
        "limit": limit + 1,
        "minutes": minutes,
        "with_ids": list(with_ids),
        "after": after[0] if after else None,
        "after_clinician_id": after[1] if after else None,
    }
    rows = db.session.execute(SEARCH, values).all()
    if not rows:
        return None
    return [Slot(*row) for row in rows if row.starts is not None]


def place(
    *,
    appointment_type_id: UUID,
    clinician_id: UUID,
    location_id: UUID | None,
    start: datetime,
    now: datetime,
    own_id: UUID | None = None,
    minutes: int | None = None,
    with_ids: Sequence[UUID] = (),
) -> Row[Any] | None:
    """What a booking must know of its time: one row; None without such a type.

    ``clinician_id`` is null without such a clinician, ``time_zone`` outside their windows; of ``with_ids``, those who
    are not there are ``absent``. Claims last from ``claims_from`` to ``claims_until``; where the type needs them, on
    ``room_id`` and ``device_ids``, which are all there if ``equipped``. What ``own_id``, an appointment, a hold or a
    group, has claimed is not in its own way.
    """
    values = {
        "organization_id": scope_organization(),
        "appointment_type_id": appointment_type_id,
        "clinician_id": clinician_id,
        "location_id": location_id,
        "start": start,
        "now": now,
        "own_id": own_id,
        "minutes": minutes,
        "with_ids": list(with_ids),
    }
    return db.session.execute(PLACE, values).first()


def places(
    *,
    appointment_type_id: UUID,
    clinician_id: UUID,
    location_id: UUID | None,
    starts: Sequence[datetime],
    now: datetime,
) -> Sequence[Row[Any]]:
    """What ``place`` knows, for each of the starts; none without such a type."""
    values = {
        "organization_id": scope_organization(),
        "appointment_type_id": appointment_type_id,
        "clinician_id": clinician_id,
        "location_id": location_id,
        "starts": list(starts),
        "now": now,
        "own_id": None,
        "minutes": None,
        "with_ids": [],
    }
    return db.session.execute(PLACES, values).all()


def search_each(
    *,
    appointment_type_id: UUID,
    clinician_ids: Sequence[UUID] | None,
    location_id: UUID | None,
    spans: Sequence[tuple[datetime, datetime]],
    now: datetime,
    limit: int,
    specialty: str | None = None,
    minutes: int | None = None,
    with_ids: Sequence[UUID] = (),
) -> Sequence[Sequence[Slot]]:
    """The first free times that start in each of the spans, ``limit`` at most of each."""
    values = {
        "organization_id": scope_organization(),
        "appointment_type_id": appointment_type_id,
        "starts": [start for start, _ in spans],
        "untils": [until for _, until in spans],
        "clinician_ids": None if clinician_ids is None else list(clinician_ids),
        "specialty": specialty,
        "location_id": location_id,
        "now": now,
        "limit": limit,
        "minutes": minutes,
        "with_ids": list(with_ids),
        "after": None,
        "after_clinician_id": None,
    }
    found: list[list[Slot]] = [[] for _ in spans]
    for n, *slot in db.session.execute(AROUND, values):
        if slot[0] is not None:
            found[n - 1].append(Slot(*slot))
    return found
