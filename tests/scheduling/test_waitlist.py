"""Whoever has waited longest is offered the time that frees, and then the next."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from werkzeug.test import TestResponse

from medical.identity.permissions import Role
from medical.platform.db import Scope, constraint_of, db, scoped
from medical.platform.ids import new_id
from medical.scheduling import upkeep, waitlist
from tests.clinic import Caller, Clinic, day_after
from tests.scheduling.practice import Practice, code_of
from tests.scheduling.racing import RACERS, Diary, tally


def join(practice: Practice, caller: Caller | None = None, **given: Any) -> TestResponse:
    """A patient of their own, unless given, waits for a time of the third day from now."""
    body = {"patient_id": given.pop("patient_id", None) or practice.clinic.patient()["id"]}
    body |= {"appointment_type_id": practice.kind["id"], "from": day_after(3), "to": day_after(4)}
    return (caller or practice.desk).post("/waitlist", body | given)


def waits(practice: Practice, **given: Any) -> dict[str, Any]:
    """An entry."""
    answer = join(practice, **given)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.get_json()
    return made


def offer_to(practice: Practice, entry: dict[str, Any]) -> dict[str, Any] | None:
    """What is offered to them."""
    answer = practice.desk.get(f"/waitlist/{entry['id']}")
    assert answer.status_code == 200
    found: dict[str, Any] | None = answer.get_json()["offer"]
    return found


def act(practice: Practice, entry: dict[str, Any], call: str, caller: Caller | None = None) -> TestResponse:
    """A call on an entry."""
    return (caller or practice.desk).post(f"/waitlist/{entry['id']}/{call}")


def freed(practice: Practice, at: str = "09:00", **given: Any) -> None:
    """A time that was booked is cancelled."""
    visit = practice.booked(at, **given)
    assert practice.act(visit, "cancel", practice.desk).status_code == 200


class TestOffer:
    """A time frees."""

    def test_goes_to_who_came_first(self, practice: Practice) -> None:
        first, second = waits(practice), waits(practice)
        assert offer_to(practice, first) is None
        freed(practice)
        offer = offer_to(practice, first)
        assert offer is not None
        assert (offer["clinician_id"], offer["start"], offer["end"]) == (
            practice.clinician.id,
            day_after(3, "09:00"),
            day_after(3, "09:30"),
        )
        assert offer_to(practice, second) is None

    def test_nobody_else_gets_it_meanwhile(self, practice: Practice) -> None:
        waits(practice)
        freed(practice)
        assert "09:00" not in practice.free()
        assert code_of(practice.book("09:00")) == (409, "slot_taken")

    def test_two_times_go_to_two(self, practice: Practice) -> None:
        first, second = waits(practice), waits(practice)
        freed(practice, "09:00")
        freed(practice, "10:00")
        offers = [offer_to(practice, entry) for entry in (first, second)]
        assert [offer["start"] for offer in offers if offer] == [day_after(3, at) for at in ("09:00", "10:00")]

    @pytest.mark.parametrize(
        "given",
        [
            {"from": day_after(4), "to": day_after(5)},
            {"from": day_after(3, "09:01")},
            {"to": day_after(3, "09:00")},
        ],
    )
    def test_not_to_who_waits_for_another_time(self, practice: Practice, given: dict[str, Any]) -> None:
        entry = waits(practice, **given)
        freed(practice)
        assert offer_to(practice, entry) is None
        assert "09:00" in practice.free()

    def test_not_to_who_waits_for_somebody_else(self, practice: Practice) -> None:
        colleague = practice.clinic.clinician(time_zone="UTC")
        other, ours = (
            waits(practice, clinician_ids=[colleague.id]),
            waits(practice, clinician_ids=[practice.clinician.id]),
        )
        freed(practice)
        assert offer_to(practice, other) is None
        assert offer_to(practice, ours) is not None

    def test_not_to_who_is_busy_then(self, practice: Practice) -> None:
        colleague = practice.clinic.clinician(time_zone="UTC")
        practice.clinic.hours(colleague)
        busy, free = practice.clinic.patient(), practice.clinic.patient()
        first, second = waits(practice, patient_id=busy["id"]), waits(practice, patient_id=free["id"])
        practice.booked("09:15", clinician_id=colleague.id, patient_id=busy["id"])
        freed(practice)
        assert offer_to(practice, first) is None
        assert offer_to(practice, second) is not None

    def test_not_for_a_visit_that_does_not_fit(self, practice: Practice) -> None:
        practice.booked("09:30")
        long = practice.clinic.appointment_type(duration_minutes=60)
        entry, short = waits(practice, appointment_type_id=long["id"]), waits(practice)
        freed(practice, patient_id=practice.clinic.patient()["id"])
        assert offer_to(practice, entry) is None
        assert offer_to(practice, short) is not None

    def test_comes_from_what_is_moved_missed_or_declined_too(self, practice: Practice) -> None:
        moved = practice.booked("09:00")
        entry = waits(practice)
        assert practice.act(moved, "reschedule").status_code == 200
        assert offer_to(practice, entry) is not None
        practice.kind = practice.clinic.appointment_type(needs_approval=True)
        requested = practice.booked("11:00", patient_id=practice.clinic.patient()["id"])
        other = waits(practice, **{"from": day_after(3, "10:00")})
        assert practice.act(requested, "decline").status_code == 200
        assert offer_to(practice, other) is not None

    def test_stands_for_two_hours_or_until_the_start(self, practice: Practice) -> None:
        entry, visit = waits(practice), practice.booked("09:00")
        for moment, stands in (("06:00", "08:00"), ("08:30", "09:00")):
            with practice.clinic.at(day_after(3, moment)) as then:
                desk = then(practice.desk)
                assert desk.post(f"/appointments/{visit['id']}/cancel", {"reason": "flu"}).status_code == 200
                offer = desk.get(f"/waitlist/{entry['id']}").get_json()["offer"]
                assert offer["expires_at"] == day_after(3, stands)
                assert desk.post(f"/waitlist/{entry['id']}/withdraw").status_code == 200
                if moment == "06:00":
                    body = practice.body("09:00")
                    visit = desk.post("/appointments", body).get_json()
                    again = {"patient_id": entry["patient_id"], "appointment_type_id": practice.kind["id"]}
                    again |= {"from": day_after(3), "to": day_after(4)}
                    entry = desk.post("/waitlist", again).get_json()


class TestReplies:
    """Who is offered a time accepts or declines it, or lets it lapse."""

    def test_accepting_books_it_and_ends_the_wait(self, practice: Practice) -> None:
        own, patient = practice.clinic.patient_with_account()
        entry = waits(practice, caller=patient, patient_id=own["id"])
        freed(practice)
        booked = act(practice, entry, "accept", patient)
        assert booked.status_code == 200, booked.text
        made = booked.get_json()
        assert (made["status"], made["patient_id"], made["start"]) == ("booked", own["id"], day_after(3, "09:00"))
        after = patient.get(f"/waitlist/{entry['id']}").get_json()
        assert (after["status"], after["offer"]) == ("booked", None)
        assert code_of(act(practice, entry, "accept", patient)) == (409, "offer_expired")

    def test_declined_it_passes_to_the_next_and_one_waits_on(self, practice: Practice) -> None:
        first, second = waits(practice), waits(practice)
        freed(practice)
        assert act(practice, first, "decline").get_json()["status"] == "waiting"
        assert offer_to(practice, first) is None
        assert offer_to(practice, second) is not None
        assert act(practice, second, "decline").status_code == 200
        assert "09:00" in practice.free(), "who declined it is not asked again"
        freed(practice, "10:00")
        offer = offer_to(practice, first)
        assert offer is not None
        assert offer["start"] == day_after(3, "10:00")

    def test_withdrawn_it_passes_to_the_next(self, practice: Practice) -> None:
        first, second = waits(practice), waits(practice)
        freed(practice)
        assert act(practice, first, "withdraw").get_json()["status"] == "withdrawn"
        assert offer_to(practice, second) is not None
        assert code_of(act(practice, first, "withdraw")) == (409, "not_waiting")

    def test_after_the_deadline_it_is_free_to_all(self, practice: Practice) -> None:
        entry = waits(practice)
        freed(practice)
        with practice.clinic.at((datetime.now().astimezone() + waitlist.DEADLINE).isoformat()) as then:
            desk = then(practice.desk)
            assert desk.get(f"/waitlist/{entry['id']}").get_json()["offer"] is None
            assert code_of(desk.post(f"/waitlist/{entry['id']}/accept")) == (409, "offer_expired")
            assert desk.post("/appointments", practice.body("09:00")).status_code == 201

    def test_upkeep_offers_it_to_the_next_instead(self, practice: Practice) -> None:
        first, second = waits(practice), waits(practice)
        freed(practice)
        later = datetime.now().astimezone() + waitlist.DEADLINE + timedelta(seconds=1)
        with practice.clinic.at(later.isoformat()) as then:
            assert [self.upkeep(practice), self.upkeep(practice)] == [1, 0]
            desk = then(practice.desk)
            offers = [desk.get(f"/waitlist/{entry['id']}").get_json()["offer"] for entry in (first, second)]
        assert (offers[0], offers[1] is None) == (None, False)

    def test_who_let_one_lapse_is_offered_another(self, practice: Practice) -> None:
        entry = waits(practice)
        freed(practice)
        other = practice.booked("14:00")
        with practice.clinic.at((datetime.now().astimezone() + waitlist.DEADLINE).isoformat()) as then:
            desk = then(practice.desk)
            assert desk.post(f"/appointments/{other['id']}/cancel", {"reason": "flu"}).status_code == 200
            offer = desk.get(f"/waitlist/{entry['id']}").get_json()["offer"]
        assert offer["start"] == day_after(3, "14:00")

    @staticmethod
    def upkeep(practice: Practice) -> int:
        """So many lapsed offers were passed on."""
        with practice.clinic.app.app_context():
            return upkeep.run([practice.clinic.organization_id]).offers


class TestEntries:
    """Who waits, and who knows of it."""

    def test_once_for_each_type(self, practice: Practice) -> None:
        entry = waits(practice)
        again = join(practice, patient_id=entry["patient_id"])
        assert code_of(again) == (409, "already_waiting")
        other = practice.clinic.appointment_type()
        assert join(practice, patient_id=entry["patient_id"], appointment_type_id=other["id"]).status_code == 201
        assert act(practice, entry, "withdraw").status_code == 200
        assert join(practice, patient_id=entry["patient_id"]).status_code == 201

    def test_are_listed_in_the_order_in_which_they_came(self, practice: Practice) -> None:
        entries = [waits(practice) for _ in range(3)]
        act(practice, entries[1], "withdraw")
        page = practice.desk.get("/waitlist", limit=2).get_json()
        rest = practice.desk.get("/waitlist", limit=2, cursor=page["next"]).get_json()
        assert [one["id"] for one in page["items"] + rest["items"]] == [one["id"] for one in entries]
        waiting = practice.desk.get("/waitlist", status="waiting").get_json()["items"]
        assert [one["id"] for one in waiting] == [entries[0]["id"], entries[2]["id"]]
        of_one = practice.desk.get("/waitlist", patient_id=entries[1]["patient_id"]).get_json()["items"]
        assert [one["id"] for one in of_one] == [entries[1]["id"]]

    def test_patients_see_their_own(self, practice: Practice, other_clinic: Clinic) -> None:
        own, patient = practice.clinic.patient_with_account()
        mine, other = waits(practice, patient_id=own["id"]), waits(practice)
        stranger, colleague = practice.clinic.user(Role.PATIENT), practice.clinic.clinician()
        for caller, seen in ((patient, [mine]), (stranger, []), (colleague, []), (other_clinic.admin, [])):
            assert caller.get("/waitlist").get_json()["items"] == seen
            for entry in (mine, other):
                for answer in (caller.get(f"/waitlist/{entry['id']}"), act(practice, entry, "decline", caller)):
                    assert (answer.status_code == 404) == (entry not in seen)
        assert code_of(join(practice, patient)) == (404, "not_found")

    def test_clinicians_put_patients_on_their_own_list(self, practice: Practice) -> None:
        made = join(practice, practice.clinician).get_json()
        assert made["clinician_ids"] == [practice.clinician.id]
        colleague = practice.clinic.clinician()
        refused = join(practice, practice.clinician, clinician_ids=[colleague.id])
        assert code_of(refused) == (403, "not_your_diary")

    def test_a_wrong_time_is_told_where(self, practice: Practice) -> None:
        refused = join(practice, **{"from": day_after(4), "to": day_after(4)})
        assert code_of(refused) == (422, "invalid_request")
        assert [problem["pointer"] for problem in refused.get_json()["errors"]] == ["/to"]

    @pytest.mark.parametrize(
        ("statement", "constraint"),
        [
            ("UPDATE waitlist_entry SET status = 'asleep'", "ck_waitlist_entry_status"),
            ("UPDATE waitlist_offer SET reply = 'maybe'", "ck_waitlist_offer_reply"),
        ],
    )
    def test_states_are_those_of_the_table(self, practice: Practice, statement: str, constraint: str) -> None:
        waits(practice)
        freed(practice)
        with practice.clinic.app.app_context(), scoped(Scope(practice.clinic.organization_id)):
            with pytest.raises(IntegrityError) as caught:
                db.session.execute(text(statement))
            assert constraint_of(caught.value) == constraint
            db.session.rollback()

    def test_somebody_who_is_not_there(self, practice: Practice) -> None:
        for field in ("patient_id", "appointment_type_id"):
            assert code_of(join(practice, **{field: str(new_id())})) == (404, "not_found")
        assert code_of(join(practice, clinician_ids=[str(new_id())])) == (404, "not_found")


class TestRaces:
    """Sixteen at once."""

    def test_an_offer_is_accepted_once(self, diary: Diary, fresh_day: int) -> None:
        entry = self.offered(diary, fresh_day)[0]
        answers = diary.race(
            lambda caller, n: caller.post(f"/waitlist/{entry['id']}/{'accept' if n % 2 else 'decline'}")
        )
        assert tally(answers) == {"200": 1, "409 offer_expired": RACERS - 1}
        if (
            diary.clinic.admin.get(f"/waitlist/{entry['id']}").get_json()["status"] == "waiting"
        ):  # the offer was declined
            assert diary.clinic.admin.post(f"/waitlist/{entry['id']}/withdraw").status_code == 200

    def test_each_time_goes_to_another(self, diary: Diary, fresh_day: int) -> None:
        """Eight appointments are cancelled while eight others want their times."""
        entries = [self.wait(diary, n, fresh_day) for n in range(8)]
        at = [f"{9 + n // 2:02}:{n % 2 * 30:02}" for n in range(8)]
        paths = [diary.booked(8 + n, at[n], day=fresh_day) for n in range(8)]

        def act(caller: Caller, number: int) -> TestResponse:
            if number < 8:
                return caller.post(f"{paths[number]}/cancel", {"reason": "flu"})
            body = diary.body(number, at[number - 8], 0, day=fresh_day)
            return caller.post("/appointments", body)

        counts = tally(diary.race(act))
        assert counts["200"] == 8
        assert counts["201"] + counts["409 slot_taken"] + counts["409 patient_busy"] == 8
        offers = [diary.clinic.admin.get(f"/waitlist/{one['id']}").get_json()["offer"] for one in entries]
        starts = [offer["start"] for offer in offers if offer]
        assert len(starts) == len(set(starts))
        for entry in entries:
            assert diary.clinic.admin.post(f"/waitlist/{entry['id']}/withdraw").status_code == 200

    def offered(self, diary: Diary, day: int) -> list[dict[str, Any]]:
        """Somebody to whom a time is offered, alone."""
        path = diary.booked(1, "09:00", day=day)
        entry = self.wait(diary, 0, day)
        assert diary.clinic.admin.post(f"{path}/cancel", {"reason": "flu"}).status_code == 200
        return [entry]

    @staticmethod
    def wait(diary: Diary, patient: int, day: int) -> dict[str, Any]:
        """A patient waits for a time of the day."""
        body = {"patient_id": diary.patients[patient]["id"], "appointment_type_id": diary.kind["id"]}
        made = diary.clinic.admin.post("/waitlist", body | {"from": day_after(day), "to": day_after(day + 1)})
        assert made.status_code == 201, made.text
        entry: dict[str, Any] = made.get_json()
        return entry
