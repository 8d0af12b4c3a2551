"""What races share: one diary, a day of it for each, and that it is whole afterwards."""

from collections.abc import Callable, Iterator

import psycopg
import pytest
from flask import Flask
from sqlalchemy import event, select
from sqlalchemy.engine import ExceptionContext
from werkzeug.test import TestResponse

from medical.audit.models import AuditEvent
from medical.platform.db import Scope, db, scoped
from tests.clinic import Clinic
from tests.scheduling.practice import Practice
from tests.scheduling.racing import OVERLAPPING, ROUNDS, UNCLAIMED, Diary


@pytest.fixture
def troubles(app: Flask) -> Iterator[list[str]]:
    """Database errors of the kind that a race may cause: deadlocks, waits cut short, failed serialisation."""
    seen: list[str] = []

    def note(context: ExceptionContext) -> None:
        if isinstance(context.original_exception, psycopg.Error):
            seen.append(f"{context.original_exception.sqlstate} {type(context.original_exception).__name__}")

    with app.app_context():
        engine = db.engine
    event.listen(engine, "handle_error", note)
    yield seen
    event.remove(engine, "handle_error", note)


@pytest.fixture(scope="module")
def diary(app: Flask) -> Diary:
    """One diary for all races; each has a day of its own."""
    return Diary(Clinic(app))


@pytest.fixture
def fresh_day(diary: Diary, troubles: list[str]) -> Iterator[int]:
    """A day of the diary with nothing booked; afterwards the diary is whole, however many raced for it."""
    yield next(diary.days)
    with diary.clinic.app.app_context(), scoped(Scope(diary.clinic.organization_id)):
        assert db.session.scalar(OVERLAPPING) == 0
        assert db.session.scalar(UNCLAIMED) == 0
        db.session.rollback()
    assert troubles == []


@pytest.fixture(params=range(ROUNDS))
def day(fresh_day: int) -> int:
    """The same, several times over."""
    return fresh_day


@pytest.fixture
def practice(clinic: Clinic) -> Practice:
    """A practice with nothing booked."""
    return Practice(clinic)


@pytest.fixture
def trail(clinic: Clinic) -> Callable[[TestResponse], list[AuditEvent]]:
    """What the trail says of the request that was answered."""

    def read(answer: TestResponse) -> list[AuditEvent]:
        with clinic.app.app_context(), scoped(Scope(clinic.organization_id)):
            query = select(AuditEvent).where(AuditEvent.request_id == answer.headers["X-Request-ID"])
            events = list(db.session.scalars(query.order_by(AuditEvent.patient_id)))
            db.session.expunge_all()
            return events

    return read
