"""Draw the day of docs/scheduling.md, from its table, as docs/scheduling.svg: `python -m tools.draw_day`."""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
BOOKED, HELD, TIME_OFF, END = "09:00", "11:00", "12:30", "13:00"
VISIT, BUFFER, GRID = 30, 10, 15

LEFT, TOP, HEIGHT, MINUTE = 90, 30, 26, 3
COLOURS = {"open": "#cfe8cf", "booked": "#3b6ea5", "buffer": "#c9c9c9", "held": "#e0a030", "free": "#2e8b57"}


def picture(document: str) -> str:
    """The day as SVG: a row each of hours, claims, and starts that the table calls free."""
    free = re.findall(r"^\| (\d\d:\d\d) \| free \|$", document, re.MULTILINE)
    width = LEFT + _minutes(END) * MINUTE + 30
    hours = [_text(_x(f"{hour:02}:00"), 20, f"{hour:02}:00") for hour in range(9, 14)]
    open_row = _bar(0, "open", 0, _minutes(TIME_OFF))
    claims = [
        bar
        for kind, start in (("booked", _minutes(BOOKED)), ("held", _minutes(HELD)))
        for bar in (_bar(1, kind, start, VISIT), _bar(1, "buffer", start + VISIT, BUFFER))
    ]
    starts = [_bar(2, "free", _minutes(at), GRID - 1) for at in free]
    names = [_text(8, _y(row) + 17, name) for row, name in enumerate(("open", "claimed", "free starts"))]
    key = [
        f'<rect x="{LEFT + n * 110}" y="{_y(3)}" width="14" height="14" fill="{colour}"/>'
        + _text(LEFT + n * 110 + 20, _y(3) + 12, name)
        for n, (name, colour) in enumerate(COLOURS.items())
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{_y(4)}" font-family="sans-serif" '
        'font-size="12"><title>A day: open, booked, buffer, held, free</title>'
        f'<rect width="{width}" height="{_y(4)}" fill="#fff"/>'
    )
    return "\n".join([head, *hours, *names, open_row, *claims, *starts, *key, "</svg>"]) + "\n"


def _minutes(at: str) -> int:
    """Since nine o'clock."""
    return int(at[:2]) * 60 + int(at[3:]) - 9 * 60


def _x(at: str) -> int:
    return LEFT + _minutes(at) * MINUTE


def _y(row: int) -> int:
    return TOP + row * (HEIGHT + 8)


def _bar(row: int, kind: str, start: int, minutes: int) -> str:
    x, wide = LEFT + start * MINUTE, minutes * MINUTE
    return f'<rect x="{x}" y="{_y(row)}" width="{wide}" height="{HEIGHT}" fill="{COLOURS[kind]}"/>'


def _text(x: int, y: int, words: str) -> str:
    return f'<text x="{x}" y="{y}">{words}</text>'


if __name__ == "__main__":
    (DOCS / "scheduling.svg").write_text(picture((DOCS / "scheduling.md").read_text()))
