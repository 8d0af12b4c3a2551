"""What was measured, for people: a table and a plot."""

from collections.abc import Sequence
from math import log10
from typing import Any

from tools.bench.calls import BOOKING, CALLS
from tools.bench.records import RECORDS

Result = dict[str, Any]
REFERENCE = {call.name: call for call in [*CALLS, BOOKING, *RECORDS]}

COLUMNS = [
    "call",
    "requests/s",
    "p50 ms",
    "p99 ms",
    "CPU ms: server",
    "PostgreSQL",
    "together",
    "aim",
    "floor: bare server",
    "floor: SQL alone, client + PostgreSQL",
    "Medplum",
    "care",
]
TITLE = "Processor time per request, server and PostgreSQL, in milliseconds (logarithmic; shorter is better)"
FONT = 'font-family="sans-serif" font-size="12"'
WIDTH, BAR, GAP, LEFT, ROOM = 900, 14, 14, 390, 110
LEAST, MOST = 0.05, 550.0
COLOURS = {"ours": "#2563eb", "floor": "#93c5fd", "medplum": "#a3a3a3", "care": "#d4a373"}


def table(results: Sequence[Result]) -> str:
    """A Markdown table: one row for each call."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    for one in results:
        call = REFERENCE[one["call"]]
        cells = [
            one["call"],
            one["per_second"],
            one["p50_ms"],
            one["p99_ms"],
            one["server_cpu_ms"],
            one["postgres_cpu_ms"],
            one["cpu_ms"],
            call.aim or "",
            one.get("bare_cpu_ms", ""),
            _sql(one),
            call.medplum or "",
            call.care or "",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _sql(result: Result) -> str:
    if "sql_postgres_cpu_ms" not in result:
        return ""
    return f"{result['sql_client_cpu_ms']} + {result['sql_postgres_cpu_ms']} ({result['sql_statements']} statements)"


def plot(results: Sequence[Result]) -> str:
    """An SVG: processor time of each call beside the floors and the published figures, on a logarithmic scale."""
    parts, top = [], 40
    for result in results:
        call = REFERENCE[result["call"]]
        floor = sum(result.get(name, 0) for name in ("bare_cpu_ms", "sql_client_cpu_ms", "sql_postgres_cpu_ms"))
        parts.append(f'<text x="10" y="{top + BAR - 3}" font-weight="bold">{call.name}</text>')
        for word, value in {
            "ours": result["cpu_ms"],
            "floor": floor,
            "medplum": call.medplum,
            "care": call.care,
        }.items():
            if value:
                parts.append(_bar(word, value, top))
                top += BAR + 1
        top += GAP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" {FONT}>',
            f'<rect width="{WIDTH}" height="{top}" fill="white"/>',
            f'<text x="10" y="20" font-size="14">{TITLE}</text>',
            *parts,
            "</svg>\n",
        ]
    )


def _bar(word: str, value: float, top: int) -> str:
    length = max(2.0, log10(value / LEAST) * (WIDTH - LEFT - ROOM) / log10(MOST / LEAST))
    bar = f'<rect x="{LEFT}" y="{top}" width="{length:.0f}" height="{BAR}" fill="{COLOURS[word]}"/>'
    return bar + f'<text x="{LEFT + length + 6:.0f}" y="{top + BAR - 3}">{word} {value:.2f}</text>'
