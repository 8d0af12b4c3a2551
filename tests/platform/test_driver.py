"""The driver's connection: statements stay prepared after a rollback, a transaction begins with its scope."""

import os
import socket
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from medical.platform.db import Scope, db, scoped
from medical.platform.ids import new_id
from tests.clinic import Clinic, Statements, day_after

PREPARED = text("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE :like")


def test_reads_that_are_rolled_back_are_planned_once(app: Flask) -> None:
    with app.app_context():
        for _ in range(10):
            db.session.execute(text("SELECT 1 AS planned_once"))
            db.session.rollback()
        assert db.session.scalar(PREPARED, {"like": "%planned_once%"}) == 1


def test_a_search_over_http_too(clinic: Clinic) -> None:
    kind = clinic.appointment_type()
    for _ in range(10):
        clinic.free(kind, day_after(1), day_after(2))
    with clinic.app.app_context():
        assert db.session.scalar(PREPARED, {"like": "%CROSS JOIN LATERAL%"}) > 0


def test_what_was_done_is_undone_also_after_an_error(app: Flask) -> None:
    with app.app_context():
        db.session.execute(text("CREATE TEMP TABLE undone (n int)"))
        with pytest.raises(Exception, match="division by zero"):
            db.session.execute(text("SELECT 1 / 0"))
        db.session.rollback()
        assert db.session.scalar(text("SELECT to_regclass('undone')")) is None


def ensure_told(driver: Any) -> None:
    """The connection is lost, and whoever asks next is told."""
    with socket.socket(fileno=os.dup(driver.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
    with pytest.raises(OperationalError):
        db.session.execute(text("SELECT 1"))
    db.session.rollback()
    assert driver.closed


def test_a_lost_connection_is_told(app: Flask) -> None:
    with app.app_context():
        driver = db.session.connection().connection.driver_connection
        assert driver
        ensure_told(driver)
        assert db.session.scalar(text("SELECT 1")) == 1


def test_a_transaction_begins_within_its_scope_in_one_exchange(app: Flask) -> None:
    """Whatever the values are; the next one begins without them."""
    scope = Scope(new_id(), new_id(), "it's \\ a request")
    settings = text(
        "SELECT current_setting('app.organization_id'), current_setting('app.user_id'),"
        " current_setting('app.request_id')"
    )
    with app.app_context():
        sent = Statements(db.engine)
        with scoped(scope):
            found = db.session.execute(settings).one()
            assert found == (str(scope.organization_id), str(scope.user_id), scope.request_id)
            db.session.commit()
        assert db.session.execute(settings).one() == ("", "", "")
        sent.stop()
    assert sent.count == 2


def test_a_connection_that_is_lost_before_a_transaction_is_told_too(app: Flask) -> None:
    with app.app_context(), scoped(Scope(new_id())):
        driver = db.session.connection().connection.driver_connection
        assert driver
        db.session.rollback()
        ensure_told(driver)
        assert db.session.scalar(text("SELECT current_setting('app.organization_id')"))
        db.session.rollback()
