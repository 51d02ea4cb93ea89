"""Who signs: the operator's certificate, by settings, or one made at the first run, which nobody trusts.

ES256 over P-256, with what the C2PA specification (2.1, "Certificate profile") asks of a signer: a chain, no CA, key
usage digitalSignature, extended key usage emailProtection.
"""

import os
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from django.conf import settings

# Not from the first run on: a clock that was wrong then would end every mark written later.
_VALID_FROM, _VALID_UNTIL = datetime(2020, 1, 1, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)


@cache
def pair() -> tuple[bytes, bytes]:
    """The chain, the signer's certificate first, and its private key (PKCS 8), both PEM. Raises OSError."""
    if settings.MARK_CERTIFICATE:
        return Path(settings.MARK_CERTIFICATE).read_bytes(), Path(settings.MARK_PRIVATE_KEY).read_bytes()
    kept = Path(settings.MARK_DIR) / "development-certificate.pem"
    if not kept.exists():
        _keep_first(kept, _make())
    chain, _, key = kept.read_bytes().partition(b"-----BEGIN PRIVATE KEY-----")
    return chain, b"-----BEGIN PRIVATE KEY-----" + key


def _keep_first(path: Path, content: bytes) -> None:
    """Whole or not at all; of several processes at their first run one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent) as made:
        made.write(content)
        made.flush()
        try:
            os.link(made.name, path)
        except FileExistsError:
            return


def _make() -> bytes:
    """A root, a signer below it, the signer's key."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name, name = _name("genplatform development root"), _name("genplatform development")
    root = (
        _builder(root_name, root_name, root_key.public_key(), root_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    signer = (
        _builder(name, root_name, key.public_key(), root_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem = serialization.Encoding.PEM
    return signer.public_bytes(pem) + root.public_bytes(pem) + private


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "genplatform"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_VALID_FROM)
        .not_valid_after(_VALID_UNTIL)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
