"""Certificates of an authority of the test's own, for Dask's connections over TLS."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ENDS = ("scheduler", "worker", "client")


def dask_environment(folder: Path) -> dict[str, str]:
    """Make an authority and a certificate that it signed; Dask's configuration that names both, as variables."""
    authority, ca = _certificate("authority")
    _write(folder / "ca.pem", ca)
    key, certificate = _certificate("dask", authority)
    _write(folder / "dask.pem", certificate, key)
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    variables = {f"{tls}CA_FILE": str(folder / "ca.pem")}
    for end in ENDS:
        variables |= {f"{tls}{end.upper()}__{what}": str(folder / "dask.pem") for what in ("CERT", "KEY")}
    return variables


def _certificate(
    name: str, signer: ec.EllipticCurvePrivateKey | None = None
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject, issuer = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, word)]) for word in (name, "authority"))
    builder = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
    )
    return key, builder.sign(signer or key, hashes.SHA256())


def _write(file: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey | None = None) -> None:
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    if key:
        pem += key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    file.write_bytes(pem)
