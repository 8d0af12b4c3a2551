"""The calls that are measured, and what others need for them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import cycle
from zoneinfo import ZoneInfo

from tools.bench.clinic import ZONE, Ids, Size
from tools.bench.load import Ask, Connection

CALLERS = 8


@dataclass(frozen=True)
class Call:
    """A kind of call: what each caller asks for, and the aim in milliseconds of processor time, if there is one."""

    name: str
    asks: Callable[[Ids, int], Iterator[Ask]]
    aim: float | None = None
    medplum: float | None = None
    care: float | None = None
    seconds: float = 4.0
    program: bool = False
    """Whether a service client asks; else it is the administrator."""
    alone: bool = True
    """Whether its SQL can be run again by itself, so that there is a floor of it."""


def morning(days: int) -> str:
    """Midnight at the site, so many days ahead, in UTC."""
    today = datetime.now(ZoneInfo(ZONE)).replace(hour=0, minute=0, second=0, microsecond=0)
    return (today + timedelta(days=days)).astimezone(ZoneInfo("UTC")).strftime("%Y-%m-%dT%H:%M:%SZ")


def slots(days: int, clinicians: int | None, limit: int) -> Callable[[Ids, int], Iterator[Ask]]:
    """Free times of so many clinicians (None: of all) within so many days from tomorrow."""

    def asks(ids: Ids, caller: int) -> Iterator[Ask]:
        paths = []
        for n in range(20):
            chosen = [ids.clinicians[(caller * 20 + n + k) % len(ids.clinicians)] for k in range(clinicians or 0)]
            named = "".join(f"&clinician_id={one}" for one in chosen)
            span = f"from={morning(1)}&to={morning(1 + days)}"
            paths.append(f"/api/v1/slots?appointment_type_id={ids.kind}&{span}&limit={limit}{named}")
        return (("GET", path, None) for path in cycle(paths))

    return asks


def agenda(ids: Ids, caller: int) -> Iterator[Ask]:
    """All appointments of one day."""
    paths = [f"/api/v1/appointments?from={morning(day)}&to={morning(day + 1)}&limit=200" for day in range(1, 21)]
    return (("GET", path, None) for path in cycle(paths[caller:] + paths[:caller]))


def patient(ids: Ids, caller: int) -> Iterator[Ask]:
    """One patient after the other."""
    own = ids.patients[caller::CALLERS]
    return (("GET", f"/api/v1/patients/{one}", None) for one in cycle(own))


def search(ids: Ids, caller: int) -> Iterator[Ask]:
    """A family name, as it is typed."""
    names = ["mueller", "Schmidt", "okafor", "nguyen", "Rossi", "kowalsky", "garcia", "yilmaz"]
    return (("GET", f"/api/v1/patients?q={name}&limit=20", None) for name in cycle(names[caller:] + names[:caller]))


def login(_ids: Ids, caller: int) -> Iterator[Ask]:
    """Sign in, each caller with an account of their own."""
    roles = ["admin", "clinician", "nurse", "receptionist", "patient", "auditor"]
    role = roles[caller % len(roles)]
    body = {"email": f"{role}@demo.example", "password": f"demo {role} password"}
    return (("POST", "/api/v1/auth/login", body) for _ in cycle([None]))


CALLS = [
    Call("free times, 1 clinician × 1 day", slots(1, 1, 50), aim=1.0, medplum=1.9, care=34.6),
    Call("free times, 1 clinician × 30 days", slots(30, 1, 200), aim=2.5, medplum=11.8),
    Call("free times, 50 clinicians × 14 days, page of 200", slots(14, 50, 200)),
    Call("first available of all", slots(30, None, 1)),
    Call("agenda of a day", agenda, aim=2.0, medplum=6.9, care=122),
    Call("read a patient", patient, aim=1.0, medplum=0.9, care=18),
    Call("search patients, page of 20", search, aim=1.5, medplum=2.4),
    Call("sign in", login, seconds=3.0, alone=False),
]
BOOKING = Call("book distinct times", slots(1, 1, 1), aim=3.5, medplum=23.7, care=23.5)


def bookings(desk: Connection, ids: Ids, size: Size, count: int) -> list[list[Ask]]:
    """Bookings of distinct free times for patients who have none then, dealt out to the callers."""
    found: list[tuple[str, str]] = []
    for clinician in ids.clinicians:
        path = f"/api/v1/slots?appointment_type_id={ids.kind}&from={morning(1)}&to={morning(29)}&limit=200"
        _, answer = desk.call("GET", f"{path}&clinician_id={clinician}")
        found += [(clinician, slot["start"]) for slot in json.loads(answer)["items"]]
        if len(found) >= count:
            break
    asks: list[list[Ask]] = [[] for _ in range(CALLERS)]
    taken: set[tuple[str, str]] = set()
    free = ids.patients[size.drawn :]
    for number, (clinician, start) in enumerate(found[:count]):
        patient_id = next(one for one in free[number % len(free) :] + free if (one, start) not in taken)
        taken.add((patient_id, start))
        asks[number % CALLERS].append(("POST", "/api/v1/appointments", booking(ids, patient_id, clinician, start)))
    return asks


def booking(ids: Ids, patient_id: str, clinician: str, start: str) -> dict[str, str]:
    """The body of a booking."""
    return {
        "patient_id": patient_id,
        "clinician_id": clinician,
        "appointment_type_id": ids.kind,
        "start": start,
    }
