"""Rooms and devices: what stands at a site and serves visits, one at a time or, as a pool, several."""

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta
from sqlalchemy import select, tuple_

from medical.audit import service as audit
from medical.people.errors import DeviceExists, RoomExists
from medical.people.models import Device, Room
from medical.people.service import ensure_location
from medical.platform.db import db, flush_or_raise
from medical.platform.errors import NotFound
from medical.platform.ids import new_id

DeviceKind = Annotated[
    str,
    Meta(
        max_length=60,
        pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$",
        description="What appointment types ask for; devices of a kind are as good as each other.",
        examples=["ultrasound"],
    ),
]


def create_room(*, location_id: UUID, name: str) -> Room:
    """A new room of a site. Raises ``NotFound`` or ``RoomExists``."""
    ensure_location(location_id)
    room = Room(id=new_id(), location_id=location_id, name=name)
    db.session.add(room)
    flush_or_raise({"uq_room_location_id_name": RoomExists})
    audit.touch("room", room.id)
    return room


def get_room(room_id: UUID) -> Room:
    """A room of the organisation. Raises ``NotFound``."""
    room = db.session.scalars(select(Room).where(Room.id == room_id)).first()
    if room is None:
        raise NotFound
    return room


def list_rooms(location_id: UUID | None, limit: int, after: tuple[str, UUID] | None) -> Sequence[Room]:
    """Rooms by name and id, of a site if one is given; one more than ``limit`` when more follow."""
    query = select(Room).order_by(Room.name, Room.id).limit(limit + 1)
    if location_id:
        query = query.where(Room.location_id == location_id)
    if after:
        query = query.where(tuple_(Room.name, Room.id) > after)
    return db.session.scalars(query).all()


def create_device(*, location_id: UUID, **details: Any) -> Device:
    """A new device of a site. Raises ``NotFound`` or ``DeviceExists``."""
    ensure_location(location_id)
    device = Device(id=new_id(), location_id=location_id, **details)
    db.session.add(device)
    flush_or_raise({"uq_device_location_id_name": DeviceExists})
    audit.touch("device", device.id)
    return device


def get_device(device_id: UUID) -> Device:
    """A device of the organisation. Raises ``NotFound``."""
    device = db.session.scalars(select(Device).where(Device.id == device_id)).first()
    if device is None:
        raise NotFound
    return device


def list_devices(
    location_id: UUID | None, kind: str | None, limit: int, after: tuple[str, UUID] | None
) -> Sequence[Device]:
    """Devices by name and id, of a site or a kind if given; one more than ``limit`` when more follow."""
    query = select(Device).order_by(Device.name, Device.id).limit(limit + 1)
    if location_id:
        query = query.where(Device.location_id == location_id)
    if kind:
        query = query.where(Device.kind == kind)
    if after:
        query = query.where(tuple_(Device.name, Device.id) > after)
    return db.session.scalars(query).all()
