"""Browsers may call for the scripts of registered apps: before anybody signs in, an app is found by its origin.

A function and a policy on `smart_app`, which takes a lock on it for a moment. The previous release runs on it.
"""

from alembic import op

from medical.platform.tenancy import guard_function

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

HAS_ORIGIN = """
    CREATE FUNCTION has_origin(addresses text[], origin text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, public
    AS $$
      SELECT coalesce(bool_or(starts_with(lower(one) || '/', origin || '/')), false) FROM unnest(addresses) AS one
    $$
"""
"""Whether one of the addresses is of this origin, as https://html.spec.whatwg.org/#ascii-serialisation-of-an-origin."""


def upgrade() -> None:
    """Add them."""
    op.execute(HAS_ORIGIN)
    guard_function("has_origin(text[], text)")
    op.execute(
        "CREATE POLICY browser ON smart_app FOR SELECT"
        " USING (active AND has_origin(redirect_uris, (SELECT nullif(current_setting('app.origin', true), ''))))"
    )


def downgrade() -> None:
    """Remove them."""
    op.execute("DROP POLICY browser ON smart_app")
    op.execute("DROP FUNCTION has_origin(text[], text)")
