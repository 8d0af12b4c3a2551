"""Who sees whom is planned once by each connection, and not looked up for roles that see nobody that way.

PostgreSQL plans the body of a set-returning SQL function anew at every call. For the functions that say which patients
somebody sees that took several milliseconds, of which looking them up was a small part. In PL/pgSQL the same queries
keep their plans; even so, the many row-level policies in them take a millisecond or two to make ready.
Nothing is locked but the functions' own rows; the previous release runs on it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

FUNCTIONS = {
    "care": "has_role(caller, 'clinician', 'nurse')",
    "cared_patients": "has_role(caller, 'clinician', 'nurse')",
    "own_patients": "has_role(caller, 'patient')",
    "patient_cards": "true",
    "proxied_patients": "has_role(caller, 'patient')",
    "search_patient_cards": "true",
    "seen_patients": "true",
    "taking_part": "has_role(caller, 'clinician')",
}
"""Each with what must be true for it to find anything."""

BODY = """
      #variable_conflict use_column
      BEGIN
        IF {condition} THEN
          RETURN QUERY {query};
        END IF;
      END
    """
"""A column is meant where it has the name of what the function returns."""


JOINED, PROBED = "l.event_id = e.id)", "l.event_id = e.id OFFSET 0)"
"""In `audit_backlog`: whether an event has its place. Joined, all places are read; probed, those of what waits."""


def upgrade() -> None:
    """Let each function return its query in PL/pgSQL; and let the backlog be counted without reading all places."""
    definition, body = _definition("audit_backlog")
    _replace(definition, body, body.replace(JOINED, PROBED))
    for name, condition in FUNCTIONS.items():
        definition, query = _definition(name)
        body = BODY.format(condition=condition, query=query.strip())
        _replace(definition.replace(" LANGUAGE sql\n", " LANGUAGE plpgsql\n"), query, body)


def downgrade() -> None:
    """Let each function be its query again."""
    definition, body = _definition("audit_backlog")
    _replace(definition, body, body.replace(PROBED, JOINED))
    for name, condition in FUNCTIONS.items():
        definition, body = _definition(name)
        before, after = BODY.format(condition=condition, query="|").split("|")
        query = "\n        " + body.removeprefix(before).removesuffix(after) + "\n    "
        _replace(definition.replace(" LANGUAGE plpgsql\n", " LANGUAGE sql\n"), body, query)


def _definition(name: str) -> tuple[str, str]:
    """How PostgreSQL would make the function again, and its body."""
    query = sa.text("SELECT pg_get_functiondef(oid), prosrc FROM pg_proc WHERE oid = CAST(:name AS regproc)")
    found = op.get_bind().execute(query, {"name": name}).one()
    return found[0], found[1]


def _replace(definition: str, body: str, by: str) -> None:
    op.get_bind().exec_driver_sql(definition.replace(body, by).replace("%", "%%"))
