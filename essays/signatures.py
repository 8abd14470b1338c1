"""Who published a bundle: OpenSSF Model Signing with a key (docs/decisions/0013-artifacts-that-converge.md).

The signature of `models/NAME/VERSION.zip` lies beside it as `VERSION.zip.sig`, a Sigstore bundle. It speaks of the
zip's sha256, so it is checked before a byte of the zip is fetched, and the zip against that digest before it is opened.
The library is imported when used: a machine without a key needs neither its second nor its memory.
"""

import contextlib
import hashlib
import io
import json
import os
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from essays.errors import ArtifactError, BadParams, ObjectMissing
from essays.store import Store

SIGNATURE_SUFFIX = ".sig"
_MAX_SIGNATURE_BYTES = 1 << 16
# Redirecting it is for one thread at a time: of two, the later one would put back what the earlier one had put there.
_STDOUT = threading.Lock()
_KEY_ID_DIGITS = 16


class SignatureRefused(ArtifactError):
    """A bundle that is not signed, or not by the trusted key."""


@dataclass(frozen=True)
class TrustedKey:
    """Whose signature a bundle must have."""

    path: Path
    """Of the public key, PEM."""
    key_id: str
    """The first digits of its sha256, as they stand in signatures."""


def signature_key(bundle_key: str) -> str:
    """Where the signature of a bundle lies."""
    return bundle_key + SIGNATURE_SUFFIX


def trusted_key(path: Path) -> TrustedKey:
    """The key in this file. Raises BadParams when it is no public elliptic-curve key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadParams(f"signing.public_key_file: {path}: no public key in PEM ({error})") from error
    if not isinstance(key, EllipticCurvePublicKey):
        raise BadParams(f"signing.public_key_file: {path}: not an elliptic-curve key (P-256, P-384 or P-521)")
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return TrustedKey(path, hashlib.sha256(pem).hexdigest()[:_KEY_ID_DIGITS])


def make_key_pair(private_key: Path, public_key: Path) -> None:
    """A fresh P-256 pair, the private one readable by its owner alone; for a machine that publishes to itself."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    private_key.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(private_key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(secret)
    public_key.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def sign(bundle: Path, private_key: Path) -> bytes:
    """The signature of a bundle. Raises BadParams when the key cannot be read."""
    from model_signing import signing

    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "signature"
        try:
            signer = signing.Config().use_elliptic_key_signer(private_key=private_key)
        except (OSError, ValueError, TypeError) as error:
            # A wrong key's text may quote the key; the kind of error says enough.
            raise BadParams(
                f"signing.private_key_file: {private_key}: no private key in PEM ({type(error).__name__})"
            ) from None
        signer.sign(bundle, written)
        return written.read_bytes()


def publish_signature(store: Store, bundle: Path, bundle_key: str, sha256: str, private_key: Path) -> bool:
    """Sign a bundle and lay the signature beside it, unless one of this key is there; whether it was sent."""
    with tempfile.TemporaryDirectory() as folder:
        public_key = Path(folder) / "public.pem"
        public_key.write_bytes(_public_part(private_key))
        with contextlib.suppress(SignatureRefused):
            require_signature(read_signature(store, bundle_key), bundle_key, sha256, trusted_key(public_key))
            return False
    store.put_bytes(signature_key(bundle_key), sign(bundle, private_key))
    return True


def read_signature(store: Store, bundle_key: str) -> bytes:
    """The signature in the store. Raises SignatureRefused when there is none."""
    try:
        return store.read(signature_key(bundle_key)).content
    except ObjectMissing as error:
        raise SignatureRefused(
            f"{store.url}/{bundle_key}: not signed (no {signature_key(bundle_key)}), and only signed models are"
            " accepted here; publish it again with signing.private_key_file, or trust no key"
        ) from error


def require_signature(signature: bytes, bundle_key: str, sha256: str, trusted: TrustedKey) -> None:
    """Raise SignatureRefused unless the trusted key signed a bundle of this digest."""
    if len(signature) > _MAX_SIGNATURE_BYTES:
        raise SignatureRefused(f"{signature_key(bundle_key)}: {len(signature):,} bytes are no signature")
    from model_signing import verifying

    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "signature"
        written.write_bytes(signature)
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=trusted.path)
        try:
            # The library prints advice on old signatures to stdout, which is not ours to write to.
            with _STDOUT, contextlib.redirect_stdout(io.StringIO()):
                verifier.set_hashing_config(_promised(sha256)).verify(Path(bundle_key), written)
        except Exception as error:
            raise SignatureRefused(
                f"{signature_key(bundle_key)}: key {_signed_by(signature)} signed it, or nobody; trusted is"
                f" {trusted.key_id} ({trusted.path}): {_reason(error)}; publish it with the trusted key"
            ) from error


def _promised(sha256: str) -> Any:
    """The library's view of a bundle, from the digest that its pointer promises instead of from its bytes."""
    from model_signing import hashing, manifest
    from model_signing._hashing.hashing import Digest

    class Promised(hashing.Config):
        def hash(self, model_path: Any, *, files_to_hash: Any = None) -> Any:
            listed = manifest.SerializationType.from_args(
                {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": []}
            )
            item = listed.new_item(".", Digest("sha256", bytes.fromhex(sha256)))
            return manifest.Manifest(str(model_path), [item], listed)

    return Promised()


def _public_part(private_key: Path) -> bytes:
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_pem_private_key(private_key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise BadParams(
            f"signing.private_key_file: {private_key}: no private key in PEM ({type(error).__name__})"
        ) from None
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _signed_by(signature: bytes) -> str:
    """The id of the key that the signature claims."""
    try:
        hint = json.loads(signature)["verificationMaterial"]["publicKey"]["hint"]
        return bytes.fromhex(hint).hex()[:_KEY_ID_DIGITS]
    except (ValueError, KeyError, TypeError):
        return "unknown"


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
