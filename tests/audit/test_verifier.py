"""AUD-05: whatever is done to a sealed trail is found, and found where it was done."""

import ast
import copy
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from psycopg import sql

from medical.audit import export, verifier
from medical.audit.verifier import Problem, Record, Verification
from tests.audit.conftest import Trail, live_a_little
from tests.clinic import Clinic

MUTATIONS = 1_000
SEED = 20261126
TEXT_IDS = {"request_id", "client_id", "transaction_id"}
"""Names that end like those of UUIDs."""


@dataclass
class Tables:
    """A trail's rows as they lie in their tables, apart from each other."""

    events: list[Record] = field(default_factory=list)
    searches: list[Record] = field(default_factory=list)
    links: list[Record] = field(default_factory=list)
    seals: list[Record] = field(default_factory=list)

    @classmethod
    def of(cls, records: list[Record]) -> "Tables":
        """Taken apart from a dump."""
        made = cls()
        searches = {}
        for record in copy.deepcopy(records):
            if record["kind"] == "seal":
                made.seals.append(record)
            if record["kind"] == "link":
                for event in record.pop("events"):
                    if search := event.pop("search"):
                        searches[search["digest"]] = search
                    made.events.append(event)
                made.links.append(record)
        made.searches = list(searches.values())
        return made

    def records(self) -> list[Record]:
        """Put together again, as an export does."""
        searches = {(one["digest"], one["occurred_at"]): one for one in self.searches}
        by_id: dict[str, list[Record]] = {}
        for event in self.events:
            key = (event["search_digest"], event["occurred_at"])
            by_id.setdefault(event["id"], []).append(event | {"search": searches.get(key)})
        known = {(event["search_digest"], event["occurred_at"]) for event in self.events}
        lines: list[Record] = [{"kind": "trail", "format": 1}]
        chain: list[tuple[int, int, Record]] = [
            (link["position"], 0, link | {"events": by_id.get(link["event_id"], [])}) for link in self.links
        ]
        chain += [(seal["last_position"], 1, seal) for seal in sorted(self.seals, key=lambda seal: seal["number"])]
        lines += [record for *_, record in sorted(chain, key=lambda entry: entry[:2])]
        linked = {link["event_id"] for link in self.links}
        loose = [event | {"kind": "event"} for key, found in by_id.items() if key not in linked for event in found]
        orphans = [one | {"kind": "search"} for key, one in searches.items() if key not in known]
        counts = {"links": len(self.links), "seals": len(self.seals), "events": len(loose), "searches": len(orphans)}
        return [*lines, *loose, *orphans, {"kind": "end"} | counts]

    def link_of(self, event: Record) -> Record:
        """The link of an event."""
        return next(link for link in self.links if link["event_id"] == event["id"])

    def seal_of(self, position: int) -> Record:
        """The seal that covers a place."""
        return next(seal for seal in self.seals if seal["first_position"] <= position <= seal["last_position"])


@dataclass(frozen=True)
class Done:
    """What a mutation did: the places that a problem must name, one of them or all."""

    what: str
    first: int | None = None
    last: int | None = None
    event_id: str | None = None

    def found_in(self, problems: list[Problem]) -> bool:
        """Whether a problem names the place."""
        return any(self._is(problem) for problem in problems)

    def _is(self, problem: Problem) -> bool:
        if self.event_id is not None and problem.event_id == self.event_id:
            return True
        if self.first is None or problem.position is None:
            return False
        until = problem.until if problem.until is not None else problem.position
        return problem.position <= (self.last or self.first) and self.first <= until


Mutation = Callable[[Tables, random.Random], Done]


def another(value: Any, name: str, choose: random.Random) -> Any:
    """Some other value of the same kind."""
    noise = choose.randbytes(16).hex()
    if name.endswith("digest") or name in ("hash", "head", "root", "signature", "key_id", "salt"):
        return choose.randbytes(64 if name == "signature" else 32).hex()
    if name == "id" or (name.endswith("_id") and name not in TEXT_IDS):
        return None if value is not None and choose.random() < 0.3 and name != "id" else str(UUID(noise))
    if name in ("occurred_at", "sealed_at"):
        return value[:19] + f".{(int(value[20:26]) + choose.randrange(1, 999_999)) % 1_000_000:06d}Z"
    if name in ("transaction_id", "horizon"):
        return str(int(value) + choose.choice([-1, 1, 5, 2**33]))
    if name == "actor_roles":
        return [*value, "admin"] if choose.random() < 0.5 else value[:-1] or ["x"]
    if isinstance(value, int):
        return value + choose.choice([-1, 1, 7])
    return None if value is not None and choose.random() < 0.2 else f"{value}{noise[:3]}"


def change_event(tables: Tables, choose: random.Random) -> Done:
    """Any column of any event."""
    event = choose.choice(tables.events)
    position, event_id = tables.link_of(event)["position"], event["id"]
    name = choose.choice([name for name in event if name not in ("kind", "search")])
    event[name] = another(event[name], name, choose)
    return Done(f"event.{name}", position, event_id=event_id)


def change_event_with_its_digest(tables: Tables, choose: random.Random) -> Done:
    """By somebody who knows the format, and mends the link as well, but not the chain."""
    event = choose.choice(tables.events)
    link = tables.link_of(event)
    event["action"] = "patient.forgotten"
    event["digest"] = verifier.digest_of_event(event)
    if choose.random() < 0.5:
        link["digest"] = event["digest"]
    return Done("event with digest", link["position"], event_id=event["id"])


def delete_event(tables: Tables, choose: random.Random) -> Done:
    """With or without its link."""
    event = choose.choice(tables.events)
    link = tables.link_of(event)
    tables.events.remove(event)
    if choose.random() < 0.5:
        tables.links.remove(link)
    return Done("event deleted", link["position"], event_id=event["id"])


def delete_link(tables: Tables, choose: random.Random) -> Done:
    """Its event stays."""
    link = choose.choice(tables.links)
    tables.links.remove(link)
    return Done("link deleted", link["position"], event_id=link["event_id"])


def change_link(tables: Tables, choose: random.Random) -> Done:
    """Any column but its place."""
    link = choose.choice(tables.links)
    event_id = link["event_id"]
    name = choose.choice(["event_id", "occurred_at", "transaction_id", "digest", "hash"])
    link[name] = another(link[name], name, choose) or str(UUID(int=1))
    return Done(f"link.{name}", link["position"], event_id=event_id)


def insert_event(tables: Tables, choose: random.Random) -> Done:
    """A forged one, with a good digest, beside the chain."""
    event = copy.deepcopy(choose.choice(tables.events))
    event["id"] = str(UUID(choose.randbytes(16).hex()))
    event["transaction_id"] = str(int(tables.seals[-1]["horizon"]) - 1)
    event["digest"] = verifier.digest_of_event(event)
    tables.events.append(event)
    return Done("event inserted", event_id=event["id"])


def insert_link(tables: Tables, choose: random.Random) -> Done:
    """A forged event in the chain: behind its end, or at a place that is taken."""
    event = copy.deepcopy(choose.choice(tables.events))
    event["id"] = str(UUID(choose.randbytes(16).hex()))
    event["digest"] = verifier.digest_of_event(event)
    tables.events.append(event)
    last = tables.links[-1]
    link = {name: event[name] for name in ("occurred_at", "transaction_id", "digest")}
    link |= {"kind": "link", "event_id": event["id"]}
    link["position"] = choose.choice([last["position"] + 1, choose.choice(tables.links)["position"]])
    link["hash"] = verifier.hash_of_link(last["hash"], link)
    tables.links.append(link)
    return Done("link inserted", link["position"], event_id=event["id"])


def copy_event(tables: Tables, choose: random.Random) -> Done:
    """The same id a second time, in another month."""
    event = copy.deepcopy(choose.choice(tables.events))
    event["occurred_at"] = "2020-01-01T00:00:00.000000Z"
    tables.events.append(event)
    return Done("event copied", event_id=event["id"])


def reorder(tables: Tables, choose: random.Random) -> Done:
    """Two events change places: with or without the hashes of their links."""
    one, other = choose.sample(tables.links, 2)
    names = ["event_id", "occurred_at", "transaction_id", "digest", *(["hash"] if choose.random() < 0.5 else [])]
    for name in names:
        one[name], other[name] = other[name], one[name]
    return Done("reordered", choose.choice([one, other])["position"])


def swap_search(tables: Tables, choose: random.Random) -> Done:
    """The text of one search for that of another; or changed, or gone."""
    one, other = choose.sample(tables.searches, 2)
    [*events] = [event for event in tables.events if event["search_digest"] == one["digest"]]
    kind = choose.randrange(3)
    if kind == 0:
        for name in ("salt", "content"):
            one[name], other[name] = other[name], one[name]
    elif kind == 1:
        name = choose.choice(["salt", "content", "organization_id"])
        one[name] = another(one[name], name, choose) or "nothing"
    else:
        tables.searches.remove(one)
    return Done("search", tables.link_of(events[0])["position"], event_id=events[0]["id"])


def insert_search(tables: Tables, choose: random.Random) -> Done:
    """A text that nobody searched for; there is no place to name."""
    forged = choose.choice(tables.searches) | {"digest": choose.randbytes(32).hex()}
    tables.searches.append(forged)
    return Done("search inserted")


def change_seal(tables: Tables, choose: random.Random) -> Done:
    """Any column."""
    seal = choose.choice(tables.seals)
    first, last = seal["first_position"], seal["last_position"]
    name = choose.choice([name for name in seal if name != "kind"])
    seal[name] = another(seal[name], name, choose)
    return Done(f"seal.{name}", first, last)


def delete_seal(tables: Tables, choose: random.Random) -> Done:
    """Its links stay."""
    seal = choose.choice(tables.seals)
    tables.seals.remove(seal)
    return Done("seal deleted", seal["first_position"], seal["last_position"])


def cut(tables: Tables, choose: random.Random) -> Done:
    """The end of the trail: everything from some place on, to the last row."""
    keep = choose.randrange(1, len(tables.seals))
    last = tables.seals[keep - 1]["last_position"]
    gone = {link["event_id"] for link in tables.links if link["position"] > last}
    tables.seals = tables.seals[:keep]
    tables.links = [link for link in tables.links if link["position"] <= last]
    tables.events = [event for event in tables.events if event["id"] not in gone]
    known = {event["search_digest"] for event in tables.events}
    tables.searches = [search for search in tables.searches if search["digest"] in known]
    return Done("cut", last + 1)


def rewrite(tables: Tables, choose: random.Random) -> Done:
    """An event is changed and everything behind it computed anew; the seals cannot be, or by another key."""
    event = choose.choice(tables.events)
    changed = tables.link_of(event)
    event["outcome"] = "success" if event["outcome"] != "success" else "refused"
    changed["digest"] = event["digest"] = verifier.digest_of_event(event)
    before = "00" * 32
    for link in tables.links:
        before = link["hash"] = verifier.hash_of_link(before, link)
    seal = tables.seal_of(changed["position"])
    if choose.random() < 0.5:
        forger = Ed25519PrivateKey.generate()
        for one in tables.seals[tables.seals.index(seal) :]:
            covered = [
                link for link in tables.links if one["first_position"] <= link["position"] <= one["last_position"]
            ]
            one["head"] = covered[-1]["hash"]
            one["root"] = verifier.root_of([verifier.leaf_of(link) for link in covered]).hex()
            sign(one, forger)
    return Done("rewritten", seal["first_position"], seal["last_position"])


def sign(seal: Record, key: Ed25519PrivateKey) -> None:
    """Sign a seal with some key, which it then names."""
    public = key.public_key().public_bytes_raw()
    content = b"".join(seal[name].to_bytes(8, "big") for name in ("number", "first_position", "last_position"))
    content += bytes.fromhex(seal["head"]) + bytes.fromhex(seal["root"]) + int(seal["horizon"]).to_bytes(8, "big")
    content += verifier.microseconds(seal["sealed_at"]).to_bytes(8, "big") + public
    seal["key_id"] = public.hex()
    seal["signature"] = key.sign(b"medical-audit-seal-1\n" + content).hex()


KINDS: list[Mutation] = [
    change_event,
    change_event,
    change_event,
    change_event_with_its_digest,
    delete_event,
    delete_link,
    change_link,
    insert_event,
    insert_link,
    copy_event,
    reorder,
    swap_search,
    insert_search,
    change_seal,
    delete_seal,
    cut,
    rewrite,
]


@pytest.fixture
def sealed(trail: Trail) -> Trail:
    """A trail of some sixty events in batches of seven."""
    live_a_little(Clinic(trail.app))
    trail.seal(limit=7)
    return trail


class TestMutations:
    """A thousand, at random."""

    def test_each_is_found_and_located(self, sealed: Trail) -> None:
        """With the sealer's public key and the last checkpoint; the trail as it was is whole."""
        records = sealed.records()
        checkpoint = [record for record in records if record["kind"] == "seal"][-1]
        choose = random.Random(SEED)

        def verify(changed: list[Record]) -> list[Problem]:
            return list(Verification([sealed.public_key], [checkpoint]).problems(changed))

        assert verify(records) == []
        assert verify(Tables.of(records).records()) == []
        missed, astray, tried = [], [], Counter()
        for number in range(MUTATIONS):
            tables = Tables.of(records)
            done = KINDS[number % len(KINDS)](tables, choose)
            tried[done.what] += 1
            problems = verify(tables.records())
            if not problems:
                missed.append(done)
            elif done.what != "search inserted" and not done.found_in(problems):
                astray.append((done, problems))
        assert missed == []
        assert astray == []
        assert len(tried) > 40

    def test_one_change_is_not_reported_all_over(self, sealed: Trail) -> None:
        """Whoever looks for it finds it at once."""
        records, choose = sealed.records(), random.Random(SEED)
        for _ in range(50):
            tables = Tables.of(records)
            change_event(tables, choose)
            problems = list(Verification([sealed.public_key]).problems(tables.records()))
            assert len(problems) <= 3, problems


class TestTail:
    """What only a checkpoint from outside shows."""

    def test_a_cut_one_looks_whole_without_it(self, sealed: Trail) -> None:
        """And is found with it."""
        records = sealed.records()
        checkpoint = [record for record in records if record["kind"] == "seal"][-1]
        tables = Tables.of(records)
        cut(tables, random.Random(SEED))
        assert list(Verification([sealed.public_key]).problems(tables.records())) == []
        [problem] = Verification([sealed.public_key], [checkpoint]).problems(tables.records())
        assert (problem.kind, problem.until) == ("cut", checkpoint["last_position"])

    def test_a_forgers_checkpoint_is_none(self, sealed: Trail) -> None:
        """It must be signed by the key that is trusted."""
        checkpoint = [record for record in sealed.records() if record["kind"] == "seal"][-1]
        sign(checkpoint, Ed25519PrivateKey.generate())
        kinds = {problem.kind for problem in sealed.problems(checkpoints=[checkpoint])}
        assert kinds == {"bad signature", "changed"}

    def test_a_trail_that_went_on_still_has_it(self, sealed: Trail) -> None:
        """A checkpoint is one of its seals for ever."""
        with export.snapshot(sealed.url) as connection:
            last = export.last_seal(connection)
        assert last is not None
        live_a_little(Clinic(sealed.app), patients=1)
        sealed.seal()
        assert sealed.problems(checkpoints=[json.loads(last)]) == []

    def test_a_key_swapped_everywhere_is_found_by_who_knows_the_right_one(self, sealed: Trail) -> None:
        """Without it, such a trail is whole."""
        tables, forger = Tables.of(sealed.records()), Ed25519PrivateKey.generate()
        for seal in tables.seals:
            sign(seal, forger)
        assert list(Verification().problems(tables.records())) == []
        kinds = [problem.kind for problem in Verification([sealed.public_key]).problems(tables.records())]
        assert kinds == ["bad signature"] * len(tables.seals)


class TestInTheDatabase:
    """The same done by somebody who owns the database."""

    @pytest.mark.parametrize(
        ("statement", "kind"),
        [
            ("UPDATE audit_event SET actor_id = gen_random_uuid() WHERE id = {event}", "changed"),
            ("DELETE FROM audit_event WHERE id = {event}", "deleted"),
            ("DELETE FROM audit_link WHERE event_id = {event}", "gap"),
            ("UPDATE audit_link SET digest = sha256('x') WHERE event_id = {event}", "changed"),
            (
                "UPDATE audit_link l SET event_id = e.id FROM audit_event e WHERE false;"
                " UPDATE audit_link SET hash = sha256('x') WHERE event_id = {event}",
                "reordered",
            ),
            ("UPDATE audit_event SET occurred_at = occurred_at - interval '3 years' WHERE id = {event}", "changed"),
        ],
    )
    def test_it_is_found_where_it_was_done(self, sealed: Trail, statement: str, kind: str) -> None:
        """By what is read from the tables."""
        with sealed.connect() as connection:
            [(position, event_id)] = connection.execute(
                "SELECT position, event_id FROM audit_link WHERE position = 11"
            ).fetchall()
            for part in statement.split(";"):
                connection.execute(sql.SQL(part).format(event=sql.Literal(event_id)))
        found = [(problem.kind, problem.position) for problem in sealed.problems()]
        assert (kind, position) in found

    def test_a_search_swapped_for_another_is_found(self, sealed: Trail) -> None:
        """Who searched for whom cannot be exchanged."""
        with sealed.connect() as connection:
            connection.execute("UPDATE audit_search SET content = 'somebody else' WHERE content = 'Trailed1'")
        assert {problem.kind for problem in sealed.problems()} == {"detail swapped"}

    def test_an_event_that_is_not_sealed_yet_waits(self, sealed: Trail) -> None:
        """It is no problem, and is counted."""
        Clinic(sealed.app).patient()
        verification = Verification([sealed.public_key])
        assert list(verification.problems(sealed.records())) == []
        assert verification.report.waiting == sealed.waiting() >= 1


class TestAlone:
    """The verifier shares nothing with what it verifies."""

    def test_imports_nothing_of_ours(self, project: Path) -> None:
        """And, besides the standard library, only what checks signatures."""
        tree = ast.parse((project / "medical/audit/verifier.py").read_text())
        found = {
            alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
        }
        found |= {(node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert found - sys.stdlib_module_names == {"cryptography"}

    def test_runs_as_a_program_of_its_own(self, sealed: Trail, tmp_path: Path, project: Path) -> None:
        """On a dump, from a folder without the project."""
        dump = tmp_path / "dump.jsonl"
        dump.write_text("".join(json.dumps(record) + "\n" for record in sealed.records()))
        program = tmp_path / "verifier.py"
        program.write_bytes((project / "medical/audit/verifier.py").read_bytes())
        command = [sys.executable, "-I", str(program), str(dump), "--public-key"]
        whole = subprocess.run([*command, sealed.public_key], capture_output=True, text=True, check=False)
        assert (whole.returncode, whole.stdout.split(", ")[-1]) == (0, "0 problems\n")
        forged = subprocess.run([*command, "00" * 32], capture_output=True, text=True, check=False)
        assert forged.returncode == 1
        dump.write_text("\n".join(dump.read_text().splitlines()[:-3]) + "\n")
        short = subprocess.run([*command, sealed.public_key], capture_output=True, text=True, check=False)
        assert (short.returncode, "cut: the dump has no end" in short.stdout) == (1, True)

    def test_a_mangled_line_is_a_problem_and_no_crash(self, sealed: Trail) -> None:
        """Whatever stands where something else belongs."""
        records, choose = sealed.records(), random.Random(SEED)
        for _ in range(300):
            changed = copy.deepcopy(records)
            record = choose.choice(changed[1:])
            name = choose.choice([name for name in record if name != "kind"])
            if record["kind"] == "link" and name == "events" and record["events"]:
                record = record["events"][0]
                name = choose.choice(list(record))
                if name == "search":
                    continue
            record[name] = choose.choice([["x"], {"x": 1}, -1, 2**70, "no", 0.5])
            assert list(Verification([sealed.public_key]).problems(changed)), (record, name)


def test_the_digest_of_the_format_is_the_one_that_is_written(sealed: Trail) -> None:
    """Both encoders, of which neither knows the other, agree on every event of the trail."""
    events = [event for record in sealed.records() if record["kind"] == "link" for event in record["events"]]
    assert [verifier.digest_of_event(event) for event in events] == [event["digest"] for event in events]
    assert len({event["digest"] for event in events}) == len(events) > 20
    assert sha256(b"").hexdigest() not in {event["digest"] for event in events}
