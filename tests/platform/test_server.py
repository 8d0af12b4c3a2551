"""Serving: requests in flight are finished, an address is ours alone."""

import http.client
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from medical.platform.server import PortTaken, Reservation
from tests.cli.program import environment, free_port, until

SLOW = """
import sys, time
from medical.config import Settings
from medical.platform.logging import configure
from medical.platform.server import Server

def slow(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        print("at work", flush=True)
        time.sleep(1.5)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]

configure(Settings())
Server("127.0.0.1", int(sys.argv[1]), Settings(workers=1)).run(lambda: slow)
"""


@pytest.fixture
def port() -> int:
    """A port that nothing listens at."""
    return free_port()


@pytest.fixture
def server(port: int) -> Iterator[subprocess.Popen[str]]:
    """A server whose requests to ``/slow`` take a while."""
    command = [sys.executable, "-c", SLOW, str(port)]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        until(lambda: answers(port), "listening")
        yield process
        process.kill()


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def answers(port: int) -> bool:
    try:
        return get(port, "/")[0] == 200
    except OSError:
        return False


def test_a_request_in_flight_is_finished_before_the_end(server: subprocess.Popen[str], port: int) -> None:
    answer: list[tuple[int, bytes]] = []
    caller = threading.Thread(target=lambda: answer.append(get(port, "/slow")))
    caller.start()
    assert server.stdout
    assert server.stdout.readline() == "at work\n"
    server.terminate()
    caller.join()
    assert answer == [(200, b"done")]
    assert server.wait(20) == 0


class TestReservation:
    def test_a_taken_port_is_named_with_the_mend(self) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            pytest.raises(PortTaken, match=r"127\.0\.0\.1:\d+ is not free .* --port"),
        ):
            Reservation("127.0.0.1", listener.getsockname()[1])

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the listener itself is the reservation")
    def test_nobody_else_gets_the_port_while_it_is_held(self, port: int) -> None:
        held = Reservation("127.0.0.1", port)
        with pytest.raises(PortTaken):
            Reservation("127.0.0.1", port)
        held.release()
        Reservation("127.0.0.1", port).release()

    def test_an_address_of_another_machine(self, port: int) -> None:
        with pytest.raises(PortTaken, match=r"192\.0\.2\.1"):
            Reservation("192.0.2.1", port)
