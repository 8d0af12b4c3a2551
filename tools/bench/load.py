"""Callers that keep their connections, and the processor time that answering them takes."""

import json
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil

from medical.platform.ids import new_id


class Connection:
    """One HTTP/1.1 connection that stays open; no more of HTTP than the program answers with."""

    def __init__(self, port: int, token: str = "") -> None:
        self.token = token
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self._socket.makefile("rb")

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Status and body of the answer."""
        content = json.dumps(body).encode() if body is not None else b""
        head = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(content)}"]
        if self.token:
            head.append(f"Authorization: Bearer {self.token}")
        if content:
            head.append("Content-Type: application/json")
        if method == "POST":
            head.append(f"Idempotency-Key: {new_id()}")
        self._socket.sendall("\r\n".join([*head, "", ""]).encode() + content)
        status = int(self._reader.readline().split()[1])
        length = 0
        while (line := self._reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return status, self._reader.read(length)

    def made(self, path: str, body: Any) -> Any:
        """What a POST made; ends the run when it was refused."""
        status, answer = self.call("POST", path, body)
        if status not in (200, 201):
            raise SystemExit(f"POST {path} answered {status}: {answer.decode()}")
        return json.loads(answer)

    def close(self) -> None:
        """End the connection."""
        self._reader.close()
        self._socket.close()


@dataclass
class Times:
    """What callers saw: seconds of each answer, statuses, and the processor's time behind them."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wall: float = 0.0
    server: float = 0.0
    postgres: float = 0.0

    def figures(self) -> dict[str, Any]:
        """Requests a second, p50 and p99 in milliseconds, and milliseconds of processor time per request."""
        count = len(self.seconds)
        hundredths = statistics.quantiles(self.seconds, n=100)
        return {
            "requests": count,
            "statuses": {str(status): number for status, number in sorted(self.statuses.items())},
            "per_second": round(count / self.wall, 1),
            "p50_ms": round(hundredths[49] * 1000, 2),
            "p99_ms": round(hundredths[98] * 1000, 2),
            "server_cpu_ms": round(self.server * 1000 / count, 3),
            "postgres_cpu_ms": round(self.postgres * 1000 / count, 3),
            "cpu_ms": round((self.server + self.postgres) * 1000 / count, 3),
        }


class Processes:
    """Two trees of processes, and the processor time that they used."""

    def __init__(self, server: int, postmaster: int) -> None:
        self._server, self._postmaster = server, postmaster

    def seconds(self) -> tuple[float, float]:
        """Used so far by the server and by PostgreSQL, children that ended included."""
        return used(self._server), used(self._postmaster)


def used(root: int) -> float:
    """Seconds of processor time of a process and its descendants."""
    total = 0.0
    process = psutil.Process(root)
    for one in [process, *process.children(recursive=True)]:
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    gone = process.cpu_times()
    return total + gone.children_user + gone.children_system


Ask = tuple[str, str, Any]


def measure(
    processes: Processes, port: int, token: str, asks: Sequence[Iterator[Ask]], seconds: float, warm_up: float = 0.5
) -> Times:
    """Let one caller for each iterator call until the time is over; the first moments do not count."""
    found, lock, over = Times(), threading.Lock(), threading.Event()
    counting = threading.Event()

    def call(own: Iterator[Ask]) -> None:
        connection = Connection(port, token)
        seen, statuses = [], Counter[int]()
        for method, path, body in own:
            if over.is_set():
                break
            began = time.perf_counter()
            status, _ = connection.call(method, path, body)
            if counting.is_set():
                seen.append(time.perf_counter() - began)
                statuses[status] += 1
        connection.close()
        with lock:
            found.seconds += seen
            found.statuses += statuses

    threads = [threading.Thread(target=call, args=(own,)) for own in asks]
    for thread in threads:
        thread.start()
    time.sleep(warm_up)
    before, began = processes.seconds(), time.perf_counter()
    counting.set()
    deadline = began + seconds
    while time.perf_counter() < deadline and any(thread.is_alive() for thread in threads):
        time.sleep(0.02)
    over.set()
    found.wall = time.perf_counter() - began
    after = processes.seconds()
    for thread in threads:
        thread.join()
    found.server, found.postgres = (now - then for now, then in zip(after, before, strict=True))
    return found


def at_once(count: int, port: int, token: str, ask: Callable[[int], Ask]) -> Counter[int]:
    """The statuses when so many call at the same moment."""
    barrier, statuses, lock = threading.Barrier(count), Counter[int](), threading.Lock()

    def call(number: int) -> None:
        connection = Connection(port, token)
        barrier.wait()
        status, _ = connection.call(*ask(number))
        connection.close()
        with lock:
            statuses[status] += 1

    threads = [threading.Thread(target=call, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses
