"""Files of records: Bundles and NDJSON, also compressed with gzip, read and taken in a part at a time."""

import gzip
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from medical.fhir.bundles import request_of
from medical.fhir.capability import ELSEWHERE
from medical.fhir.joined import Json
from medical.fhir.wire import read_json
from medical.platform.authz import Actor
from medical.platform.db import db
from medical.platform.errors import AppError
from medical.platform.ids import new_id
from medical.records import importing
from medical.records.definitions import resource_types
from medical.records.errors import NotHere, UnreadableResource
from medical.records.importing import Refusal, Tally
from medical.records.transactions import Act

AT_ONCE = 250
"""So many entries are written in one database transaction, where they do not belong together."""
HEAD = 1000
"""Bytes in which a Bundle says of which type it is, if it says so first."""
BATCH = re.compile(rb'"type"\s*:\s*"batch"')
CONDITION = re.compile(rb'"(?:reference|ifNoneExist)"\s*:\s*"[^"]*=')
HERE = ("transaction", "batch")


class Part(NamedTuple):
    """Some entries of a file."""

    kind: str
    """``transaction``, ``batch``, or ``resources``."""
    start: int
    entries: Sequence[Any]
    """As bytes where they are lines."""
    last: bool
    share: float
    """Of the file, how much of it they and those before them are."""


def rank(path: Path) -> int:
    """When a file's turn is: first patients by themselves and batches, for they bring what others refer to; then what
    looks for it by conditions; last what adds without looking, of which the others would find several."""
    if ".ndjson" in path.name:
        return 0 if path.name.startswith("Patient") else 2
    with _opened(path) as file:
        content = file.read()
    if BATCH.search(content, 0, HEAD):
        return 0
    return 1 if CONDITION.search(content) else 2


def take_in(actor: Actor, path: Path, *, again: bool, tell: Callable[[float], None] = lambda _: None) -> Tally | None:
    """Take a file of records in; what came of it, None where it was taken in before.

    What is interrupted goes on where it was. ``tell`` hears which share of the file is done. Each part is committed.
    Raises ``MalformedJson`` or ``UnreadableResource`` for what is no file of records.
    """
    digest = _digest_of(path)
    what = importing.progress(digest, path.name)
    if what.finished_at and not again:
        db.session.rollback()
        return None
    if what.finished_at:
        what.done, what.kept, what.refused, what.finished_at = 0, 0, 0, None
    start = what.done
    db.session.commit()
    total = Tally()
    for part in _parts(path, start):
        what = importing.progress(digest, path.name)
        if what.done != part.start:  # somebody else goes on with it
            db.session.rollback()
            break
        tally = _take_in(actor, part)
        total = total.plus(tally)
        if part.kind == "transaction" and tally.refused:
            db.session.rollback()  # nothing of it is here: another time it may go in
        else:
            importing.note(what, tally, until=part.start + len(part.entries), last=part.last)
            db.session.commit()
        tell(part.share)
    return total


def _take_in(actor: Actor, part: Part) -> Tally:
    if part.kind == "resources":
        read, refused = _read(part, lambda _, entry: _resource(entry))
        return refused.plus(importing.by_themselves(actor, read))
    acts, refused = _read(part, _act)
    if part.kind == "batch":
        return refused.plus(importing.acts_by_themselves(actor, acts))
    return refused if refused.refused else importing.acts_together(actor, [one for _, one in acts])


def _read(part: Part, reads: Callable[[int, Any], Any]) -> tuple[list[tuple[int, Any]], Tally]:
    """The entries of a part that can be read, by their numbers, and why the others cannot."""
    read, refused = [], []
    for number, entry in enumerate(part.entries, part.start):
        try:
            read.append((number, reads(number, entry)))
        except AppError as refusal:
            refused.append(Refusal(number, "", refusal.code, [refusal.detail]))
    return read, Tally(refused=tuple(refused))


def _act(number: int, entry: Any) -> Act:
    act = request_of(number, entry, "")
    if not isinstance(act, Act):
        raise UnreadableResource("A file that is taken in has nothing to read.")
    return act


def _resource(entry: Any) -> Json:
    """A line or a value as a resource with an id. Raises ``MalformedJson``, ``UnreadableResource`` or ``NotHere``."""
    value = read_json(entry) if isinstance(entry, bytes) else entry
    if not isinstance(value, dict) or value.get("resourceType") not in resource_types():
        raise UnreadableResource
    if value["resourceType"] in ELSEWHERE:
        raise NotHere
    return value if isinstance(value.get("id"), str) else value | {"id": str(new_id())}


def _parts(path: Path, start: int) -> Iterator[Part]:
    """The file's entries from ``start`` on."""
    if ".ndjson" in path.name:
        yield from _lines(path, start)
        return
    with _opened(path) as file:
        value = read_json(file.read(), most=None)
    if not isinstance(value, dict):
        raise UnreadableResource("The file must be a resource, a Bundle, or lines of resources (.ndjson).")
    bundle = value.get("resourceType") == "Bundle"
    kind = value["type"] if bundle and value.get("type") in HERE else "resources"
    entries = value.get("entry", []) if bundle else [value]
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise UnreadableResource("A Bundle has a list of entries.")
    if bundle and kind == "resources":
        entries = [_carried(one) for one in entries]
    size = len(entries) if kind == "transaction" else AT_ONCE
    for number in range(start, len(entries), max(size, 1)):
        end = min(number + size, len(entries))
        yield Part(kind, number, entries[number:end], end == len(entries), end / len(entries))


def _carried(entry: Json) -> Any:
    """The resource of an entry of a Bundle that asks for nothing."""
    return entry.get("resource")


def _lines(path: Path, start: int) -> Iterator[Part]:
    size = path.stat().st_size or 1
    with _opened(path) as file:
        lines = islice((line for line in file if line.strip()), start, None)
        number, some = start, [*islice(lines, AT_ONCE)]
        while some:
            following = [*islice(lines, AT_ONCE)]
            raw = getattr(file, "fileobj", file)
            yield Part("resources", number, some, not following, min(1.0, raw.tell() / size))
            number, some = number + len(some), following


def _opened(path: Path) -> Any:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _digest_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
