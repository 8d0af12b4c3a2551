"""Passwords: which are refused, and how they are kept, only as argon2id (OWASP cheat sheet: 46 MiB, one pass).

A password is hashed in Unicode's NFC, as RFC 8265 has it: the same characters are the same password
on every keyboard, and nothing is folded together, as NFKC would. No composition rule, no truncation.
"""

import os
import re
import threading
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from itertools import takewhile
from typing import Annotated

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from msgspec import Meta

from medical.platform.errors import Unavailable

MINIMUM_LENGTH, MAXIMUM_LENGTH = 15, 256

SHORTEST_WORD, SHORTEST_NAME = 3, 4
"""Listed words and names that are shorter occur in every other sentence."""
NOBODYS_NAMES = frozenset(
    [
        "admin",
        "administrator",
        "auditor",
        "clinic",
        "clinician",
        "demo",
        "doctor",
        "hospital",
        "info",
        "nurse",
        "office",
        "owner",
        "patient",
        "practice",
        "reception",
        "receptionist",
        "service",
        "staff",
        "test",
        "tester",
        "user",
    ]
)
RUNS = ("abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiop", "azertyuiop")
"""What fingers type in a row, in either direction."""
SHORTEST_RUN = 3
LOOK_ALIKES = str.maketrans("013457@$!", "oieastasi")
TOO_COMMON = "is made of common passwords, repetitions or runs of keys: choose something that nobody would list"
TOO_PERSONAL = "contains a name, the email or the name of the organisation: choose something that others cannot know"


@cache
def _listed() -> frozenset[str]:
    """Common passwords; COMMON_PASSWORDS.md says where they come from."""
    return frozenset(files("medical.identity").joinpath("common_passwords.txt").read_text("utf-8").split())


def common_problem(password: str) -> str | None:
    """What is wrong with a password that many would try; None for one that is nobody's first guess."""
    if len(normal(password)) < MINIMUM_LENGTH:
        return f"Expected `str` of length >= {MINIMUM_LENGTH}"
    folded = unicodedata.normalize("NFKC", password).casefold()
    letters = "".join(character for character in folded if character.isalpha())
    plain = "".join(character for character in folded if character.isalnum())
    trimmed = re.sub(r"^[\W\d_]+|[\W\d_]+$", "", folded)
    alike = "".join(character for character in trimmed.translate(LOOK_ALIKES) if character.isalnum())
    forms = {folded, plain, letters, alike}
    return TOO_COMMON if (not letters and _is_run(plain)) or any(map(_is_common, forms)) else None


def _is_common(text: str) -> bool:
    """Whether nothing is in it but one or two listed words, however often, one short piece repeated, or runs."""
    repeated = re.fullmatch(r"(.{1,7}?)\1+.{0,6}", text, re.DOTALL)
    return text in _listed() or bool(repeated) or _is_run(text) or _is_of_two_words(text)


def _is_run(text: str) -> bool:
    """Whether it falls apart into runs of neighbouring keys, letters or digits."""
    rows = [*RUNS, *(row[::-1] for row in RUNS)]
    start = 0
    while start < len(text):
        longest = max((_shared(text[start:], row) for row in rows), default=0)
        if longest < SHORTEST_RUN:
            return bool(start) and len(text) - start < SHORTEST_RUN
        start += longest
    return bool(text)


def _shared(text: str, row: str) -> int:
    """How many characters of the beginning of ``text`` stand in ``row`` one after the other."""
    place = row.find(text[0])
    pairs = zip(text, row[place:], strict=False) if place >= 0 else ()
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _is_of_two_words(text: str) -> bool:
    listed = _listed()
    longest = 40
    for first_end in range(SHORTEST_WORD, min(len(text), longest) + 1):
        if (first := text[:first_end]) not in listed:
            continue
        rest = text
        while rest.startswith(first):
            rest = rest[len(first) :]
        ends = range(SHORTEST_WORD, min(len(rest), longest) + 1)
        seconds = {rest[:end] for end in ends if rest[:end] in listed}
        if not rest or any(_made_of(text, (first, second)) for second in seconds):
            return True
    return False


def _made_of(text: str, words: tuple[str, ...]) -> bool:
    reached = {0}
    for place in range(len(text)):
        if place in reached:
            reached |= {place + len(word) for word in words if text.startswith(word, place)}
    return len(text) in reached


def personal_problem(password: str, names: Iterable[str]) -> str | None:
    """What is wrong with a password that has one of ``names`` in it: of a person, an organisation, an email.

    A name counts as a whole, and one that only says what somebody is, like `admin`, does not.
    """
    squeezed = _squeezed(password)
    for name in names:
        known = _squeezed(name.partition("@")[0])
        if len(known) >= SHORTEST_NAME and known not in NOBODYS_NAMES and known in squeezed:
            return TOO_PERSONAL
    return None


def _squeezed(text: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


NewPassword = Annotated[
    str,
    Meta(
        min_length=MINIMUM_LENGTH,
        max_length=MAXIMUM_LENGTH,
        extra={"check": common_problem},
        extra_json_schema={"format": "password"},
    ),
]
"""A password that somebody chooses: long enough to be the only factor, of any characters, on no list."""


def normal(password: str) -> str:
    """The password as it is hashed: in NFC."""
    return unicodedata.normalize("NFC", password)


AT_ONCE = threading.BoundedSemaphore(2 * (os.cpu_count() or 1))
PATIENCE_SECONDS = 2
"""A hash takes 46 MiB, so only so many are made at once in a process; the others wait, but not for long."""

hasher = PasswordHasher(time_cost=1, memory_cost=46 * 1024, parallelism=1)


def hash_password(password: str) -> str:
    """The argon2id hash of ``password``, with its salt and parameters. Raises ``Unavailable`` in a crowd."""
    with _turn():
        return hasher.hash(normal(password))


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
            hasher.verify(stored, normal(password))
    except (VerificationError, InvalidHashError):
        return False
    return password_hash is not None


def is_outdated(password_hash: str) -> bool:
    """Whether it was made with other parameters than those of today."""
    return hasher.check_needs_rehash(password_hash)
