"""How often somebody may guess: counters in PostgreSQL that all processes share and no restart forgets.

A try is counted before it is judged, in a short transaction of its own, so that neither a rollback nor
many tries at once evade it. A network that signed in to an account before has a counter of its own
with it, so a stranger's failures do not keep the owner out (ADR 0010).
"""

import ipaddress
import math
from datetime import timedelta
from typing import Any
from uuid import UUID

from msgspec import Struct
from sqlalchemy import text

from medical.platform import authz, clock
from medical.platform.db import db
from medical.platform.errors import TooManyAttempts
from medical.platform.sealing import Seal

LONGEST_DELAY_SECONDS = 15 * 60
REMEMBERED = timedelta(days=90)
"""How long a network that signed in is known."""
IPV4_PREFIX, IPV6_PREFIX = 24, 64


class Limit(Struct, frozen=True):
    """How many failures are free, and after how many seconds one of them is forgotten."""

    free: int
    drain: int


ACCOUNT, KNOWN, SOURCE, OTP = Limit(10, 3600), Limit(20, 3600), Limit(50, 60), Limit(5, 3600)


def _counted(limit: str) -> str:
    """SET clause: one failure more than are left by now, and when they are too many, a delay twice the last.

    Who is not blocked is so since long ago, and not since now, which on another process's clock may lie ahead.
    """
    left = f"greatest(0, t.failures - greatest(0, extract(epoch FROM :now - t.updated_at)) / :{limit}_drain)"
    now_failed = f"({left} + 1)"
    return f"""
        failures = {now_failed},
        blocked_until = CASE WHEN round({now_failed}) < :{limit}_free THEN to_timestamp(0) ELSE :now
            + least(:longest, power(2, least(20, round({now_failed}) - :{limit}_free))) * interval '1 second' END,
        updated_at = :now,
        forget_at = greatest(t.forget_at, :now + ({now_failed} * :{limit}_drain + :longest) * interval '1 second')
    """


def _first(key: str, limit: str, condition: str) -> str:
    """INSERT … ON CONFLICT of one failure, which gives a row only when the key is not blocked."""
    return f"""
        INSERT INTO sign_in_throttle AS t (key, failures, blocked_until, updated_at, forget_at)
        SELECT :{key}, 1, to_timestamp(0), CAST(:now AS timestamptz),
               :now + (:{limit}_drain + :longest) * interval '1 second'
        {condition}
        ON CONFLICT (key) DO UPDATE SET {_counted(limit)} WHERE t.blocked_until <= :now
        RETURNING t.key
    """


TRY = text(
    f"""
    WITH swept AS (
        DELETE FROM sign_in_throttle t USING (
            SELECT key FROM sign_in_throttle WHERE forget_at <= :now AND key NOT IN (:account, :device, :source)
            LIMIT 20 FOR UPDATE SKIP LOCKED
        ) old WHERE t.key = old.key
    ), known AS (
        SELECT key FROM sign_in_throttle WHERE key = :device AND forget_at > :now
    ), own AS (
        UPDATE sign_in_throttle t SET {_counted("known")}
        FROM known WHERE t.key = known.key AND t.blocked_until <= :now RETURNING t.key
    ), account AS (
        {
        _first(
            "account",
            "account",
            '''
        WHERE NOT EXISTS (SELECT FROM known)
          AND NOT EXISTS (SELECT FROM sign_in_throttle WHERE key = :source AND blocked_until > :now)''',
        )
    }
    ), source AS (
        {_first("source", "source", "FROM account")}
    )
    SELECT EXISTS (SELECT FROM own) OR EXISTS (SELECT FROM source) AS allowed,
           EXISTS (SELECT FROM known) AS known,
           (SELECT max(extract(epoch FROM blocked_until - :now)) FROM sign_in_throttle
             WHERE key = :device AND forget_at > :now
                OR key IN (:account, :source) AND NOT EXISTS (SELECT FROM known)) AS seconds
    """  # noqa: S608 - of constants only
)
"""Count a try by the known network's counter, or else by those of account and source; nothing where one is blocked."""

SUCCEED = text(
    """
    WITH account AS (
        DELETE FROM sign_in_throttle WHERE key = :account AND NOT :known RETURNING key
    ), source AS (
        UPDATE sign_in_throttle SET failures = greatest(0, failures - 1),
               blocked_until = CASE WHEN failures - 1 < :source_free THEN to_timestamp(0) ELSE blocked_until END
        WHERE key = :source AND NOT :known AND (SELECT count(*) FROM account) >= 0
    )
    INSERT INTO sign_in_throttle AS t (key, failures, blocked_until, updated_at, forget_at)
    SELECT :device, 0, to_timestamp(0), CAST(:now AS timestamptz), CAST(:forget_at AS timestamptz)
    WHERE :remember OR :known
    ON CONFLICT (key) DO UPDATE
        SET failures = 0, blocked_until = to_timestamp(0), updated_at = :now, forget_at = excluded.forget_at
    """
)
"""Forget the failures of whoever turned out right, and know the network; the account's row comes first, as in TRY."""

ONE = text(_first("key", "otp", ""))
FORGET = text("DELETE FROM sign_in_throttle WHERE key = :key")
WAIT = text("SELECT extract(epoch FROM blocked_until - :now) FROM sign_in_throttle WHERE key = :key")

LIMITS = {
    f"{name}_{part}": float(getattr(limit, part))
    for name, limit in (("account", ACCOUNT), ("known", KNOWN), ("source", SOURCE), ("otp", OTP))
    for part in ("free", "drain")
} | {"longest": float(LONGEST_DELAY_SECONDS)}


class Try(Struct, frozen=True):
    """A try that was counted, and may be judged."""

    keys: dict[str, bytes]
    known: bool


class Throttle:
    """The counters; ``secret`` keeps their keys from telling whom they are of."""

    def __init__(self, secret: str) -> None:
        self._seal = Seal(secret, "sign-in throttle")

    def count(self, email: str) -> Try:
        """Count a try at an account that may or may not exist, and commit. Raises ``TooManyAttempts``."""
        email, network = email.lower(), network_of(authz.current_source())
        keys = {
            "account": self._seal.digest(f"account:{email}"),
            "device": self._seal.digest(f"device:{network}:{email}"),
            "source": self._seal.digest(f"source:{network}"),
        }
        row = db.session.execute(TRY, _values(TRY.text, keys)).one()
        db.session.commit()
        if not row.allowed:
            raise TooManyAttempts(_whole(row.seconds))
        return Try(keys, row.known)

    def succeed(self, attempt: Try, *, remember: bool = True) -> None:
        """The password was right: forget the failures; ``remember`` the network as the owner's."""
        more = {"known": attempt.known, "remember": remember, "forget_at": clock.now() + REMEMBERED}
        db.session.execute(SUCCEED, _values(SUCCEED.text, attempt.keys | more))

    def count_otp(self, user_id: UUID) -> None:
        """Count a try at a second factor, apart from passwords, and commit. Raises ``TooManyAttempts``."""
        values = {"key": self._seal.digest(f"otp:{user_id}")}
        allowed = db.session.execute(ONE, _values(ONE.text, values)).first()
        seconds = None if allowed else db.session.execute(WAIT, values | {"now": clock.now()}).scalar()
        db.session.commit()
        if not allowed:
            raise TooManyAttempts(_whole(seconds))

    def succeed_otp(self, user_id: UUID) -> None:
        """The second factor was right: forget its failures."""
        db.session.execute(FORGET, {"key": self._seal.digest(f"otp:{user_id}")})


def network_of(address: str | None) -> str:
    """The network that counts as one source: /24 of IPv4, /64 of IPv6; whatever else as it is."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return address or "none"
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    prefix = IPV4_PREFIX if parsed.version == 4 else IPV6_PREFIX
    return str(ipaddress.ip_network(f"{parsed}/{prefix}", strict=False))


def _values(statement: str, values: dict[str, Any]) -> dict[str, Any]:
    named = LIMITS | values | {"now": clock.now()}
    return {name: value for name, value in named.items() if f":{name}" in statement}


def _whole(seconds: Any) -> int:
    return max(1, math.ceil(seconds or 0))
