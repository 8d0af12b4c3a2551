"""A diary of one day on paper: what the whole engine should do, in plain Python that shares no code with it.

Minutes are counted from midnight. People and things are numbers; who books is always the same desk.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

CLINICIANS, PATIENTS = 2, 3
OPEN = range(9 * 60, 12 * 60)
GRID = 15
GRACE, HELD_FOR, OFFERED_FOR = 10, 5, 120

MOVES = {
    "approve": ("requested", "booked"),
    "decline": ("requested", "cancelled"),
    "arrive": ("booked", "arrived"),
    "check-in": ("booked arrived", "checked_in"),
    "start": ("checked_in", "in_progress"),
    "complete": ("arrived checked_in in_progress", "fulfilled"),
    "no-show": ("booked", "no_show"),
    "cancel": ("requested booked arrived checked_in", "cancelled"),
    "reinstate": ("cancelled no_show", "booked"),
    "enter-in-error": ("booked fulfilled no_show", "entered_in_error"),
}
OFF = {"cancelled", "no_show", "entered_in_error"}

Codes = set[str]


@dataclass(frozen=True)
class Kind:
    """A type of visit."""

    name: str
    minutes: int = 30
    before: int = 0
    after: int = 0
    notice: int = 0
    approval: bool = False
    room: bool = False
    a_day: int | None = None

    def lasts(self, start: int) -> range:
        """The time of a visit."""
        return range(start, start + self.minutes)

    def takes(self, start: int) -> range:
        """The same with its buffers."""
        return range(start - self.before, start + self.minutes + self.after)


@dataclass(eq=False)
class Claimant:
    """Whoever has a clinician's time: a visit, or a hold until its end."""

    clinician: int
    kind: Kind
    start: int
    patient: int | None = None
    status: str = "held"
    until: int | None = None
    room: bool = False


@dataclass(eq=False)
class Entry:
    """A patient who waits."""

    patient: int
    kind: Kind
    waiting: bool = True
    offer: Claimant | None = None
    offered: set[tuple[int, int]] = field(default_factory=set)


class Paper:
    """The diary. What is refused gives the codes and changes nothing; what is done gives none."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.visits: list[Claimant] = []
        self.holds: list[Claimant] = []
        self.off: list[tuple[int, range]] = []
        self.extra: list[tuple[int, range]] = []
        self.entries: list[Entry] = []

    def is_open(self, clinician: int, time: range) -> bool:
        """Whether the clinician works all the time."""
        works = {*OPEN} | {minute for one, span in self.extra if one == clinician for minute in span}
        away = {minute for one, span in self.off if one == clinician for minute in span}
        return works - away >= {*time}

    def live(self) -> Iterator[Claimant]:
        """All that have time now."""
        yield from (visit for visit in self.visits if visit.status not in OFF)
        yield from (hold for hold in self.holds if self.is_held(hold))

    def is_held(self, hold: Claimant) -> bool:
        """Whether the hold is there and has not expired."""
        return hold in self.holds and hold.until is not None and self.now < hold.until

    def busy(self, wanted: Claimant, but: Claimant | None = None) -> Codes:
        """Whose time is taken."""
        codes, takes = set(), wanted.kind.takes(wanted.start)
        for other in self.live():
            if other is but:
                continue
            if meet(takes, other.kind.takes(other.start)):
                codes |= {"slot_taken"} if other.clinician == wanted.clinician else set()
                codes |= {"room_taken"} if wanted.room and other.room else set()
            if other.patient == wanted.patient is not None and meet(
                wanted.kind.lasts(wanted.start), other.kind.lasts(other.start)
            ):
                codes.add("patient_busy")
        return codes

    def against(self, wanted: Claimant, but: Claimant | None = None) -> Codes:
        """Everything in the way of a time."""
        codes = self.busy(wanted, but)
        if not self.is_open(wanted.clinician, wanted.kind.lasts(wanted.start)):
            codes = codes - {"room_taken"} | {"outside_availability"}
        if wanted.start < self.now + wanted.kind.notice:
            codes.add("too_soon")
        return codes | self.limits(wanted, but)

    def limits(self, wanted: Claimant, but: Claimant | None = None) -> Codes:
        """Whether the clinician has enough of these visits."""
        same = [
            visit
            for visit in self.visits
            if visit is not but and visit.status not in OFF
            if (visit.kind, visit.clinician) == (wanted.kind, wanted.clinician)
        ]
        return {"day_full"} if wanted.kind.a_day is not None and len(same) >= wanted.kind.a_day else set()

    def free(self, kind: Kind) -> set[tuple[int, int]]:
        """Clinician and start of all that can be booked, whoever's it were; the day's limit aside."""
        return {
            (clinician, start)
            for clinician in range(CLINICIANS)
            for start in range(0, 24 * 60, GRID)
            if not self.against(Claimant(clinician, kind, start, room=kind.room)) - {"day_full"}
        }

    def book(self, clinician: int, patient: int, kind: Kind, start: int) -> Codes:
        """A visit."""
        visit = Claimant(clinician, kind, start, patient, "requested" if kind.approval else "booked", room=kind.room)
        codes = self.against(visit)
        if not codes:
            self.visits.append(visit)
        return codes

    def hold(self, clinician: int, kind: Kind, start: int) -> Codes:
        """Keep a time for a moment; a day's limit is looked at when it is booked."""
        hold = Claimant(clinician, kind, start, until=self.now + HELD_FOR, room=kind.room)
        if sum(map(self.is_held, self.holds)) - sum(bool(entry.offer) for entry in self.offering()) >= 5:
            return {"too_many_holds"}
        codes = self.against(hold) - {"day_full"}
        if not codes:
            self.holds.append(hold)
        return codes

    def book_held(self, hold: Claimant, patient: int) -> Codes:
        """A visit at the time of the hold, which ends by it."""
        kind, held = hold.kind, self.is_held(hold)
        status = "requested" if kind.approval else "booked"
        visit = Claimant(hold.clinician, kind, hold.start, patient, status, room=kind.room)
        codes = self.against(visit, but=hold)
        if not held and not codes & {"too_soon", "outside_availability", "room_taken"}:
            codes.add("hold_expired")
        if not codes:
            self.holds.remove(hold)
            self.visits.append(visit)
        return codes

    def act(self, visit: Claimant, act: str) -> Codes:
        """Another status."""
        sources, to = MOVES[act]
        if visit.status not in sources.split():
            return {"invalid_transition"}
        if act == "no-show" and self.now < visit.start + GRACE:
            return {"too_early"}
        if act == "reinstate" and (codes := self.busy(visit)):
            return codes
        visit.status = to
        if to in OFF:
            self.offer(visit.clinician, visit.start)
        return set()

    def move(self, visit: Claimant, clinician: int, start: int) -> Codes:
        """Another time, or clinician."""
        if visit.status != "booked":
            return {"invalid_transition"}
        codes = self.against(Claimant(clinician, visit.kind, start, visit.patient, room=visit.room), but=visit)
        if not codes:
            old = visit.clinician, visit.start
            visit.clinician, visit.start = clinician, start
            self.offer(*old)
        return codes

    def wait(self, patient: int, kind: Kind) -> Codes:
        """For any time of the day with anybody."""
        if any(entry.waiting and (entry.patient, entry.kind) == (patient, kind) for entry in self.entries):
            return {"already_waiting"}
        self.entries.append(Entry(patient, kind))
        return set()

    def offering(self) -> Sequence[Entry]:
        """Those to whom a time is offered."""
        return [entry for entry in self.entries if entry.waiting and entry.offer and self.is_held(entry.offer)]

    def offer(self, clinician: int, start: int) -> None:
        """A time that is free again goes to who waits longest and can have it, once."""
        for entry in self.entries if start > self.now else ():
            if not entry.waiting or entry in self.offering() or (clinician, start) in entry.offered:
                continue
            visit = Claimant(clinician, entry.kind, start, entry.patient, room=entry.kind.room)
            if not self.against(visit):
                entry.offer = Claimant(clinician, entry.kind, start, until=min(self.now + OFFERED_FOR, start))
                entry.offer.room = entry.kind.room
                entry.offered.add((clinician, start))
                self.holds.append(entry.offer)
                return

    def accept(self, entry: Entry) -> Codes:
        """Book what is offered."""
        if entry not in self.offering() or entry.offer is None:
            return {"offer_expired"}
        codes = self.book_held(entry.offer, entry.patient)
        entry.waiting = bool(codes)
        return codes

    def decline(self, entry: Entry) -> Codes:
        """Let it pass to the next."""
        if entry not in self.offering() or entry.offer is None:
            return {"offer_expired"}
        self.holds.remove(entry.offer)
        self.offer(entry.offer.clinician, entry.offer.start)
        return set()

    def withdraw(self, entry: Entry) -> Codes:
        """Wait no more."""
        if not entry.waiting:
            return {"not_waiting"}
        offering, entry.waiting = entry in self.offering(), False
        if offering and entry.offer:
            self.holds.remove(entry.offer)
            self.offer(entry.offer.clinician, entry.offer.start)
        return set()


def meet(one: range, other: range) -> bool:
    """Whether they have a minute in common."""
    return max(one.start, other.start) < min(one.stop, other.stop)
