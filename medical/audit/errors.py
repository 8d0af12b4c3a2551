"""What is refused for the sake of the trail."""

from medical.platform.errors import Unavailable


class AuditUnavailable(Unavailable):
    """The trail cannot be written, so nothing is shown or changed."""

    code = "audit_unavailable"
    detail = "The audit trail cannot be written, so nothing was shown or changed; try again in a moment."
