"""Reading the trail: what is asked of it, and by whom it may be."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import Row

from medical.audit import backlog, queries, service
from medical.audit.verifier import Problem, Record, Verification, is_signed
from medical.platform.authz import Actor
from medical.platform.db import db, unattended
from medical.platform.errors import NotFound

AUDITOR = "auditor"

MOST_LINKS = 10_000
"""Places of the chain that one request verifies at most."""
END = 2**53
"""Behind every place of the chain, and a number that is one in JSON."""


class Verified(Struct, frozen=True):
    """What a verification of a part of the trail found."""

    first_position: int | None
    last_position: int | None
    seals: int
    own_events: int
    head: str | None
    sealed_at: datetime | None
    public_keys: list[str]
    waiting: int
    problems: int
    first_problem: Problem | None
    next_before: int | None
    """Where the part before this one ends, if there is one."""


def list_accesses(
    actor: Actor, patient_id: UUID, limit: int, after: tuple[datetime, UUID] | None
) -> Sequence[Row[Any]]:
    """Who saw or changed a record, newest first: patients of their own, auditors of anybody's.

    Auditors also see what was refused for other reasons. Raises ``NotFound``.
    """
    service.touch("patient", patient_id, patient_id=patient_id)
    audits = AUDITOR in actor.roles and queries.is_our_patient(patient_id)
    if not audits and not queries.is_own_patient(actor.user_id, patient_id):
        raise NotFound
    with unattended():  # names and reasons that patients do not otherwise see
        return queries.list_accesses(patient_id, everything=audits, limit=limit, after=after)


def verify(before: int, seals: int) -> Verified:
    """Verify the last ``seals`` before a place of the chain, or as many of them as one request takes.

    Signatures, chain and roots of all; events of the present organisation in full; of other organisations that
    they are there and have the digest that was sealed.
    """
    found = queries.last_seals(before, seals + 1)
    known, window = _split(found, seals)
    problems, verification, own = [], Verification(blind=True, after=known), 0
    if window:
        first, last = window[0]["first_position"], window[-1]["last_position"]
        chain = queries.links(first, last)
        own = sum(link["events"] is not None for link in chain)
        problems = [*verification.problems(_records(chain, window)), *_gone(chain, queries.gaps(first, last))]
    if known and not is_signed(known):
        problems.append(Problem("bad signature", f"seal {known['number']} was changed", known["first_position"]))
    return Verified(
        first_position=window[0]["first_position"] if window else None,
        last_position=window[-1]["last_position"] if window else None,
        seals=len(window),
        own_events=own,
        head=window[-1]["head"] if window else None,
        sealed_at=datetime.fromisoformat(window[-1]["sealed_at"]) if window else None,
        public_keys=sorted({seal["key_id"] for seal in window}),
        waiting=backlog.waiting(db.session.connection()).events,
        problems=len(problems),
        first_problem=min(problems, key=lambda problem: problem.position or END, default=None),
        next_before=window[0]["first_position"] if known else None,
    )


def _split(found: list[Record], seals: int) -> tuple[Record | None, list[Record]]:
    """The seal before the part that is verified, if there is one, and the seals of that part in their order."""
    window: list[Record] = []
    for seal in found[:seals]:
        if window and window[0]["last_position"] - seal["first_position"] >= MOST_LINKS:
            break
        window.insert(0, seal)
    known = found[len(window)] if len(found) > len(window) else None
    return known, window


def _records(chain: list[Record], seals: list[Record]) -> Iterator[Record]:
    """Links and seals as a dump has them."""
    rest = iter(chain)
    link = next(rest, None)
    for seal in seals:
        while link and link["position"] <= seal["last_position"]:
            yield link
            link = next(rest, None)
        yield seal
    yield {"kind": "end", "links": len(chain), "seals": len(seals), "events": 0, "searches": 0}


def _gone(chain: list[Record], gaps: set[int]) -> Iterator[Problem]:
    """Events that are missing, or that another organisation would find changed."""
    for link in chain:
        if link["position"] in gaps and link["events"] is None:
            yield Problem("deleted", "the event of this place is gone, or is another one", link["position"])
