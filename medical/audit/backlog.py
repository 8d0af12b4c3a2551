"""How far the sealing of the trail is behind: what an operator is warned by."""

from collections.abc import Iterator
from datetime import datetime

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.engine import Connection

from medical.platform import clock
from medical.platform.metrics import Measured

BACKLOG = text("SELECT events, oldest_at, position FROM audit_backlog()")


class Waiting(Struct, frozen=True):
    """Events that wait for their seal (10,000 stands for more), since when, and where the chain ends."""

    events: int
    oldest_at: datetime | None
    position: int


def waiting(connection: Connection) -> Waiting:
    """What waits now, of all organisations; needs the scope of none."""
    return Waiting(*connection.execute(BACKLOG).one())


def measured(connection: Connection) -> Iterator[Measured]:
    """The same as metrics."""
    found = waiting(connection)
    age = (clock.now() - found.oldest_at).total_seconds() if found.oldest_at else 0.0
    yield Measured("medical_audit_unsealed_events", "Events that wait for their seal, 10000 at most.", found.events)
    yield Measured("medical_audit_unsealed_oldest_seconds", "Age of the oldest of them.", max(age, 0.0))
    yield Measured("medical_audit_sealed_position", "Events that have a place in the chain.", found.position)
