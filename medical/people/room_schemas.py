"""Wire shapes of rooms and devices."""

from typing import Annotated
from uuid import UUID

from msgspec import Meta

from medical.people.models import Device, Room
from medical.people.rooms import DeviceKind
from medical.platform.paging import PageQuery
from medical.platform.wire import Input, Output, Text, Version


class CreateRoom(Input, frozen=True, kw_only=True):
    """A new room of a site."""

    location_id: UUID
    name: Text


class RoomQuery(PageQuery, frozen=True, kw_only=True):
    """Of which site."""

    location_id: UUID | None = None


class RoomOut(Output, frozen=True, kw_only=True):
    """A room."""

    id: UUID
    location_id: UUID
    name: str
    version: Version

    @classmethod
    def of(cls, room: Room) -> "RoomOut":
        """The room as callers see it."""
        return cls(id=room.id, location_id=room.location_id, name=room.name, version=room.version)


class CreateDevice(Input, frozen=True, kw_only=True):
    """A new device of a site, or with a `capacity` a pool of so many like ones, such as infusion chairs."""

    location_id: UUID
    kind: DeviceKind
    name: Text
    capacity: Annotated[int, Meta(ge=1, le=1000)] = 1


class DeviceQuery(PageQuery, frozen=True, kw_only=True):
    """Of which site, of which kind."""

    location_id: UUID | None = None
    kind: DeviceKind | None = None


class DeviceOut(Output, frozen=True, kw_only=True):
    """A device."""

    id: UUID
    location_id: UUID
    kind: str
    name: str
    capacity: int
    version: Version

    @classmethod
    def of(cls, device: Device) -> "DeviceOut":
        """The device as callers see it."""
        return cls(
            id=device.id,
            location_id=device.location_id,
            kind=device.kind,
            name=device.name,
            capacity=device.capacity,
            version=device.version,
        )
