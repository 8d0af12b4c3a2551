"""Counters and timings for Prometheus, summed over all worker processes."""

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

REQUESTS = Counter("medical_http_requests", "Requests answered.", ("method", "route", "status"))
SECONDS = Histogram(
    "medical_http_request_seconds",
    "Time to answer, by route.",
    ("method", "route"),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
OWN_RECORDS = Counter("medical_own_record_refused", "Attempts of staff to open their own record as staff.")

MEDIA_TYPE = CONTENT_TYPE_LATEST

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
"""Others are counted together, or a caller could make up any number of series."""


def observe(method: str, route: str, status: int, seconds: float) -> None:
    """Count one answered request; ``route`` is the template of the path, never the path."""
    method = method if method in METHODS else "other"
    REQUESTS.labels(method, route, str(status)).inc()
    SECONDS.labels(method, route).observe(seconds)


class Measured(NamedTuple):
    """Something that is looked up when somebody asks, and the same whichever process answers."""

    name: str
    meaning: str
    value: float


class _Gauges(Collector):
    def __init__(self, measured: Iterable[Measured]) -> None:
        self._measured = list(measured)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for name, meaning, value in self._measured:
            yield GaugeMetricFamily(name, meaning, value)


def exposition(measured: Iterable[Measured]) -> bytes:
    """All metrics in Prometheus' text format, with what was measured just now."""
    registry = CollectorRegistry()
    registry.register(_Gauges(measured))
    return _counted() + generate_latest(registry)


def _counted() -> bytes:
    if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        return generate_latest()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library has no types here
    return generate_latest(registry)
