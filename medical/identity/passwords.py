"""Passwords, kept only as argon2id (OWASP Password Storage Cheat Sheet: 46 MiB, one pass)."""

from functools import cache
from typing import Annotated

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from msgspec import Meta

MINIMUM_LENGTH, MAXIMUM_LENGTH = 15, 256

NewPassword = Annotated[
    str, Meta(min_length=MINIMUM_LENGTH, max_length=MAXIMUM_LENGTH, extra_json_schema={"format": "password"})
]
"""A password that somebody chooses: long enough to be the only factor, of any characters."""

hasher = PasswordHasher(time_cost=1, memory_cost=46 * 1024, parallelism=1)


def hash_password(password: str) -> str:
    """The argon2id hash of ``password``, with its salt and parameters."""
    return hasher.hash(password)


@cache
def _nobodys_hash() -> str:
    return hash_password("the password of nobody at all")


def matches(password: str, password_hash: str | None) -> bool:
    """Whether ``password`` is the one behind ``password_hash``; takes as long when there is none."""
    try:
        hasher.verify(password_hash or _nobodys_hash(), password)
    except (VerificationError, InvalidHashError):
        return False
    return password_hash is not None
