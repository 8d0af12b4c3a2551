"""What docs/scheduling.md says of its day and of the states is what the program answers."""

from pathlib import Path

from medical.scheduling.models import Status
from medical.scheduling.policy import MOVES
from tests.clinic import Clinic, day_after
from tools.draw_day import BOOKED, BUFFER, END, GRID, HELD, TIME_OFF, VISIT, picture

DOCS = Path(__file__).resolve().parents[2] / "docs"
DOCUMENT = (DOCS / "scheduling.md").read_text()
STARTS = [f"{hour:02}:{minute:02}" for hour in range(9, 13) for minute in (0, 15, 30, 45)]


def _shown(name: str) -> list[str]:
    return DOCUMENT.partition(f"<!-- {name} -->\n")[2].partition(f"<!-- /{name} -->")[0].splitlines()


def test_the_day_is_that_of_the_engine(clinic: Clinic) -> None:
    """Each start of the day: free, or what stands in the way."""
    kind = clinic.appointment_type(duration_minutes=VISIT, grid_minutes=GRID, buffer_after_minutes=BUFFER)
    doctor = clinic.clinician(time_zone="UTC")
    clinic.hours(doctor, end_time=END)
    clinic.appointment(clinic.patient(), doctor, kind, day_after(7, BOOKED))
    wanted = {"clinician_id": doctor.id, "appointment_type_id": kind["id"]}
    assert clinic.admin.post("/holds", wanted | {"start": day_after(7, HELD)}).status_code == 201
    off = {"clinician_id": doctor.id, "start": day_after(7, TIME_OFF), "end": day_after(7, END)}
    assert clinic.admin.post("/time-offs", off).status_code == 201

    found = clinic.admin.get("/slots", **wanted, from_=day_after(7), to=day_after(8)).get_json()["items"]
    free = [slot["start"][11:16] for slot in found]
    rows = ["| start | answer |", "| --- | --- |"]
    for at in STARTS:
        told = clinic.admin.get("/slots/explain", **wanted, start=day_after(7, at)).get_json()
        assert told["offered"] == (at in free)
        codes = ", ".join(f"`{code}`" for code in dict.fromkeys(reason["code"] for reason in told["reasons"]))
        rows.append(f"| {at} | {codes or 'free'} |")
    assert _shown("day") == rows, "\n".join(rows)


def test_the_states_are_those_of_the_program() -> None:
    """Each act, from where, to where."""
    rows = ["| act | from | to |", "| --- | --- | --- |"]
    for act, (sources, to) in MOVES.items():
        rows.append(f"| `{act}` | {', '.join(f'`{one}`' for one in Status if one in sources)} | `{to}` |")
    assert _shown("states") == rows, "\n".join(rows)


def test_the_picture_is_of_this_day() -> None:
    """As `tools/draw_day.py` draws it."""
    assert (DOCS / "scheduling.svg").read_text() == picture(DOCUMENT)
