"""Series of appointments over HTTP."""

from uuid import UUID

from flask import Blueprint

from medical.audit.events import Action
from medical.platform.authz import current_actor
from medical.platform.errors import NotFound
from medical.platform.http import endpoint
from medical.scheduling import series
from medical.scheduling.errors import CutoffPassed, InvalidTransition, NoneAhead, NotYourDiary, SeriesRefused
from medical.scheduling.permissions import Permission
from medical.scheduling.series_schemas import BookSeries, CancelSeries, RescheduleSeries, SeriesOut, SeriesQuery

bp = Blueprint("series", __name__, url_prefix="/api/v1/series")


@endpoint(
    bp.post(""),
    permission=Permission.APPOINTMENT_BOOK,
    body=BookSeries,
    query=SeriesQuery,
    returns=(201, SeriesOut),
    errors=[NotFound, NotYourDiary, SeriesRefused],
    audit=Action.SERIES_BOOKED,
    idempotent=True,
    etag=True,
)
def book(body: BookSeries, query: SeriesQuery) -> SeriesOut:
    """Book times that recur; `dry_run` books nothing and tells what would be booked."""
    return SeriesOut.of(series.book(current_actor(), **body.arguments(), dry_run=query.dry_run))


@endpoint(
    bp.get("/<uuid:series_id>"),
    permission=Permission.APPOINTMENT_READ,
    returns=(200, SeriesOut),
    audit=Action.SERIES_READ,
    etag=True,
)
def get(series_id: UUID) -> SeriesOut:
    """Read a series with its appointments, by occurrence."""
    return SeriesOut.of(series.get(current_actor(), series_id))


@endpoint(
    bp.post("/<uuid:series_id>/reschedule"),
    permission=Permission.APPOINTMENT_RESCHEDULE,
    body=RescheduleSeries,
    query=SeriesQuery,
    returns=(200, SeriesOut),
    errors=[NotYourDiary, SeriesRefused, NoneAhead, InvalidTransition, CutoffPassed],
    audit=Action.SERIES_RESCHEDULED,
    if_match=True,
    etag=True,
)
def reschedule(series_id: UUID, body: RescheduleSeries, query: SeriesQuery, expected_version: int | None) -> SeriesOut:
    """Move an occurrence and all that follow, keeping their ids; if one is refused, all stay where they were."""
    moved = series.reschedule(current_actor(), series_id, expected_version, **body.arguments(), dry_run=query.dry_run)
    return SeriesOut.of(moved)


@endpoint(
    bp.post("/<uuid:series_id>/cancel"),
    permission=Permission.APPOINTMENT_CANCEL,
    body=CancelSeries,
    returns=(200, SeriesOut),
    errors=[NoneAhead, CutoffPassed],
    audit=Action.SERIES_CANCELLED,
    if_match=True,
    etag=True,
)
def cancel(series_id: UUID, body: CancelSeries, expected_version: int | None) -> SeriesOut:
    """Cancel an occurrence and all that follow; their times are free again."""
    return SeriesOut.of(series.cancel(current_actor(), series_id, expected_version, **body.arguments()))
