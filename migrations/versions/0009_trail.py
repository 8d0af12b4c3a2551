"""The trail by months, each event with its digest; links and seals that prove it; searches as they were typed.

Moves every event into the new table: it locks audit_event until they are copied, so that requests wait or are
answered 503. The previous release does not run on it: its events have no digest.
Partitions lie in the schema audit_month, which nobody but the owner of the schema may enter.
All of it is written by hand: autogenerate sees neither partitions nor grants, policies or functions.
"""

import sqlalchemy as sa
from alembic import op

from medical.platform.tenancy import guard_function

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

PREVIOUS = (
    "id, organization_id, occurred_at, actor_id, actor_roles, session_id, action, outcome, code, patient_id,"
    " entity_type, entity_id, request_id, source"
)
ADDED = f"{PREVIOUS}, purpose, on_behalf_of, client_id, search_digest, format, digest"
"""What the application's role writes; the number of the transaction it cannot choose."""

EVENT = """
    CREATE TABLE audit_event (
        id uuid NOT NULL,
        organization_id uuid CONSTRAINT fk_audit_event_organization_id REFERENCES organization (id),
        occurred_at timestamptz NOT NULL,
        actor_id uuid,
        actor_roles text[] NOT NULL,
        session_id uuid,
        action text NOT NULL,
        outcome text NOT NULL,
        code text,
        patient_id uuid,
        entity_type text,
        entity_id uuid,
        request_id text,
        source text,
        purpose text,
        on_behalf_of uuid,
        client_id text,
        search_digest bytea,
        format smallint NOT NULL,
        digest bytea NOT NULL,
        transaction_id xid8 DEFAULT pg_current_xact_id() NOT NULL,
        CONSTRAINT pk_audit_event PRIMARY KEY (id, occurred_at),
        CONSTRAINT ck_audit_event_digest CHECK (octet_length(digest) = 32)
    ) PARTITION BY RANGE (occurred_at)
"""
COMMENTS = {
    "organization_id": "null: nobody's, such as a sign-in to an account that does not exist",
    "outcome": "success, refused or denied",
    "code": "code of the refusal",
    "source": "network address of the caller",
    "purpose": "why, where it is out of the ordinary: BTG for a broken glass",
    "on_behalf_of": "the user for whom a client acts",
    "client_id": "the client through which it was done",
    "search_digest": "of the text that was searched for, which lies in audit_search",
    "format": "of the encoding behind the digest, see docs/audit-format.md",
    "digest": "SHA-256 over all of the above",
    "transaction_id": "by which the sealer knows what it has not seen yet",
}
SEARCH = """
    CREATE TABLE audit_search (
        digest bytea NOT NULL,
        occurred_at timestamptz NOT NULL,
        organization_id uuid CONSTRAINT fk_audit_search_organization_id REFERENCES organization (id),
        salt bytea NOT NULL,
        content text NOT NULL,
        CONSTRAINT pk_audit_search PRIMARY KEY (digest, occurred_at)
    ) PARTITION BY RANGE (occurred_at)
"""

ADD_MONTH = """
    CREATE FUNCTION add_audit_month(month date) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        kind text;
        name text;
        starts timestamptz := month::timestamp AT TIME ZONE 'UTC';
        ends timestamptz := (month + interval '1 month') AT TIME ZONE 'UTC';
    BEGIN
        FOREACH kind IN ARRAY ARRAY['event', 'search'] LOOP
            name := kind || to_char(month, '_YYYY_MM');
            CONTINUE WHEN to_regclass('audit_month.' || name) IS NOT NULL;
            EXECUTE format('LOCK TABLE audit_month.%I IN ACCESS EXCLUSIVE MODE', kind || '_rest');
            EXECUTE format('CREATE TABLE audit_month.%I (LIKE public.%I INCLUDING ALL)', name, 'audit_' || kind);
            EXECUTE format('WITH moved AS (DELETE FROM audit_month.%I WHERE occurred_at >= %L AND occurred_at < %L'
                           ' RETURNING *) INSERT INTO audit_month.%I SELECT * FROM moved',
                           kind || '_rest', starts, ends, name);
            EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION audit_month.%I FOR VALUES FROM (%L) TO (%L)',
                           'audit_' || kind, name, starts, ends);
        END LOOP;
    END $$
"""
"""One month of the trail. Attached, not made as a partition: that would stop every writer for the while."""

PREPARE_MONTHS = """
    CREATE FUNCTION prepare_audit_months() RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public
    AS $$
        SELECT public.add_audit_month((date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month')::date)
        FROM generate_series(0, 2) n
    $$
"""
"""The present month and the two that come; with its owner's rights, so that the sealer needs no more than its own."""

BACKLOG = """
    CREATE FUNCTION audit_backlog(OUT events bigint, OUT oldest_at timestamptz, OUT "position" bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
    AS $$
        WITH last AS (SELECT s.last_position, s.horizon FROM audit_seal s ORDER BY s.number DESC LIMIT 1),
        waiting AS (
            SELECT e.occurred_at FROM audit_event e
            WHERE e.transaction_id >= coalesce((SELECT horizon FROM last), '0')
              AND NOT EXISTS (SELECT FROM audit_link l WHERE l.event_id = e.id)
            LIMIT 10000
        )
        SELECT count(*), min(occurred_at), coalesce((SELECT last_position FROM last), 0) FROM waiting
    $$
"""
"""How many events wait for their seal (10,000 stands for more), since when, and how far the chain goes."""

GAPS = """
    CREATE FUNCTION audit_gaps(first bigint, last bigint) RETURNS SETOF bigint
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public
    AS $$
        SELECT l.position FROM audit_link l
        WHERE l.position BETWEEN first AND last
          AND NOT EXISTS (SELECT FROM audit_event e WHERE e.id = l.event_id AND e.digest = l.digest)
          AND NOT EXISTS (SELECT FROM audit_archive a WHERE l.occurred_at >= a.month::timestamp AT TIME ZONE 'UTC'
                                      AND l.occurred_at < (a.month + interval '1 month') AT TIME ZONE 'UTC')
        ORDER BY l.position
    $$
"""
"""Places in the chain whose event, of whatever organisation, is gone or has another digest: places, and no more."""

PART = """
    CREATE FUNCTION pg_temp.part(value bytea) RETURNS bytea LANGUAGE sql IMMUTABLE
    AS $$ SELECT coalesce('\\x01'::bytea || int4send(octet_length(value)) || value, '\\x00') $$
"""
DIGEST = """
    sha256(convert_to('medical-audit-event-1' || chr(10), 'UTF8')
        || pg_temp.part(uuid_send(organization_id))
        || pg_temp.part(int8send((extract(epoch FROM occurred_at) * 1000000)::bigint))
        || pg_temp.part(uuid_send(actor_id))
        || pg_temp.part(int4send(cardinality(actor_roles)) || coalesce(
               (SELECT string_agg(pg_temp.part(convert_to(r, 'UTF8')), '' ORDER BY n)
                FROM unnest(actor_roles) WITH ORDINALITY AS t (r, n)), ''))
        || pg_temp.part(uuid_send(session_id))
        || '\\x000000'::bytea
        || pg_temp.part(convert_to(action, 'UTF8'))
        || pg_temp.part(convert_to(outcome, 'UTF8'))
        || pg_temp.part(convert_to(code, 'UTF8'))
        || pg_temp.part(convert_to(request_id, 'UTF8'))
        || pg_temp.part(convert_to(source, 'UTF8'))
        || '\\x00'::bytea
        || pg_temp.part(uuid_send(id))
        || pg_temp.part(uuid_send(patient_id))
        || pg_temp.part(convert_to(entity_type, 'UTF8'))
        || pg_temp.part(uuid_send(entity_id)))
"""
"""Format 1 of docs/audit-format.md, for events that have none of the columns that are new."""


def upgrade() -> None:
    """Make the new trail, and carry the old one over."""
    for role in ("medical_sealer", "medical_verifier"):
        _make_role(role)
    op.execute("CREATE SCHEMA audit_month")
    op.execute("ALTER TABLE audit_event SET SCHEMA audit_month")
    op.execute("ALTER TABLE audit_month.audit_event NO FORCE ROW LEVEL SECURITY")
    _make_trail()
    _make_proof()
    op.execute(ADD_MONTH)
    op.execute("REVOKE ALL ON FUNCTION add_audit_month(date) FROM PUBLIC")
    op.execute(PREPARE_MONTHS)
    op.execute("REVOKE ALL ON FUNCTION prepare_audit_months() FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION prepare_audit_months() TO medical_sealer")
    op.execute("SELECT prepare_audit_months()")
    op.execute(
        "SELECT add_audit_month(month::date) FROM (SELECT DISTINCT date_trunc('month', occurred_at AT TIME ZONE 'UTC')"
        " FROM audit_month.audit_event) AS t (month)"
    )
    op.execute(PART)
    op.execute(
        f"INSERT INTO audit_event ({PREVIOUS}, format, digest)"  # noqa: S608  # made of the constants above
        f" SELECT {PREVIOUS}, 1, {DIGEST} FROM audit_month.audit_event"
    )
    op.execute("DROP FUNCTION pg_temp.part(bytea)")
    op.execute("DROP TABLE audit_month.audit_event")
    _guard_trail()
    _make_sealers_functions()


def downgrade() -> None:
    """Put the events back into one plain table; links, seals and searches are lost."""
    op.execute("DROP FUNCTION audit_gaps(bigint, bigint)")
    op.execute("DROP FUNCTION audit_backlog()")
    op.execute("DROP FUNCTION prepare_audit_months()")
    op.execute("DROP FUNCTION add_audit_month(date)")
    for table in ("audit_archive", "audit_seal", "audit_link", "audit_search"):
        op.execute(f"DROP TABLE {table}")
    op.execute("ALTER TABLE audit_event NO FORCE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE audit_event SET SCHEMA audit_month")
    _make_previous()
    op.execute(
        f"INSERT INTO audit_event ({PREVIOUS}) SELECT {PREVIOUS} FROM audit_month.audit_event"  # noqa: S608  # as above
    )
    _guard_previous()
    op.execute("DROP SCHEMA audit_month CASCADE")


def _make_role(role: str) -> None:
    """As migration 0001 makes medical_app."""
    op.execute(
        f"""
        DO $$ BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
                CREATE ROLE {role} NOLOGIN;
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another database of this server made it at the same moment
        END $$
        """
    )
    op.execute(
        f"""
        DO $$ BEGIN
            IF NOT pg_has_role(current_user, '{role}', 'USAGE') THEN
                GRANT {role} TO CURRENT_USER;
            END IF;
        END $$
        """
    )


def _make_trail() -> None:
    op.execute(EVENT)
    for column, comment in COMMENTS.items():
        op.execute(f"COMMENT ON COLUMN audit_event.{column} IS '{comment.replace(chr(39), chr(39) * 2)}'")
    op.execute("CREATE INDEX ix_audit_event_organization_id_occurred_at ON audit_event (organization_id, occurred_at)")
    op.execute(
        "CREATE INDEX ix_audit_event_organization_id_patient_id_occurred_at"
        " ON audit_event (organization_id, patient_id, occurred_at)"
    )
    op.execute("CREATE INDEX ix_audit_event_transaction_id ON audit_event (transaction_id)")
    op.execute(SEARCH)
    for kind in ("event", "search"):
        op.execute(f"CREATE TABLE audit_month.{kind}_rest PARTITION OF audit_{kind} DEFAULT")


def _make_proof() -> None:
    op.execute(
        """
        CREATE TABLE audit_link (
            "position" bigint NOT NULL,
            event_id uuid NOT NULL,
            occurred_at timestamptz NOT NULL,
            transaction_id xid8 NOT NULL,
            digest bytea NOT NULL,
            hash bytea NOT NULL,
            CONSTRAINT pk_audit_link PRIMARY KEY ("position"),
            CONSTRAINT uq_audit_link_event_id UNIQUE (event_id)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE audit_seal (
            number bigint NOT NULL,
            first_position bigint NOT NULL,
            last_position bigint NOT NULL,
            head bytea NOT NULL,
            root bytea NOT NULL,
            horizon xid8 NOT NULL,
            sealed_at timestamptz NOT NULL,
            key_id text NOT NULL,
            signature bytea NOT NULL,
            CONSTRAINT pk_audit_seal PRIMARY KEY (number)
        )
        """
    )
    op.execute("COMMENT ON COLUMN audit_link.hash IS 'SHA-256 over the hash before and this link'")
    op.execute("COMMENT ON COLUMN audit_seal.root IS 'Merkle root over the links of the batch'")
    op.execute("COMMENT ON COLUMN audit_seal.horizon IS 'every event of an earlier transaction is sealed'")
    op.execute("COMMENT ON COLUMN audit_seal.key_id IS 'public key, in hexadecimal digits'")
    op.create_table(
        "audit_archive",
        sa.Column("month", sa.Date(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of the file"),
        sa.Column("archived_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("month", name="pk_audit_archive"),
    )
    op.execute("GRANT SELECT ON audit_link, audit_seal TO medical_app")
    op.execute("GRANT SELECT, INSERT ON audit_link, audit_seal TO medical_sealer")
    op.execute("GRANT SELECT ON audit_archive TO medical_sealer")
    op.execute("GRANT SELECT ON audit_link, audit_seal, audit_archive TO medical_verifier")


def _guard_trail() -> None:
    """Who adds, who reads: the application what is its organisation's, the sealer what it seals, the verifier all."""
    op.execute(f"GRANT SELECT, INSERT ({ADDED}) ON audit_event TO medical_app")
    op.execute("GRANT SELECT (id, occurred_at, transaction_id, digest) ON audit_event TO medical_sealer")
    op.execute("GRANT SELECT ON audit_event, audit_search TO medical_verifier")
    op.execute("GRANT INSERT ON audit_search TO medical_app")
    for table in ("audit_event", "audit_search"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY add ON {table} FOR INSERT"
            " WITH CHECK (organization_id IS NOT DISTINCT FROM (SELECT current_organization()))"
        )
    op.execute("CREATE POLICY read ON audit_event FOR SELECT USING (organization_id = (SELECT current_organization()))")
    op.execute("CREATE POLICY seal ON audit_event FOR SELECT TO medical_sealer, medical_verifier USING (true)")
    op.execute("CREATE POLICY verify ON audit_search FOR SELECT TO medical_verifier USING (true)")


def _make_sealers_functions() -> None:
    """With the rights of the sealer, which sees of events their ids, times and digests, and of all organisations."""
    op.execute(BACKLOG)
    op.execute(GAPS)
    op.execute("GRANT CREATE ON SCHEMA public TO medical_sealer")
    for function in ("audit_backlog()", "audit_gaps(bigint, bigint)"):
        guard_function(function)
        op.execute(f"ALTER FUNCTION {function} OWNER TO medical_sealer")
    op.execute("REVOKE CREATE ON SCHEMA public FROM medical_sealer")


def _make_previous() -> None:
    """The table as migration 0001 made it."""
    op.execute(
        """
        CREATE TABLE audit_event (
            id uuid NOT NULL,
            organization_id uuid,
            occurred_at timestamptz NOT NULL,
            actor_id uuid,
            actor_roles text[] NOT NULL,
            session_id uuid,
            action text NOT NULL,
            outcome text NOT NULL,
            code text,
            patient_id uuid,
            entity_type text,
            entity_id uuid,
            request_id text,
            source text,
            CONSTRAINT fk_audit_event_organization_id FOREIGN KEY (organization_id) REFERENCES organization (id),
            CONSTRAINT pk_audit_event PRIMARY KEY (id)
        )
        """
    )
    for column in ("organization_id", "outcome", "code", "source"):
        op.execute(f"COMMENT ON COLUMN audit_event.{column} IS '{COMMENTS[column].replace(chr(39), chr(39) * 2)}'")
    op.execute("CREATE INDEX ix_audit_event_organization_id_occurred_at ON audit_event (organization_id, occurred_at)")
    op.execute(
        "CREATE INDEX ix_audit_event_organization_id_patient_id_occurred_at"
        " ON audit_event (organization_id, patient_id, occurred_at)"
    )


def _guard_previous() -> None:
    op.execute("GRANT SELECT, INSERT ON audit_event TO medical_app")
    op.execute("ALTER TABLE audit_event ENABLE ROW LEVEL SECURITY")
    op.execute("ALTER TABLE audit_event FORCE ROW LEVEL SECURITY")
    op.execute("CREATE POLICY read ON audit_event FOR SELECT USING (organization_id = (SELECT current_organization()))")
    op.execute(
        "CREATE POLICY add ON audit_event FOR INSERT"
        " WITH CHECK (organization_id IS NOT DISTINCT FROM (SELECT current_organization()))"
    )
