"""A month of appointments around today: the same people and outcomes every time, at times that are free."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from random import Random
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import insert, text

from medical.platform import clock
from medical.platform.db import db
from medical.platform.ids import new_id
from medical.scheduling import slots
from medical.scheduling.models import Allocation, Appointment, Status
from medical.scheduling.slots import Slot

Row = dict[str, Any]

DAYS_BACK, DAYS_AHEAD = 14, 16
VISITS_EACH = 2
"""So many a patient has in either half of the month."""
USUAL_OR_LONG = (80, 20)
REST = timedelta(hours=20)
"""A patient comes once a day at most."""

PAST = {Status.FULFILLED: 82, Status.NO_SHOW: 8, Status.CANCELLED: 10}
AHEAD = {Status.BOOKED: 90, Status.CANCELLED: 10}
HOLDS_NO_TIME = (Status.CANCELLED, Status.NO_SHOW)

REASONS = {
    "General practice": ["Annual check-up", "Cough that does not go away", "Repeat prescription", "Tiredness"],
    "Cardiology": ["Blood pressure check", "Palpitations", "Follow-up after ECG", "Short of breath on stairs"],
    "Orthopaedics": ["Knee pain", "Shoulder follow-up", "Back pain since moving house", "Cast removal"],
    "Dermatology": ["Mole check", "Rash on forearm", "Eczema follow-up", "Acne treatment review"],
}
WHY_CANCELLED = ["Patient is travelling", "Clinician is unwell", "Feels better", "Could not get off work"]

MOVE = text(
    """
    UPDATE appointment AS a
    SET status = given.status, status_reason = given.reason, version = a.version + 1
    FROM unnest(CAST(:ids AS uuid[]), CAST(:statuses AS text[]), CAST(:reasons AS text[])) AS given (id, status, reason)
    WHERE a.id = given.id
    """
)


class Visit(NamedTuple):
    """A patient at a time, and what becomes of it."""

    id: UUID
    kind_id: UUID
    patient_id: UUID
    slot: Slot
    status: Status


class Diary:
    """Who is where, so that nobody is in two places."""

    def __init__(self, home: Mapping[UUID, UUID]) -> None:
        """``home`` is the site that each patient goes to."""
        self._home = home
        self._taken: dict[UUID, list[Slot]] = defaultdict(list)
        self._visits: dict[UUID, list[datetime]] = defaultdict(list)

    def take(self, times: Iterable[Slot], patient_id: UUID) -> Slot | None:
        """The first of the times that suits the patient, now taken; None where none does."""
        for slot in times:
            if self._suits(slot, patient_id):
                self._taken[slot.clinician_id].append(slot)
                self._visits[patient_id].append(slot.start)
                return slot
        return None

    def _suits(self, slot: Slot, patient_id: UUID) -> bool:
        return (
            slot.location_id == self._home[patient_id]
            and all(slot.end <= other.start or other.end <= slot.start for other in self._taken[slot.clinician_id])
            and all(abs(slot.start - start) >= REST for start in self._visits[patient_id])
        )


def fill(types: Sequence[Row], doctors: Sequence[Row], patient_ids: Sequence[UUID]) -> int:
    """Add the appointments; how many. ``types`` are the usual kind of visit and the long one."""
    now = clock.now()
    times = {kind["id"]: _times(kind["id"], doctors, now) for kind in types}
    past = {kind: [slot for slot in open_ if slot.end <= now] for kind, open_ in times.items()}
    ahead = {kind: [slot for slot in open_ if slot.start > now] for kind, open_ in times.items()}
    diary = Diary(_homes(doctors, patient_ids))
    visits = _drawn(Random(1), diary, past, PAST, patient_ids) + _drawn(Random(2), diary, ahead, AHEAD, patient_ids)
    _add(visits, {doctor["id"]: doctor for doctor in doctors}, now)
    _move_on(visits)
    return len(visits)


def _homes(doctors: Sequence[Row], patient_ids: Sequence[UUID]) -> dict[UUID, UUID]:
    """The site of each patient; of three, two go to the first."""
    first, second, *_ = dict.fromkeys(doctor["location_id"] for doctor in doctors)
    return {patient_id: second if n % 3 == 2 else first for n, patient_id in enumerate(patient_ids)}


def _times(kind_id: UUID, doctors: Sequence[Row], now: datetime) -> list[Slot]:
    """When visits of this kind can begin in the month, by time and doctor."""
    begin = datetime.combine(now.date() - timedelta(days=DAYS_BACK), time(), UTC)
    found = slots.search(
        appointment_type_id=kind_id,
        start=begin,
        until=begin + timedelta(days=DAYS_BACK + DAYS_AHEAD + 1),
        clinician_ids=None,
        specialty=None,
        location_id=None,
        now=begin - timedelta(days=7),  # asked as if then, so that no time is too soon
        limit=100_000,
        after=None,
    )
    order = {doctor["id"]: number for number, doctor in enumerate(doctors)}
    return sorted(found or (), key=lambda slot: (slot.start, order[slot.clinician_id]))


def _drawn(
    random: Random,
    diary: Diary,
    times: Mapping[UUID, Sequence[Slot]],
    shares: Mapping[Status, int],
    patient_ids: Sequence[UUID],
) -> list[Visit]:
    """Visits of all patients in this half of the month; times are drawn last, for they depend on the day."""
    wanted = [
        (patient_id, random.choices(list(times), USUAL_OR_LONG)[0], random.choices([*shares], [*shares.values()])[0])
        for patient_id in random.sample(patient_ids, len(patient_ids)) * VISITS_EACH
    ]
    shuffled = {kind_id: random.sample(open_, len(open_)) for kind_id, open_ in times.items()}
    return [
        Visit(new_id(), kind_id, patient_id, slot, status)
        for patient_id, kind_id, status in wanted
        if (slot := diary.take(shuffled[kind_id], patient_id))
    ]


def _add(visits: Sequence[Visit], doctors: Mapping[UUID, Row], now: datetime) -> None:
    """Write the visits as booked, with claims on people's time for those that keep it."""
    random = Random(3)
    db.session.execute(
        insert(Appointment), [_appointment(random, visit, doctors[visit.slot.clinician_id], now) for visit in visits]
    )
    claims = [
        {"appointment_id": visit.id, "kind": kind, "bookable_id": who, "start_at": visit.slot.start, "end_at": end}
        for visit in visits
        if visit.status not in HOLDS_NO_TIME
        for end in [visit.slot.end]
        for kind, who in (("clinician", visit.slot.clinician_id), ("patient", visit.patient_id))
    ]
    db.session.execute(insert(Allocation), claims)


def _appointment(random: Random, visit: Visit, doctor: Row, now: datetime) -> Row:
    slot, zone = visit.slot, doctor["time_zone"]
    return {
        "id": visit.id,
        "patient_id": visit.patient_id,
        "clinician_id": slot.clinician_id,
        "appointment_type_id": visit.kind_id,
        "location_id": slot.location_id,
        "start_at": slot.start,
        "end_at": slot.end,
        "time_zone": zone,
        "local_start": slot.start.astimezone(ZoneInfo(zone)).replace(tzinfo=None),
        "reason": random.choice(REASONS[doctor["specialty"]]),
        "created_at": min(slot.start, now) - timedelta(days=random.randint(2, 20), minutes=random.randint(0, 600)),
    }


def _move_on(visits: Sequence[Visit]) -> None:
    """Let the visits become what they become, over the statuses between, so that each has its history."""
    random = Random(4)
    came = [visit.id for visit in visits if visit.status is Status.FULFILLED]
    moved = [visit for visit in visits if visit.status is not Status.BOOKED]
    whys = [random.choice(WHY_CANCELLED) if visit.status is Status.CANCELLED else None for visit in moved]
    first = {"ids": came, "statuses": [Status.CHECKED_IN] * len(came), "reasons": [None] * len(came)}
    second = {"ids": [visit.id for visit in moved], "statuses": [visit.status for visit in moved], "reasons": whys}
    db.session.execute(MOVE, first)
    db.session.execute(MOVE, second)
