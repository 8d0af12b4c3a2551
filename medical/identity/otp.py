"""Second factors: codes of an authenticator app (RFC 6238), each good once, and recovery codes."""

import base64
import io
import secrets
from datetime import datetime
from hmac import compare_digest
from uuid import UUID

import pyotp
import segno
from msgspec import Struct
from sqlalchemy import delete, insert, select, text

from medical.audit import service as audit
from medical.identity.errors import InvalidOtp, OtpEnrolled, OtpNotEnrolled
from medical.identity.models import OtpCredential, RecoveryCode
from medical.platform.db import db, scope_organization
from medical.platform.sealing import Seal

ISSUER = "Medical Backend"
STEP_SECONDS, TOLERANCE = 30, 1
"""A clock may be one step off, no more."""
CODES, CODE_BYTES = 10, 10

BEGIN = text(
    """
    INSERT INTO otp_credential AS o (organization_id, user_id, secret, last_step, created_at)
    VALUES (:organization_id, :user_id, :secret, 0, :now)
    ON CONFLICT (user_id) DO UPDATE SET secret = excluded.secret, created_at = excluded.created_at
        WHERE o.confirmed_at IS NULL
    RETURNING 1
    """
)
CONFIRM = text(
    "UPDATE otp_credential SET confirmed_at = :now, last_step = :step"
    " WHERE user_id = :user_id AND secret = :secret AND confirmed_at IS NULL RETURNING 1"
)
USE = text(
    "UPDATE otp_credential SET last_step = :step"
    " WHERE user_id = :user_id AND secret = :secret AND confirmed_at IS NOT NULL AND last_step < :step RETURNING 1"
)
"""Of many at once with the same code, one; and nobody with an older one."""


class Enrolment(Struct, frozen=True):
    """What an authenticator app needs."""

    secret: str
    otpauth_uri: str
    qr_svg: str


class SecondFactors:
    """The users' second factors, whose secrets only SECRET_KEY opens."""

    def __init__(self, secret: str) -> None:
        self._sealing = Seal(secret, "second factors")

    def begin(self, user_id: UUID, email: str, now: datetime) -> Enrolment:
        """A new secret, which counts once it is confirmed. Raises ``OtpEnrolled``."""
        secret = pyotp.random_base32()
        values = {
            "organization_id": scope_organization(),
            "user_id": user_id,
            "secret": self._sealing.seal(secret.encode(), str(user_id)),
            "now": now,
        }
        if not db.session.execute(BEGIN, values).first():
            raise OtpEnrolled
        uri = pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=ISSUER)
        picture = io.BytesIO()
        segno.make(uri, micro=False).save(picture, kind="svg", scale=4)
        return Enrolment(secret, uri, picture.getvalue().decode())

    def confirm(self, user_id: UUID, otp: str, now: datetime) -> list[str]:
        """Make the begun secret count; new recovery codes.

        Raises ``OtpNotEnrolled``, ``OtpEnrolled`` or ``InvalidOtp``.
        """
        found = self._credential(user_id)
        if found is None:
            raise OtpNotEnrolled
        if found.confirmed_at:
            raise OtpEnrolled
        step = self._step(found, otp, now)
        values = {"user_id": user_id, "secret": found.secret, "step": step, "now": now}
        if step is None or not db.session.execute(CONFIRM, values).first():
            raise InvalidOtp
        return self.renew_codes(user_id)

    def accepts(self, user_id: UUID, otp: str, now: datetime) -> bool:
        """Whether ``otp`` is a code of now, or a recovery code, not used before; it is used with this."""
        given = otp.replace(" ", "").replace("-", "")
        if not given.isdecimal():
            mine = delete(RecoveryCode).where(RecoveryCode.user_id == user_id)
            used = mine.where(RecoveryCode.digest == self._digest(user_id, given)).returning(RecoveryCode.user_id)
            return db.session.execute(used).first() is not None
        found = self._credential(user_id)
        step = self._step(found, given, now) if found and found.confirmed_at else None
        if found is None or step is None:
            return False
        values = {"user_id": user_id, "secret": found.secret, "step": step}
        return db.session.execute(USE, values).first() is not None

    def renew_codes(self, user_id: UUID) -> list[str]:
        """New recovery codes, told this once; the old ones are void. Raises ``OtpNotEnrolled``."""
        found = self._credential(user_id, lock=True)
        if found is None or not found.confirmed_at:
            raise OtpNotEnrolled
        codes = [base64.b32encode(secrets.token_bytes(CODE_BYTES)).decode().lower() for _ in range(CODES)]
        db.session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
        rows = [
            {"user_id": user_id, "organization_id": scope_organization(), "digest": self._digest(user_id, code)}
            for code in codes
        ]
        db.session.execute(insert(RecoveryCode), rows)
        audit.touch("user", user_id)
        return ["-".join(code[start : start + 4] for start in range(0, len(code), 4)) for code in codes]

    def _credential(self, user_id: UUID, *, lock: bool = False) -> OtpCredential | None:
        query = select(OtpCredential).where(OtpCredential.user_id == user_id)
        query = query.execution_options(populate_existing=True)
        return db.session.scalars(query.with_for_update() if lock else query).first()

    def _step(self, found: OtpCredential, otp: str, now: datetime) -> int | None:
        """The step near now that has this code, if one has."""
        totp = pyotp.TOTP(self._sealing.open(found.secret, str(found.user_id)).decode())
        given, present = otp.replace(" ", "").encode(), int(now.timestamp()) // STEP_SECONDS
        steps = range(present - TOLERANCE, present + TOLERANCE + 1)
        return next((step for step in steps if compare_digest(totp.generate_otp(step).encode(), given)), None)

    def _digest(self, user_id: UUID, code: str) -> bytes:
        return self._sealing.digest(f"{user_id}:{code.lower()}")


def remove(user_id: UUID) -> None:
    """Remove the user's second factor and recovery codes. Raises ``OtpNotEnrolled``."""
    gone = delete(OtpCredential).where(OtpCredential.user_id == user_id).returning(OtpCredential.user_id)
    db.session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user_id))
    if not db.session.execute(gone).first():
        raise OtpNotEnrolled
    audit.touch("user", user_id)
