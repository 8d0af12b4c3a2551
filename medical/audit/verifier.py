"""Verifying the trail, written from docs/audit-format.md alone: it imports nothing of ours.

It reads a dump line by line and keeps no more than one batch in memory; so it also works as a program of its own,
on a machine that has Python and `cryptography` and nothing else: `python verifier.py DUMP --public-key HEX`.
"""

import argparse
import hashlib
import heapq
import json
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

Record = dict[str, Any]

EVENT_FIELDS = (
    ("organization_id", "uuid"),
    ("occurred_at", "time"),
    ("actor_id", "uuid"),
    ("actor_roles", "texts"),
    ("session_id", "uuid"),
    ("on_behalf_of", "uuid"),
    ("client_id", "text"),
    ("purpose", "text"),
    ("action", "text"),
    ("outcome", "text"),
    ("code", "text"),
    ("request_id", "text"),
    ("source", "text"),
    ("search_digest", "bytes"),
    ("id", "uuid"),
    ("patient_id", "uuid"),
    ("entity_type", "text"),
    ("entity_id", "uuid"),
)

COUNTED = {"link": "links", "seal": "seals", "event": "events", "search": "searches"}
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, struct.error, OverflowError)
"""What reading a mangled value raises."""


@dataclass(frozen=True)
class Problem:
    """One thing that is not whole: what, at which place of the chain, about which event."""

    kind: str
    said: str
    position: int | None = None
    event_id: str | None = None
    until: int | None = None
    """The last place it may be about, where that cannot be told more closely."""

    def __str__(self) -> str:
        place = "" if self.position is None else f" at position {self.position}"
        if self.until is not None and self.until != self.position:
            place = f" at positions {self.position} to {self.until}"
        event = "" if self.event_id is None else f", event {self.event_id}"
        return f"{self.kind}{place}{event}: {self.said}"


@dataclass
class Report:
    """What a verification saw, besides problems."""

    links: int = 0
    seals: int = 0
    waiting: int = 0
    """Events that have no place yet, as new ones have none."""
    archived: int = 0
    """Places whose events lie in a file that was not given."""
    head: str | None = None
    keys: set[str] = field(default_factory=set)


def microseconds(value: str) -> int:
    """An instant as the format counts it."""
    moment = datetime.fromisoformat(value)
    offset = moment.utcoffset()
    if offset is None:
        raise ValueError("an instant without an offset")
    days = (moment.date() - datetime(1970, 1, 1).date()).days  # noqa: DTZ001  # a date has no zone
    seconds = days * 86_400 + moment.hour * 3600 + moment.minute * 60 + moment.second - int(offset.total_seconds())
    return seconds * 1_000_000 + moment.microsecond


def encode(value: Any, kind: str) -> bytes:
    """``part`` of the format."""
    if value is None:
        return b"\x00"
    if kind == "uuid":
        raw = UUID(value).bytes
    elif kind == "time":
        raw = struct.pack(">q", microseconds(value))
    elif kind == "texts":
        raw = struct.pack(">I", len(value)) + b"".join(encode(item, "text") for item in value)
    elif kind == "bytes":
        raw = bytes.fromhex(value)
    else:
        raw = str.encode(value, "utf-8")
    return struct.pack(">BI", 1, len(raw)) + raw


def digest_of_event(event: Record) -> str:
    """The digest that an event should have."""
    if event["format"] != 1:
        raise ValueError(f"format {event['format']} is not known")
    content = b"".join(encode(event[name], kind) for name, kind in EVENT_FIELDS)
    return hashlib.sha256(b"medical-audit-event-1\n" + content).hexdigest()


def digest_of_search(search: Record) -> str:
    """The digest that a search should have."""
    content = bytes.fromhex(search["salt"]) + search["content"].encode()
    return hashlib.sha256(b"medical-audit-search-1\n" + content).hexdigest()


def hash_of_link(before: str, link: Record) -> str:
    """The hash that a link should have, after the one with the hash ``before``."""
    content = bytes.fromhex(before) + struct.pack(">q", link["position"]) + UUID(link["event_id"]).bytes
    content += struct.pack(">qQ", microseconds(link["occurred_at"]), int(link["transaction_id"]))
    return hashlib.sha256(b"medical-audit-link-1\n" + content + bytes.fromhex(link["digest"])).hexdigest()


def leaf_of(link: Record) -> bytes:
    """The link as a leaf of its batch's tree."""
    content = struct.pack(">q", link["position"]) + UUID(link["event_id"]).bytes + bytes.fromhex(link["digest"])
    return hashlib.sha256(b"\x00" + content).digest()


def root_of(leaves: list[bytes]) -> bytes:
    """The root of a tree of hashed leaves (RFC 6962)."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + root_of(leaves[:split]) + root_of(leaves[split:])).digest()


def is_signed(seal: Record) -> bool:
    """Whether the signature of a seal is good, by the key it names."""
    try:
        key = bytes.fromhex(seal["key_id"])
        content = struct.pack(">QQQ", seal["number"], seal["first_position"], seal["last_position"])
        content += bytes.fromhex(seal["head"]) + bytes.fromhex(seal["root"])
        content += struct.pack(">Qq", int(seal["horizon"]), microseconds(seal["sealed_at"])) + key
        signature = bytes.fromhex(seal["signature"])
        Ed25519PublicKey.from_public_bytes(key).verify(signature, b"medical-audit-seal-1\n" + content)
    except (InvalidSignature, *MALFORMED):
        return False
    return True


class Archives:
    """Events of months that lie in files, found by their places; each file is read once, from front to end."""

    def __init__(self, files: Iterable[Iterable[Record]]) -> None:
        links = [(one for one in file if one["kind"] == "link") for file in files]
        self._links = heapq.merge(*links, key=lambda link: int(link["position"]))
        self._next: Record | None = next(self._links, None)

    def events(self, position: int) -> list[Record] | None:
        """The events that the files have for this place; None if none of them knows the place."""
        while self._next is not None and self._next["position"] < position:
            self._next = next(self._links, None)
        if self._next is None or self._next["position"] != position:
            return None
        found: list[Record] = self._next["events"]
        return found


class Verification:
    """One pass over a trail. Call ``problems`` once; afterwards ``report`` says what was seen."""

    def __init__(
        self,
        public_keys: Iterable[str] = (),
        checkpoints: Iterable[Record] = (),
        archives: Iterable[Iterable[Record]] = (),
        *,
        after: Record | None = None,
        blind: bool = False,
    ) -> None:
        """``after``: a seal that was verified before; the trail is read from there on.

        ``blind``: for who may not see everything. Events that are null were not looked at, texts of searches neither.
        """
        self.report = Report()
        self._blind = blind
        self._trusted = {key.lower() for key in public_keys}
        self._checkpoints = {int(one["number"]): one for one in checkpoints}
        self._archives = Archives(archives)
        self._months: set[str] = set()
        self._counts = dict.fromkeys(COUNTED.values(), 0)
        self._position = 0
        self._befores: list[str] = ["00" * 32]
        self._leaves: list[bytes] = []
        self._whole_batch = True
        self._seal_number = 0
        self._sealed_to = 0
        self._horizon = 0
        self._diverged = False
        self._ended = False
        if after:
            self._position = self._sealed_to = after["last_position"]
            self._seal_number, self._befores = after["number"], [after["head"]]

    def problems(self, records: Iterable[Record]) -> Iterator[Problem]:
        """Everything that is not whole in the trail, in its order."""
        yield from self._forged_checkpoints()
        reads: dict[str, Callable[[Record], Iterator[Problem]]] = {
            "trail": self._read_header,
            "archive": self._read_archive,
            "link": self._read_link,
            "seal": self._read_seal,
            "event": self._read_loose,
            "search": self._read_search,
            "end": self._read_end,
        }
        for record in records:
            kind = record.get("kind")
            if kind in COUNTED:
                self._counts[COUNTED[kind]] += 1
            if kind not in reads:
                yield Problem("inserted", f"a line of an unknown kind: {kind!r}")
                continue
            try:
                yield from reads[kind](record)
            except MALFORMED:
                yield Problem("changed", f"a {kind} that cannot be read", record.get("position"))
        yield from self._finish()

    def _forged_checkpoints(self) -> Iterator[Problem]:
        for number, checkpoint in self._checkpoints.items():
            if not is_signed(checkpoint) or not self._trusts(checkpoint["key_id"]):
                yield Problem("bad signature", f"the checkpoint of seal {number} is not signed by a trusted key")

    def _trusts(self, key: str) -> bool:
        return not self._trusted or key.lower() in self._trusted

    def _read_header(self, header: Record) -> Iterator[Problem]:
        if header["format"] != 1:
            yield Problem("changed", f"a dump of format {header['format']}, which is not known")

    def _read_archive(self, archive: Record) -> Iterator[Problem]:
        self._months.add(archive["month"][:7])
        yield from ()

    def _read_link(self, link: Record) -> Iterator[Problem]:
        position, event_id = link["position"], link["event_id"]
        self.report.links += 1
        if position <= self._position:
            yield Problem("inserted", "a second link for this place, or one out of order", position, event_id)
            return
        if position > self._position + 1:
            yield from self._gap(position - 1)
        self._position = position
        troubled = False
        for problem in self._wrong_events(link):
            troubled = True
            yield problem
        yield from self._wrong_link(link, troubled)
        self._leaves.append(leaf_of(link))

    def _gap(self, until: int) -> Iterator[Problem]:
        """The links from the present place to ``until`` are missing."""
        said = "the chain has no such link: it was deleted"
        yield Problem("gap", said, self._position + 1, until=until)
        self._befores, self._whole_batch = [], False

    def _wrong_link(self, link: Record, troubled: bool) -> Iterator[Problem]:
        """Whether the link follows on the one before; where that one was changed, on what it was or should be."""
        position, event_id = link["position"], link["event_id"]
        stored = link["hash"]
        computed = [hash_of_link(before, link) for before in self._befores]
        fits = not computed or stored in computed
        if not fits and not troubled:
            said = "the event is whole, but was not sealed at this place of the chain"
            yield Problem("reordered", said, position, event_id)
        elif not fits:
            yield Problem("changed", "the link is not the one that was sealed", position, event_id)
        self._befores = [stored] if fits else [stored, *computed]
        self._whole_batch = self._whole_batch and fits

    def _wrong_events(self, link: Record) -> Iterator[Problem]:
        """What is wrong between a link and its event."""
        position, event_id, events = link["position"], link["event_id"], link["events"]
        if events is None and self._blind:
            return
        archived = link["occurred_at"][:7] in self._months
        if not events and archived:
            found = self._archives.events(position)
            if found is None:
                self.report.archived += 1
                return
            events = found
        if not events:
            yield Problem("deleted", "the event is gone", position, event_id)
        elif len(events) > 1:
            yield Problem("inserted", "there are several events of this id", position, event_id)
        else:
            yield from self._wrong_event(link, events[0])

    def _wrong_event(self, link: Record, event: Record) -> Iterator[Problem]:
        position, event_id = link["position"], link["event_id"]
        try:
            computed = digest_of_event(event)
            agrees = (
                UUID(event["id"]) == UUID(event_id)
                and event["digest"] == link["digest"]
                and microseconds(event["occurred_at"]) == microseconds(link["occurred_at"])
                and int(event["transaction_id"]) == int(link["transaction_id"])
            )
        except MALFORMED:
            computed, agrees = "", False
        if computed != link["digest"]:
            yield Problem("changed", "the event is not the one that was sealed", position, event_id)
        elif not agrees:
            yield Problem("changed", "event and link do not agree", position, event_id)
        yield from self._wrong_search(event, position)

    def _wrong_search(self, event: Record, position: int | None) -> Iterator[Problem]:
        if event["search_digest"] is None or self._blind:
            return
        search = event["search"]
        if search is None:
            yield Problem("detail deleted", "the text of the search is gone", position, event["id"])
            return
        try:
            fits = digest_of_search(search) == event["search_digest"] == search["digest"]
            fits = fits and search["organization_id"] == event["organization_id"]
        except MALFORMED:
            fits = False
        if not fits:
            yield Problem("detail swapped", "the text of the search is another one", position, event["id"])

    def _read_seal(self, seal: Record) -> Iterator[Problem]:
        number, first, last = seal["number"], seal["first_position"], seal["last_position"]
        self.report.seals += 1
        self.report.keys.add(seal["key_id"])
        followed = number == self._seal_number + 1
        if number <= self._seal_number:
            yield Problem("inserted", f"a second seal {number}", first, until=last)
            return
        if not followed:
            missing = f"seals {self._seal_number + 1} to {number - 1} are missing"
            yield Problem("gap", missing, self._sealed_to + 1, until=first - 1)
            self._whole_batch = False
        elif first != self._sealed_to + 1 or last < first:
            said = f"seal {number} does not begin where the one before ended"
            yield Problem("changed", said, self._sealed_to + 1, until=max(last, self._sealed_to + 1))
            self._whole_batch = False
        yield from self._wrong_seal(seal, first if not followed else self._sealed_to + 1)
        yield from self._wrong_checkpoint(seal)
        self._seal_number, self._sealed_to, self._horizon = number, last, int(seal["horizon"])
        self._leaves, self._whole_batch = [], True
        self.report.head = seal["head"]

    def _wrong_seal(self, seal: Record, first: int) -> Iterator[Problem]:
        """What is wrong with a seal's signature, and between it and its links, which begin at ``first``."""
        number, last = seal["number"], max(seal["last_position"], first)
        if not is_signed(seal):
            yield Problem("bad signature", f"seal {number} was changed, or another key signed it", first, until=last)
        elif not self._trusts(seal["key_id"]):
            yield Problem("bad signature", f"seal {number} is signed by a key that is not trusted", first, until=last)
        if self._position < last:
            yield Problem("cut", f"the links that seal {number} covers are gone", self._position + 1, until=last)
            self._position, self._befores, self._whole_batch = last, [seal["head"]], False
        if not self._whole_batch:
            self._diverged = False
            return
        if len(self._leaves) != last - first + 1 or root_of(self._leaves).hex() != seal["root"]:
            yield Problem("changed", f"the links are not those that seal {number} covers", first, until=last)
        heads = seal["head"] in self._befores
        if not heads and not self._diverged:
            yield Problem("changed", f"the chain does not lead to the head of seal {number}", first, until=last)
        self._diverged = not heads

    def _wrong_checkpoint(self, seal: Record) -> Iterator[Problem]:
        checkpoint = self._checkpoints.pop(seal["number"], None)
        if checkpoint and any(checkpoint[name] != seal[name] for name in ("head", "root", "last_position", "key_id")):
            said = f"seal {seal['number']} is not the one of the checkpoint: the trail was rewritten"
            yield Problem("changed", said, seal["first_position"], until=seal["last_position"])

    def _read_loose(self, event: Record) -> Iterator[Problem]:
        """An event without a link is new, unless its transaction was sealed long ago."""
        if int(event["transaction_id"]) < self._horizon:
            yield Problem("inserted", "an event that was never sealed, of a transaction that was", None, event["id"])
            return
        self.report.waiting += 1
        if digest_of_event(event) != event["digest"]:
            yield Problem("changed", "an event that is not sealed yet does not fit its digest", None, event["id"])
        yield from self._wrong_search(event, None)

    def _read_search(self, search: Record) -> Iterator[Problem]:
        if search["occurred_at"][:7] not in self._months:
            yield Problem("inserted", f"a search that no event knows, of {search['occurred_at']}")

    def _read_end(self, end: Record) -> Iterator[Problem]:
        self._ended = True
        for name, counted in self._counts.items():
            if end[name] != counted:
                yield Problem("cut", f"the dump has {counted} {name}, and had {end[name]}")

    def _finish(self) -> Iterator[Problem]:
        if self._position > self._sealed_to:
            said = "links that no seal covers: seals were deleted, or links slipped in"
            yield Problem("cut", said, self._sealed_to + 1, until=self._position)
        for number, checkpoint in sorted(self._checkpoints.items()):
            if number > self._seal_number:
                said = f"the trail ends before the checkpoint of seal {number}: its end was cut off"
                yield Problem("cut", said, self._sealed_to + 1, until=checkpoint["last_position"])
        if not self._ended:
            yield Problem("cut", "the dump has no end")


def read_lines(file: Path) -> Iterator[Record]:
    """The records of a dump, one by one; a line that is none is a record of an unknown kind."""
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            yield record if isinstance(record, dict) else {"kind": "not a line of a dump"}


def main() -> int:
    """Verify a dump; 1 when it is not whole."""
    parser = argparse.ArgumentParser(description="Verify a dump of the trail.")
    parser.add_argument("dump", type=Path)
    parser.add_argument("--checkpoint", type=Path, action="append", default=[])
    parser.add_argument("--archive", type=Path, action="append", default=[])
    parser.add_argument("--public-key", action="append", default=[])
    given = parser.parse_args()
    checkpoints = [json.loads(file.read_text()) for file in given.checkpoint]
    verification = Verification(given.public_key, checkpoints, map(read_lines, given.archive))
    found = 0
    for problem in verification.problems(read_lines(given.dump)):
        found += 1
        sys.stdout.write(f"{problem}\n")
    report = verification.report
    sys.stdout.write(f"{report.links} events, {report.seals} seals, head {report.head}, {found} problems\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
