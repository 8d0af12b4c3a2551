"""A practice: a clinician, a kind of visit, a patient and the desk."""

from typing import Any
from uuid import uuid4

from werkzeug.test import TestResponse

from medical.identity.permissions import Role
from medical.scheduling.models import Status
from tests.clinic import Caller, Clinic, day_after

WAY_TO = {
    Status.REQUESTED: [],
    Status.BOOKED: [],
    Status.ARRIVED: ["arrive"],
    Status.CHECKED_IN: ["check-in"],
    Status.IN_PROGRESS: ["check-in", "start"],
    Status.FULFILLED: ["check-in", "complete"],
    Status.NO_SHOW: ["no-show"],
    Status.CANCELLED: ["cancel"],
    Status.ENTERED_IN_ERROR: ["enter-in-error"],
}
ON_THE_DAY = {"arrive", "check-in", "no-show"}
WANTS_A_REASON = {"cancel", "decline", "reinstate", "enter-in-error"}
NOBODY = str(uuid4())


def code_of(answer: TestResponse) -> tuple[int, str]:
    """Status and code of a refusal."""
    return answer.status_code, answer.get_json()["code"]


class Practice:
    """A clinician who works from nine to five in UTC, a kind of visit, and the desk."""

    def __init__(self, clinic: Clinic) -> None:
        self.clinic = clinic
        self.desk = clinic.user(Role.RECEPTIONIST)
        self.clinician = clinic.clinician(time_zone="UTC")
        self.hours = clinic.hours(self.clinician)
        self.kind = clinic.appointment_type()
        self.patient = clinic.patient()

    def body(self, at: str = "09:00", day: int = 3, **given: Any) -> dict[str, Any]:
        """A booking."""
        return self.clinic.booking(self.patient, self.clinician, self.kind, day_after(day, at)) | given

    def book(self, at: str = "09:00", day: int = 3, **given: Any) -> TestResponse:
        """The desk books."""
        return self.desk.post("/appointments", self.body(at, day, **given))

    def booked(self, at: str = "09:00", day: int = 3, **given: Any) -> dict[str, Any]:
        """An appointment that the desk has booked."""
        answer = self.book(at, day, **given)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.get_json()
        return made

    def act(self, appointment: dict[str, Any], call: str, caller: Caller | None = None, **headers: str) -> TestResponse:
        """A call on an appointment, with a body where it takes one, at the end of its time where it is of the day."""
        caller, path = caller or self.clinic.admin, f"/appointments/{appointment['id']}/{call}"
        if call in ON_THE_DAY:
            with self.clinic.at(appointment.get("end", day_after(3))) as then:
                return then(caller).post(path, **headers)
        body = {"reason": "flu"} if call in WANTS_A_REASON else None
        return caller.post(path, {"start": day_after(3, "16:00")} if call == "reschedule" else body, **headers)

    def in_status(self, status: Status, at: str = "09:00") -> dict[str, Any]:
        """An appointment that has come to this status."""
        given = {}
        if status is Status.REQUESTED:
            given["appointment_type_id"] = self.clinic.appointment_type(needs_approval=True)["id"]
        appointment = self.booked(at, **given)
        for call in WAY_TO[status]:
            answer = self.act(appointment, call)
            assert answer.status_code == 200, answer.text
            appointment = answer.get_json()
        return appointment

    def free(self, day: int = 3) -> list[str]:
        """The free times of a day."""
        return [start[11:16] for start in self.clinic.free(self.kind, day_after(day), day_after(day + 1))]

    def read(self, appointment: dict[str, Any]) -> dict[str, Any]:
        """The appointment as it is now."""
        found: dict[str, Any] = self.clinic.admin.get(f"/appointments/{appointment['id']}").get_json()
        return found


def names_in_pages(caller: Caller, path: str, field: str, **query: Any) -> list[Any]:
    """One field of all items, read two at a time."""
    found, cursor = [], None
    while True:
        page = caller.get(path, limit=2, cursor=cursor, **query).get_json()
        found += [item[field] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            return found
