"""Calendar feeds over HTTP."""

from datetime import datetime
from uuid import UUID

from flask import Blueprint, url_for

from medical.audit.events import Action
from medical.platform.authz import current_actor
from medical.platform.errors import NotFound
from medical.platform.http import endpoint, own_address
from medical.platform.paging import Page, PageQuery, page_of, read_cursor
from medical.scheduling import feeds
from medical.scheduling.errors import NotYourDiary
from medical.scheduling.feed_schemas import CalendarFeedOut, CreateCalendarFeed, NewCalendarFeedOut
from medical.scheduling.permissions import Permission

bp = Blueprint("calendar-feeds", __name__, url_prefix="/api/v1/calendar-feeds")
calendars = Blueprint("calendars", __name__, url_prefix="/api/v1/calendars")


@endpoint(
    bp.post(""),
    permission=Permission.CALENDAR_FEED_EDIT,
    body=CreateCalendarFeed,
    returns=(201, NewCalendarFeedOut),
    errors=[NotFound, NotYourDiary],
    audit=Action.CALENDAR_FEED_CREATED,
    idempotent=True,
)
def create(body: CreateCalendarFeed) -> NewCalendarFeedOut:
    """Make a secret address by which a calendar program reads somebody's times; it is told this once.

    Whoever has the address reads them, until it is revoked or its maker may not see them any more. A repeat with the
    same Idempotency-Key answers without the address: whoever missed it revokes the feed and makes another.
    """
    feed, secret = feeds.create(current_actor(), **body.arguments())
    return NewCalendarFeedOut.of(feed, url=own_address() + url_for("calendars.read", secret=secret))


@endpoint(
    bp.get(""),
    permission=Permission.CALENDAR_FEED_READ,
    query=PageQuery,
    returns=(200, Page[CalendarFeedOut]),
)
def list_feeds(query: PageQuery) -> Page[CalendarFeedOut]:
    """List one's own feeds, an administrator all, ordered by creation, id."""
    rows = feeds.list_feeds(query.limit, read_cursor(query.cursor, tuple[datetime, UUID]))
    return page_of(rows, query.limit, CalendarFeedOut.of, lambda feed: (feed.created_at, feed.id))


@endpoint(
    bp.get("/<uuid:feed_id>"),
    permission=Permission.CALENDAR_FEED_READ,
    returns=(200, CalendarFeedOut),
)
def get(feed_id: UUID) -> CalendarFeedOut:
    """Read a feed of one's own, an administrator any."""
    return CalendarFeedOut.of(feeds.get(feed_id))


@endpoint(
    bp.delete("/<uuid:feed_id>"),
    permission=Permission.CALENDAR_FEED_EDIT,
    returns=(204, None),
    audit=Action.CALENDAR_FEED_REVOKED,
)
def revoke(feed_id: UUID) -> None:
    """Revoke a feed: its address answers 404 from now on."""
    feeds.revoke(feed_id)


@endpoint(
    calendars.get("/<secret>.ics"),
    returns=(200, str),
    media_type="text/calendar; charset=utf-8",
    errors=[NotFound],
    audit=Action.CALENDAR_READ,
    etag=True,
)
def read(secret: str) -> bytes:
    """The calendar behind a secret address (RFC 5545): thirty days back and four hundred ahead.

    It needs no sign-in. `SEQUENCE` grows with each change; what was cancelled stays as `CANCELLED`.
    """
    return feeds.read(secret)
