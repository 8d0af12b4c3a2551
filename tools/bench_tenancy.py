"""Soak the wall between organisations: `python tools/bench_tenancy.py`, from the project's folder.

Row-level security alone: the narrowing of SELECTs in code is taken away. Fifty threads share two connections; a
hundred thousand pieces of work of two organisations and of nobody read users and patients, and then commit, roll back,
fail in the program or in PostgreSQL, or are refused. Prints a line for people and one of JSON; exits with 1 when one
row of another organisation was seen, one of the own was missing, or a connection did not come back.
"""

import json
import logging
import random
import sys
import threading
import time
from collections import Counter
from itertools import count
from pathlib import Path
from uuid import UUID

from flask import Flask
from sqlalchemy import event, insert, select, text
from sqlalchemy.exc import DataError
from sqlalchemy.exc import TimeoutError as NoConnection

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_security import clinic

from medical.app import create_app
from medical.config import Mode
from medical.identity.models import Organization, User
from medical.people.models import Patient
from medical.platform import db as database
from medical.platform.db import Scope, db, enter, scoped
from medical.platform.ids import new_id

THREADS, POOL, REQUESTS, PEOPLE = 50, 2, 100_000, 20
SEEN = text(
    "SELECT organization_id, count(*) FROM"
    " (SELECT organization_id FROM users UNION ALL SELECT organization_id FROM patient) AS seen GROUP BY 1"
)


class Failed(Exception):
    """A bug of the program, in the middle of a transaction."""


def furnish(app: Flask) -> list[UUID]:
    """Two organisations with users and patients each; their ids."""
    ids = [new_id(), new_id()]
    for number, organization_id in enumerate(ids):
        with app.app_context(), scoped(Scope(organization_id)):
            db.session.add(Organization(id=organization_id, name=f"Soak {number}", self_registration=False))
            db.session.flush()
            names = [{"given_name": "Robin", "family_name": f"Soak{n}"} for n in range(PEOPLE)]
            db.session.execute(
                insert(User), [name | {"id": new_id(), "email": f"{new_id()}@soak.example"} for name in names]
            )
            details = {"birth_date": "1980-05-17", "sex": "other"}
            db.session.execute(insert(Patient), [name | details | {"id": new_id()} for name in names])
            db.session.commit()
    return ids


def work(organization_id: UUID | None, fate: float) -> Counter[UUID]:
    """How many users and patients a piece of work saw, by organisation."""
    enter(Scope(organization_id) if organization_id else None)
    seen = Counter({row[0]: row[1] for row in db.session.execute(SEEN)})
    if fate < 0.2:
        db.session.commit()
        seen |= Counter({row[0]: row[1] for row in db.session.execute(SEEN)})
    elif fate < 0.4:
        db.session.rollback()
        seen |= Counter({row[0]: row[1] for row in db.session.execute(SEEN)})
    elif fate < 0.6:
        raise Failed(seen)
    elif fate < 0.8:
        try:
            db.session.execute(text("SELECT 1/0"))
        except DataError as error:
            raise Failed(seen) from error
    return seen


def soak(app: Flask, ids: list[UUID]) -> tuple[int, int, int]:
    """How many pieces of work saw a foreign row, how many missed an own one, and how many connections stayed out."""
    numbers, lock = count(), threading.Lock()
    foreign, missing = [], []

    def run() -> None:
        choose = random.Random()  # noqa: S311 - chooses work, not secrets
        while next(numbers) < REQUESTS:
            organization_id, fate = choose.choice([*ids, None]), choose.random()
            with app.app_context():
                try:
                    seen = work(organization_id, fate)
                except Failed as failed:
                    (seen,) = failed.args
                except NoConnection:
                    continue
                finally:
                    enter(None)
            with lock:
                if set(seen) - {organization_id}:
                    foreign.append(seen)
                if organization_id and seen[organization_id] != 2 * PEOPLE:
                    missing.append(seen)

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with app.app_context():
        return len(foreign), len(missing), db.engine.pool.checkedout()


def main() -> None:
    """Soak, and say what was seen."""
    with clinic() as (program, _):
        settings = program.app.extensions["settings"]
        small = create_app(
            {
                "database_url": settings.database_url,
                "secret_key": settings.secret_key,
                "mode": Mode.TEST,
                "database_pool_size": POOL,
            }
        )
        logging.getLogger().setLevel(logging.WARNING)
        ids = furnish(program.app)
        event.remove(db.session, "do_orm_execute", database._narrow)
        began = time.perf_counter()
        foreign, missing, out = soak(small, ids)
        seconds = time.perf_counter() - began
        with small.app_context():
            # The probe can fail: without its organisation's setting the same statement sees nothing at all.
            assert not db.session.execute(select(User.id)).all()  # noqa: S101
            db.engine.dispose()
    print(f"{REQUESTS} pieces of work by {THREADS} threads on {POOL} connections in {seconds:.0f} s:")
    print(f"  {foreign} saw a row of another organisation, {missing} missed one of their own, {out} connections lost")
    result = {"requests": REQUESTS, "threads": THREADS, "pool": POOL, "seconds": round(seconds, 1)}
    print(json.dumps(result | {"foreign": foreign, "missing": missing, "connections_lost": out}))
    sys.exit(bool(foreign or missing or out))


if __name__ == "__main__":
    main()
