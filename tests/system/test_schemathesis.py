"""Machine-made calls of every operation of the OpenAPI document, and whether the answers keep its word.

The calls are the same in every run. Some are valid, some wrong on purpose; some name things that exist.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import islice
from typing import Any
from uuid import UUID

import psycopg
import pytest
import schemathesis
from flask import Flask
from schemathesis import Case
from schemathesis.checks import load_all_checks
from schemathesis.pytest.lazy import get_all_tests

from medical.identity.permissions import Role
from tests.clinic import Clinic, day_after
from tests.conftest import psycopg_url
from tests.system.test_access import SMART_APP

EXAMPLES = 5
"""Per operation and kind of caller."""
LIMITS = "LIMITS" in os.environ
"""Whether each limit of the schema is tried besides, which takes twice as long: `LIMITS=1 make test`."""

BY_A_STRANGER, WITH_ANY_IDS = 8, 20
"""So many calls of each operation are made without a token too, to whom it makes no difference what they ask for; and
so many with ids of nothing."""

CONFIG: dict[str, Any] = {
    "generation": {"max-examples": EXAMPLES, "deterministic": True, "database": "none", "no-shrink": True},
    "phases": {"stateful": {"enabled": False}, "coverage": {"enabled": LIMITS}},
    "warnings": False,
    # A cursor, a zone, a key used before: only the program knows that these are wrong.
    "checks": {"positive_data_acceptance": {"enabled": False}},
}


@pytest.fixture(scope="module")
def api(app: Flask, open_clinic: Clinic) -> Any:
    """The document, as the program serves it."""
    return schemathesis.openapi.from_wsgi("/api/openapi.json", app, config=schemathesis.Config.from_dict(CONFIG))


def is_id(value: object) -> bool:
    """Whether it has the form of an id."""
    try:
        return isinstance(value, str) and str(UUID(value)) == value
    except ValueError:
        return False


STAFF = [role for role in Role if role is not Role.PATIENT]
MOVES = (
    "cancel",
    "reschedule",
    "check-in",
    "start",
    "complete",
    "no-show",
    "arrive",
    "approve",
    "decline",
    "reinstate",
    "enter-in-error",
)
DEPENDENT = {f"POST /api/v1/appointments/{{appointment_id}}/{move}" for move in MOVES} | {
    "POST /api/v1/appointments",
    "POST /api/v1/appointments/overbook",
    "POST /api/v1/calendar-feeds",
    "DELETE /api/v1/calendar-feeds/{feed_id}",
    "GET /api/v1/calendars/{secret}.ics",
    "POST /api/v1/holds",
    "DELETE /api/v1/holds/{hold_id}",
    "POST /api/v1/series",
    "POST /api/v1/series/{series_id}/reschedule",
    "POST /api/v1/series/{series_id}/cancel",
    "POST /api/v1/waitlist",
    "POST /api/v1/waitlist/{entry_id}/accept",
    "POST /api/v1/waitlist/{entry_id}/decline",
    "POST /api/v1/waitlist/{entry_id}/withdraw",
    "POST /api/v1/auth/login",
    "POST /api/v1/auth/refresh",
    "POST /api/v1/auth/register",
    "POST /api/v1/auth/step-up",
    "POST /api/v1/me/password",
    "POST /api/v1/me/otp/confirm",
    "POST /api/v1/me/otp/recovery-codes",
    "DELETE /api/v1/me/otp",
    "DELETE /api/v1/me/sessions/{session_id}",
    "DELETE /api/v1/users/{user_id}/otp",
    "POST /api/v1/clinicians",
    "POST /api/v1/service-clients",
    "POST /api/v1/service-clients/{client_id}/rotate-secret",
    "POST /api/v1/users",
    "POST /api/v1/patients/{patient_id}/merges",
    "POST /api/v1/patients/{patient_id}/merges/{merge_id}/undo",
    "POST /api/v1/smart-apps",
    "POST /api/v1/smart-apps/{app_id}/launches",
    "POST /api/v1/smart-apps/{app_id}/rotate-secret",
    "GET /oauth/authorize",
    "POST /oauth/authorize",
    "POST /oauth/authorize/decision",
    "POST /oauth/introspect",
    "POST /oauth/revoke",
    "POST /oauth/token",
    "DELETE /api/v1/availabilities/{availability_id}",
    "POST /api/v1/patients/{patient_id}/care-relationships",
    "POST /api/v1/patients/{patient_id}/care-relationships/{relationship_id}/end",
    "POST /api/v1/patients/{patient_id}/proxies",
    "POST /api/v1/patients/{patient_id}/proxies/{proxy_id}/approve",
    "POST /api/v1/patients/{patient_id}/proxies/{proxy_id}/revoke",
    "POST /api/v1/patients/{patient_id}/vitals",
    "POST /api/v1/patients/{patient_id}/notes",
    "GET /api/v1/patients/{patient_id}/notes/{note_id}",
    "POST /api/v1/patients/{patient_id}/notes/{note_id}/sign",
    "POST /api/v1/patients/{patient_id}/notes/{note_id}/amend",
    "POST /api/v1/patients/{patient_id}/reconciliation",
    "POST /api/v1/break-glass/{grant_id}/review",
    "GET /api/v1/access/explain",
    "GET /api/v1/slots/explain",
    "POST /api/v1/openings",
    "POST /api/v1/time-offs",
    "PUT /api/v1/locations/{location_id}/holiday-calendar",
    "GET /api/v1/locations/{location_id}/holiday-calendar",
    "DELETE /api/v1/locations/{location_id}/holiday-calendar",
    "DELETE /api/v1/locations/{location_id}/holidays/{holiday_id}",
    "DELETE /api/v1/openings/{opening_id}",
    "DELETE /api/v1/time-offs/{time_off_id}",
}
"""Operations that need a free time, a password, a name, an unused email or a state, which random calls rarely meet."""


@pytest.fixture(scope="module", autouse=True)
def afterwards_nobody_is_throttled(database_url: str) -> Iterator[None]:
    """Many wrong sign-ins come from here, and other tests sign in from the same address."""
    yield
    with psycopg.connect(psycopg_url(database_url)) as connection:
        connection.execute("DELETE FROM sign_in_throttle")


class Furnished:
    """A clinic with something behind each kind of id."""

    def __init__(self, app: Flask) -> None:
        self.clinic = Clinic(app)
        doctor, kind, patient = (
            self.clinic.clinician(time_zone="UTC"),
            self.clinic.appointment_type(),
            self.clinic.patient(),
        )
        hours, site = self.clinic.hours(doctor), self.clinic.location()
        far = {"clinician_id": doctor.id, "start": day_after(300), "end": day_after(300, "10:00")}
        booked = self.clinic.appointment(patient, doctor, kind, day_after(7, "10:00"))
        self.ids = {
            "user_id": self.clinic.user().id,
            "clinician_id": doctor.id,
            "location_id": site["id"],
            "room_id": self.clinic.room(site)["id"],
            "device_id": self.clinic.device(site)["id"],
            "opening_id": self.made("/openings", far),
            "time_off_id": self.made("/time-offs", far),
            "holiday_id": self.made(f"/locations/{site['id']}/holidays", {"day": "2100-05-01", "name": "Outing"}),
            "patient_id": patient["id"],
            "type_id": kind["id"],
            "appointment_type_id": kind["id"],
            "availability_id": hours["id"],
            "appointment_id": booked["id"],
            "entry_id": self.made(
                "/waitlist",
                {"patient_id": patient["id"], "appointment_type_id": kind["id"]}
                | {"from": day_after(20), "to": day_after(21)},
            ),
            "series_id": self.made(
                "/series",
                self.clinic.booking(patient, doctor, kind, day_after(8, "10:00")) | {"frequency": "weekly", "count": 2},
            ),
            "feed_id": self.made("/calendar-feeds", {"clinician_id": doctor.id}),
            "client_id": self.clinic.client()["client_id"],
            "app_id": self.clinic.admin.post("/smart-apps", SMART_APP).get_json()["client_id"],
        }
        self.everything = self.clinic.user(*STAFF)

    def made(self, path: str, body: dict[str, Any]) -> str:
        """The id of what was made."""
        answer = self.clinic.admin.post(path, body)
        assert answer.status_code == 201, answer.text
        return str(answer.get_json()["id"])

    def headers(self, case: Case[Any]) -> dict[str, str]:
        """Those of somebody who may do everything; with a sign-in of its own where the call may end it."""
        caller = self.everything
        if "/me/" in case.path or case.path.endswith(("/logout", "/auth/step-up")):
            caller = self.clinic.user(*STAFF)
        return {"Authorization": f"Bearer {caller.token}"}

    def name_known_things(self, case: Case[Any]) -> None:
        """Put ids of things that exist where the case has some id, and a day that can be searched where it has one."""
        if isinstance(case.query, dict) and case.operation.label == "GET /api/v1/slots" and case.query.get("from"):
            case.query.pop("cursor", None)  # one that was made up leads nowhere
            case.query |= {"from": day_after(7), "to": day_after(8)}
        for part in (case.path_parameters, case.query, case.body):
            if isinstance(part, dict):
                for name in part.keys() & self.ids.keys():
                    if is_id(part[name]):
                        part[name] = self.ids[name]


@pytest.fixture
def furnished(app: Flask) -> Furnished:
    """One of the test's own: its calls are the same as another's, and would find everything there already."""
    return Furnished(app)


PARTS = 4
"""So many tests share the operations, for as many workers."""


def run(api: Any, part: int, subtests: pytest.Subtests, act: Callable[[Case[Any]], object]) -> None:
    """Let ``act`` make every call of one part of the operations.

    The plugin's own ``parametrize`` needs the application before there is one, and its ``from_fixture``
    breaks on pytest 9; this is what the latter does.
    """
    load_all_checks()

    def test(case: Case[Any]) -> None:
        act(case)

    own = api.exclude(path_regex="^/fhir/")  # what a resource may be, the document does not say
    operations = get_all_tests(schema=own, test_func=test, settings=None, given_kwargs={})
    for made in islice(operations, part, None, PARTS):
        operation, calls = made.ok()  # type: ignore[union-attr]  # the document is valid
        with subtests.test(operation.label):
            calls()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_everybody_gets_what_the_document_says(
    api: Any, furnished: Furnished, subtests: pytest.Subtests, part: int
) -> None:
    """No failure, and no status, header or shape that is not documented.

    Calls are made without a token, which gets 401 before any word on the input; by somebody who may do
    everything, with ids behind which there is something, so that calls succeed too; and by them, whatever the ids.
    """
    succeeded: dict[str, bool] = {}
    calls: Counter[str] = Counter()

    def act(case: Case[Any]) -> None:
        if (count := calls[case.operation.label]) < BY_A_STRANGER:
            stranger = case.call_and_validate()
            if case.operation.definition.raw["security"]:
                assert stranger.status_code in (401, 404, 405), "404 and 405 for a path or method that is none"
        calls[case.operation.label] = count + 1
        made_up = deepcopy((case.path_parameters, case.query, case.body))
        furnished.name_known_things(case)
        known = (case.path_parameters, case.query, case.body)
        answer = case.call_and_validate(headers=furnished.headers(case))
        if known != made_up and count < WITH_ANY_IDS:
            case.path_parameters, case.query, case.body = made_up
            case.call_and_validate(headers=furnished.headers(case))
        succeeded[case.operation.label] = succeeded.get(case.operation.label, False) or answer.status_code < 300

    run(api, part, subtests, act)
    assert {label for label, once in succeeded.items() if not once} <= DEPENDENT
