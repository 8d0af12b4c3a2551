"""The key that seals are signed with: a file that the web processes do not read."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from medical.platform.refusal import Refused

FILE = "audit_seal_key.pem"
RAW_BYTES = 32


class NoSealKey(Refused):
    """There is no key to seal with; the text says why and how to mend it."""


def sealing_key(named: Path | None, data: Path) -> Ed25519PrivateKey:
    """The key in the file that the setting names; else that of the data folder, made at the first start.

    Raises ``NoSealKey``, or ``OSError`` where the file cannot be read.
    """
    if named is None:
        file = data / FILE
        if not file.exists():
            _make(file)
    elif named.exists():
        file = named
    else:
        raise NoSealKey(f"AUDIT_SEAL_KEY names {named}, which does not exist: `medical audit key --make {named}`")
    return _read(file)


def make_key(file: Path) -> Ed25519PrivateKey:
    """A new key in a new file. Raises ``NoSealKey`` where there is one."""
    if file.exists():
        raise NoSealKey(f"{file} exists and stays as it is: seals were made with it")
    _make(file)
    return _read(file)


def _make(file: Path) -> None:
    """Whole or not at all, readable by its owner only; of two programs that make it at once, one does."""
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=file.parent)
    with os.fdopen(descriptor, "wb") as output:
        output.write(pem)
    with suppress(FileExistsError):
        os.link(draft, file)
    Path(draft).unlink()


def _read(file: Path) -> Ed25519PrivateKey:
    raw = file.read_bytes()
    if len(raw) == RAW_BYTES:
        return Ed25519PrivateKey.from_private_bytes(raw)
    try:
        key = load_pem_private_key(raw, None)
    except (TypeError, ValueError) as error:
        raise NoSealKey(f"{file} is not a private key in PEM, nor one of 32 bytes") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise NoSealKey(f"{file} holds another kind of key than Ed25519")
    return key
