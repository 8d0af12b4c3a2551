"""Lists in pages: a stated, total order, and a cursor that says where the next page begins."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta, Struct

from medical.platform.errors import FieldProblem, InvalidRequest
from medical.platform.wire import Input

Item = TypeVar("Item")
Row = TypeVar("Row")
Key = TypeVar("Key")

Limit = Annotated[int, Meta(ge=1, le=200, description="How many items a page holds at most.")]
Cursor = Annotated[str, Meta(min_length=1, max_length=4000, description="The `next` of the page before.")]


class PageQuery(Input, frozen=True, kw_only=True):
    """Which page of a list."""

    limit: Limit = 50
    cursor: Cursor | None = None


class Page(Struct, Generic[Item], frozen=True):
    """One page of a list, and the cursor of the next, if there is one."""

    items: list[Item]
    next: str | None


def read_cursor(cursor: str | None, kind: type[Key]) -> Key | None:
    """The sort key at which the page before ended; raises ``InvalidRequest`` for a cursor we did not make."""
    if cursor is None:
        return None
    try:
        key = msgspec.json.decode(urlsafe_b64decode(cursor.encode()), type=kind)
        if any(isinstance(part, str) and "\x00" in part for part in msgspec.to_builtins(key)):
            raise ValueError("PostgreSQL's text holds no NUL")
        return key
    except (ValueError, msgspec.MsgspecError):
        raise InvalidRequest([FieldProblem("/cursor", "is not a cursor of this list")]) from None


def page_of(
    rows: Sequence[Row], limit: int, show: Callable[[Row], Item], key: Callable[[Row], tuple[Any, ...]]
) -> Page[Item]:
    """A page of ``rows``, which were read with one row more than ``limit`` to know whether more follow."""
    shown = rows[:limit]
    more = len(rows) > limit
    cursor = urlsafe_b64encode(msgspec.json.encode(key(shown[-1]))).decode() if more else None
    return Page(items=[show(row) for row in shown], next=cursor)
