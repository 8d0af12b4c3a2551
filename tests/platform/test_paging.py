"""Pages: a cursor leads on from where the page before ended, and nowhere else."""

from base64 import urlsafe_b64encode
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medical.platform.errors import InvalidRequest
from medical.platform.paging import page_of, read_cursor

Key: Any = tuple[str, int]
ROWS = [("a", 1), ("b", 2), ("c", 3)]


def encoded(raw: bytes) -> str:
    """A cursor of somebody else's making."""
    return urlsafe_b64encode(raw).decode()


class TestPageOf:
    """A page of rows that were read with one more than its limit."""

    def test_the_last_page_has_no_next(self) -> None:
        """Also when it is full, or empty."""
        for rows in (ROWS, ROWS[:1], []):
            page = page_of(rows, 3, lambda row: row[0], lambda row: row)
            assert (page.items, page.next) == ([name for name, _ in rows], None)

    def test_a_further_row_shows_in_the_cursor_only(self) -> None:
        """The cursor is the key of the last row shown."""
        page = page_of(ROWS, 2, lambda row: row[0], lambda row: row)
        assert page.items == ["a", "b"]
        assert read_cursor(page.next, Key) == ("b", 2)


class TestReadCursor:
    """A cursor comes back from the caller."""

    def test_none_is_the_beginning(self) -> None:
        """There is nothing to come after."""
        assert read_cursor(None, Key) is None

    @given(st.text(), st.integers(min_value=0, max_value=2**62))
    def test_what_we_made_we_understand(self, name: str, number: int) -> None:
        """Whatever characters a name has, a NUL aside, which no name can have."""
        name = name.replace("\x00", "")
        page = page_of([(name, number), ("after", 1)], 1, lambda row: row, lambda row: row)
        assert read_cursor(page.next, Key) == (name, number)

    def test_a_name_that_looks_like_an_escape_is_a_name(self) -> None:
        """Six characters that JSON would write for a NUL, but as text."""
        page = page_of([("\\u0000", 1), ("after", 1)], 1, lambda row: row, lambda row: row)
        assert read_cursor(page.next, Key) == ("\\u0000", 1)

    @pytest.mark.parametrize(
        "cursor",
        [
            "",
            "x",
            "!!!!",
            "ünïcode",
            encoded(b""),
            encoded(b"{}"),
            encoded(b'["a"]'),
            encoded(b'["a", "1"]'),
            encoded(b'["a", 1, 2]'),
            encoded(b'["a\\u0000", 1]'),
            encoded(b'["a\x00", 1]'),
            encoded(b"[" * 700),
            encoded(b"\xff\xfe"),
        ],
    )
    def test_what_we_did_not_make_is_refused(self, cursor: str) -> None:
        """As a problem of the parameter."""
        with pytest.raises(InvalidRequest) as refused:
            read_cursor(cursor, Key)
        assert [problem.pointer for problem in refused.value.errors] == ["/cursor"]

    @given(st.text(max_size=100))
    def test_no_text_crashes_it(self, cursor: str) -> None:
        """It is a key, or refused."""
        try:
            key: Any = read_cursor(cursor, tuple[datetime, UUID])
        except InvalidRequest:
            key = None
        assert key is None or isinstance(key[0], datetime)
