"""The evidence box: encrypts the text behind a decision, and opens it again.

AES-256-GCM with a random nonce for each text, bound to the decision's id: what is moved to another row does not open.
The key is in no database and in no backup of one. Each text names the key that closed it by a fingerprint, so a backup
that came without its key, or to a server with another one, is told apart from damage.
"""

import base64
import binascii
import os
from datetime import datetime
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.domain.errors import EvidenceSealed, InvalidInput
from app.domain.models import Evidence
from app.domain.verdicts import SealedText

KEY_BYTES = 32
_NONCE_BYTES = 12
_TAG_BYTES = 16


def new_key() -> str:
    """Return a random key as text."""
    return base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode()


def parse_key(text: str) -> bytes:
    """Return the key that `new_key` gave as text; the padding may be missing.

    Raises InvalidInput, which does not quote it.
    """
    text = text.strip().rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES or len(set(key)) < KEY_BYTES // 4:
        raise InvalidInput("an evidence key is 32 random bytes in URL-safe base64", param="safety.evidence_key")
    return key


class AesBox:
    """`app.domain.ports.EvidenceBox`. Without a key it says so, and is harmless."""

    def __init__(self, key: bytes | None) -> None:
        """`key` is 32 bytes, or None."""
        self._cipher = AESGCM(key) if key is not None else None
        self.key_id = sha256(b"haina evidence key " + key).hexdigest()[:8] if key is not None else ""

    @property
    def has_key(self) -> bool:
        """Whether there is a key; without one nothing can be sealed."""
        return self._cipher is not None

    def seal(self, text: SealedText, *, decision_id: str, at: datetime) -> Evidence:
        """Encrypt a text, bound to its decision. Raises EvidenceSealed(kind="key_missing")."""
        if self._cipher is None:
            raise EvidenceSealed(kind="key_missing", key_id="")
        nonce = os.urandom(_NONCE_BYTES)
        raw = text.unsealed().encode("utf-8", "surrogatepass")
        sealed = nonce + self._cipher.encrypt(nonce, raw, decision_id.encode())
        return Evidence(decision_id=decision_id, created_at=at, key_id=self.key_id, start=text.start, sealed=sealed)

    def open(self, evidence: Evidence) -> SealedText:
        """Raises EvidenceSealed: no key, another key, or evidence that is damaged or another decision's."""
        if self._cipher is None:
            raise EvidenceSealed(kind="key_missing", key_id=evidence.key_id)
        if evidence.key_id != self.key_id:
            raise EvidenceSealed(kind="key_other", key_id=evidence.key_id)
        if len(evidence.sealed) < _NONCE_BYTES + _TAG_BYTES:
            raise EvidenceSealed(kind="damaged", key_id=evidence.key_id)
        nonce, sealed = evidence.sealed[:_NONCE_BYTES], evidence.sealed[_NONCE_BYTES:]
        try:
            raw = self._cipher.decrypt(nonce, sealed, evidence.decision_id.encode())
        except InvalidTag:
            raise EvidenceSealed(kind="damaged", key_id=evidence.key_id) from None
        return SealedText(raw.decode("utf-8", "surrogatepass"), start=evidence.start)
