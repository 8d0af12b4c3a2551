"""Wire shapes of calendar feeds."""

from collections.abc import Iterator
from datetime import UTC
from typing import Any, Self
from uuid import UUID

import msgspec

from medical.platform.errors import FieldProblem
from medical.platform.wire import Input, Instant, Output
from medical.scheduling.feed_models import CalendarFeed


class CreateCalendarFeed(Input, frozen=True, kw_only=True):
    """Whose times it shows: one of a clinician, a room, a device and a patient.

    It says when they are busy; with `details` also the type of each appointment and its site, but of sensitive ones.
    """

    clinician_id: UUID | None = None
    room_id: UUID | None = None
    device_id: UUID | None = None
    patient_id: UUID | None = None
    details: bool = False

    def problems(self) -> Iterator[FieldProblem]:
        """What is wrong between fields that are right by themselves."""
        if [self.clinician_id, self.room_id, self.device_id, self.patient_id].count(None) != 3:
            yield FieldProblem("/clinician_id", "give one of clinician_id, room_id, device_id and patient_id")


class CalendarFeedOut(Output, frozen=True, kw_only=True):
    """A feed; when it was last read is known to the hour."""

    id: UUID
    clinician_id: UUID | None
    room_id: UUID | None
    device_id: UUID | None
    patient_id: UUID | None
    details: bool
    created_by: UUID
    created_at: Instant
    last_used_at: Instant | None

    @classmethod
    def of(cls, feed: CalendarFeed, **more: Any) -> Self:
        """The feed as callers see it."""
        return cls(
            id=feed.id,
            clinician_id=feed.clinician_id,
            room_id=feed.room_id,
            device_id=feed.device_id,
            patient_id=feed.patient_id,
            details=feed.details,
            created_by=feed.created_by,
            created_at=feed.created_at.astimezone(UTC),
            last_used_at=feed.last_used_at.astimezone(UTC) if feed.last_used_at else None,
            **more,
        )


class NewCalendarFeedOut(CalendarFeedOut, frozen=True, kw_only=True):
    """A feed and its secret address, which is told this once; null in a repeated answer."""

    url: str | None

    def repeated(self) -> Self:
        """Without the address."""
        return msgspec.structs.replace(self, url=None)
