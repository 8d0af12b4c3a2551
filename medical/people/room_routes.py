"""Rooms and devices over HTTP."""

from uuid import UUID

from flask import Blueprint

from medical.audit.events import Action
from medical.people import rooms as verbs
from medical.people.errors import DeviceExists, RoomExists
from medical.people.permissions import Permission
from medical.people.room_schemas import CreateDevice, CreateRoom, DeviceOut, DeviceQuery, RoomOut, RoomQuery
from medical.platform.errors import NotFound
from medical.platform.http import endpoint
from medical.platform.paging import Page, page_of, read_cursor

rooms = Blueprint("rooms", __name__, url_prefix="/api/v1/rooms")
devices = Blueprint("devices", __name__, url_prefix="/api/v1/devices")


@endpoint(
    rooms.post(""),
    permission=Permission.LOCATION_CREATE,
    body=CreateRoom,
    returns=(201, RoomOut),
    errors=[NotFound, RoomExists],
    audit=Action.ROOM_CREATED,
    idempotent=True,
    etag=True,
)
def create_room(body: CreateRoom) -> RoomOut:
    """Add a room to a site."""
    return RoomOut.of(verbs.create_room(**body.arguments()))


@endpoint(rooms.get(""), permission=Permission.LOCATION_READ, query=RoomQuery, returns=(200, Page[RoomOut]))
def list_rooms(query: RoomQuery) -> Page[RoomOut]:
    """List rooms, ordered by name, id."""
    rows = verbs.list_rooms(query.location_id, query.limit, read_cursor(query.cursor, tuple[str, UUID]))
    return page_of(rows, query.limit, RoomOut.of, lambda room: (room.name, room.id))


@endpoint(rooms.get("/<uuid:room_id>"), permission=Permission.LOCATION_READ, returns=(200, RoomOut), etag=True)
def get_room(room_id: UUID) -> RoomOut:
    """Read a room."""
    return RoomOut.of(verbs.get_room(room_id))


@endpoint(
    devices.post(""),
    permission=Permission.LOCATION_CREATE,
    body=CreateDevice,
    returns=(201, DeviceOut),
    errors=[NotFound, DeviceExists],
    audit=Action.DEVICE_CREATED,
    idempotent=True,
    etag=True,
)
def create_device(body: CreateDevice) -> DeviceOut:
    """Add a device to a site."""
    return DeviceOut.of(verbs.create_device(**body.arguments()))


@endpoint(devices.get(""), permission=Permission.LOCATION_READ, query=DeviceQuery, returns=(200, Page[DeviceOut]))
def list_devices(query: DeviceQuery) -> Page[DeviceOut]:
    """List devices, ordered by name, id."""
    after = read_cursor(query.cursor, tuple[str, UUID])
    rows = verbs.list_devices(query.location_id, query.kind, query.limit, after)
    return page_of(rows, query.limit, DeviceOut.of, lambda device: (device.name, device.id))


@endpoint(devices.get("/<uuid:device_id>"), permission=Permission.LOCATION_READ, returns=(200, DeviceOut), etag=True)
def get_device(device_id: UUID) -> DeviceOut:
    """Read a device."""
    return DeviceOut.of(verbs.get_device(device_id))
