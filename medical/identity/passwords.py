"""Passwords, kept only as argon2id (OWASP Password Storage Cheat Sheet: 46 MiB, one pass)."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Annotated

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from msgspec import Meta

from medical.platform.errors import Unavailable

MINIMUM_LENGTH, MAXIMUM_LENGTH = 15, 256

NewPassword = Annotated[
    str, Meta(min_length=MINIMUM_LENGTH, max_length=MAXIMUM_LENGTH, extra_json_schema={"format": "password"})
]
"""A password that somebody chooses: long enough to be the only factor, of any characters."""

AT_ONCE = threading.BoundedSemaphore(2 * (os.cpu_count() or 1))
PATIENCE_SECONDS = 2
"""A hash takes 46 MiB, so only so many are made at once in a process; the others wait, but not for long."""

hasher = PasswordHasher(time_cost=1, memory_cost=46 * 1024, parallelism=1)


def hash_password(password: str) -> str:
    """The argon2id hash of ``password``, with its salt and parameters. Raises ``Unavailable`` in a crowd."""
    with _turn():
        return hasher.hash(password)


@contextmanager
def _turn() -> Iterator[None]:
    if not AT_ONCE.acquire(timeout=PATIENCE_SECONDS):
        raise Unavailable("Too many sign-ins at once; try again in a moment.")
    try:
        yield
    finally:
        AT_ONCE.release()


@cache
def _nobodys_hash() -> str:
    return hash_password("the password of nobody at all")


def matches(password: str, password_hash: str | None) -> bool:
    """Whether ``password`` is the one behind ``password_hash``; takes as long when there is none.

    Raises ``Unavailable`` in a crowd.
    """
    stored = password_hash or _nobodys_hash()
    try:
        with _turn():
            hasher.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False
    return password_hash is not None
