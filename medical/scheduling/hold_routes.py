"""Holds over HTTP."""

from uuid import UUID

from flask import Blueprint

from medical.audit.events import Action
from medical.platform.authz import current_actor
from medical.platform.errors import NotFound
from medical.platform.http import endpoint
from medical.scheduling import holds
from medical.scheduling.errors import (
    BeyondHorizon,
    DeviceTaken,
    NoHoldInGroups,
    NotYourDiary,
    OutsideAvailability,
    RoomTaken,
    SlotTaken,
    TooManyHolds,
    TooSoon,
)
from medical.scheduling.permissions import Permission
from medical.scheduling.schemas import HoldOut, PlaceHold

bp = Blueprint("holds", __name__, url_prefix="/api/v1/holds")


HOLD_REFUSALS = [
    TooSoon,
    BeyondHorizon,
    OutsideAvailability,
    SlotTaken,
    RoomTaken,
    DeviceTaken,
    NoHoldInGroups,
    TooManyHolds,
]


@endpoint(
    bp.post(""),
    permission=Permission.APPOINTMENT_BOOK,
    body=PlaceHold,
    returns=(201, HoldOut),
    errors=[
        NotFound,
        NotYourDiary,
        TooSoon,
        BeyondHorizon,
        OutsideAvailability,
        SlotTaken,
        TooManyHolds,
        NoHoldInGroups,
    ],
    audit=Action.HOLD_PLACED,
    idempotent=True,
)
def place_hold(body: PlaceHold) -> HoldOut:
    """Hold a free time for five minutes, while nobody else can book it."""
    return HoldOut.of(holds.place(current_actor(), **body.arguments()))


@endpoint(
    bp.delete("/<uuid:hold_id>"),
    permission=Permission.APPOINTMENT_BOOK,
    returns=(204, None),
    audit=Action.HOLD_RELEASED,
)
def give_up_hold(hold_id: UUID) -> None:
    """Give a hold of one's own up."""
    holds.give_up(current_actor(), hold_id)
