"""How many SQL statements a call costs: the same however much it answers."""

from uuid import uuid4

import pytest

from tests.clinic import Caller, Clinic, Statements, day_after


def cost(statements: Statements, caller: Caller, path: str, **query: object) -> tuple[int, int]:
    """How many items the answer has, and how many statements it took."""
    statements.clear()
    answer = caller.get(path, **query)
    assert answer.status_code == 200, answer.text
    return len(answer.get_json()["items"]), statements.count


class TestSlots:
    """A search is one statement, after the caller's."""

    def test_a_month_of_one_clinician_takes_two(self, clinic: Clinic, statements: Statements) -> None:
        clinician, kind = clinic.clinician(), clinic.appointment_type()
        clinic.hours(clinician)
        asked = {"appointment_type_id": kind["id"], "clinician_id": clinician.id, "limit": 200}
        items, count = cost(statements, clinic.admin, "/slots", from_=day_after(1), to=day_after(31), **asked)
        assert (items, count) == (200, 2)

    def test_fifty_clinicians_take_as_many_as_one(self, clinic: Clinic, statements: Statements) -> None:
        kind = clinic.appointment_type()
        ids = []
        for _ in range(50):
            clinician = clinic.clinician()
            clinic.hours(clinician, start_time="09:00", end_time="10:00")
            ids.append(clinician.id)
        asked = {"appointment_type_id": kind["id"], "from_": day_after(1), "limit": 200}
        one = cost(statements, clinic.admin, "/slots", to=day_after(2), clinician_id=ids[0], **asked)
        fifty = cost(statements, clinic.admin, "/slots", to=day_after(31), clinician_id=ids, **asked)
        everybody = cost(statements, clinic.admin, "/slots", to=day_after(31), **asked)
        assert (one, fifty, everybody) == ((2, 2), (200, 2), (200, 2))


class TestBooking:
    """A booking is ten at most; another time for it three more, which look who waits for the old one."""

    def test_with_an_idempotency_key(self, clinic: Clinic, statements: Statements) -> None:
        clinician, kind, patient = clinic.clinician(), clinic.appointment_type(), clinic.patient()
        clinic.hours(clinician)
        body = clinic.booking(patient, clinician, kind, day_after(3, "09:00"))
        statements.clear()
        booked = clinic.admin.post("/appointments", body, Idempotency_Key=str(uuid4()))
        assert booked.status_code == 201
        assert statements.count <= 11

    def test_another_time_for_it(self, clinic: Clinic, statements: Statements) -> None:
        clinician, kind, patient = clinic.clinician(), clinic.appointment_type(), clinic.patient()
        clinic.hours(clinician)
        booked = clinic.appointment(patient, clinician, kind, day_after(3, "09:00"))
        statements.clear()
        moved = clinic.admin.post(f"/appointments/{booked['id']}/reschedule", {"start": day_after(3, "09:15")})
        assert moved.status_code == 200
        assert statements.count <= 14


class TestLists:
    """A list of many costs as much as a list of one."""

    @pytest.fixture
    def full(self, clinic: Clinic) -> Clinic:
        """A clinic with twelve of everything."""
        clinician, patient = clinic.clinician(), clinic.patient()
        clinic.hours(clinician)
        for number in range(11):
            clinic.appointment_type()
            clinic.hours(clinician, every_weeks=number + 2)
        kind = clinic.appointment_type(duration_minutes=15)
        for number in range(12):
            clinic.appointment(
                patient if number % 2 else clinic.patient(),
                clinician,
                kind,
                day_after(3, f"{9 + number // 4:02}:{number % 4 * 15:02}"),
            )
        return clinic

    @pytest.mark.parametrize("path", ["/appointments", "/availabilities", "/appointment-types"])
    def test_of_diaries(self, full: Clinic, statements: Statements, path: str) -> None:
        few = cost(statements, full.admin, path, limit=1)
        many = cost(statements, full.admin, path, limit=200)
        assert (few[0], many[0]) == (1, 12)
        assert few[1] == many[1] <= 4

    def test_the_history_of_an_appointment(self, full: Clinic, statements: Statements) -> None:
        appointment = full.admin.get("/appointments", limit=1).get_json()["items"][0]
        path = f"/appointments/{appointment['id']}"
        few = cost(statements, full.admin, f"{path}/history")
        for at in ("12:00", "13:00", "14:00"):
            assert full.admin.post(f"{path}/reschedule", {"start": day_after(3, at)}).status_code == 200
        many = cost(statements, full.admin, f"{path}/history")
        assert (few[0], many[0]) == (1, 4)
        assert few[1] == many[1] <= 5
