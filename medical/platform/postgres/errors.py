"""What can go wrong with the embedded server."""

from medical.platform.refusal import Refused


class PostgresError(Refused):
    """The embedded server cannot be used; the text says in one sentence what, where, and how to mend it."""
