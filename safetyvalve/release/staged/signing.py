"""Signatures with OpenSSH keys (``ssh-keygen -Y``), which people have already; checking one needs no secret.

See ssh-keygen(1) and the file format in https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.sshsig.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from safetyvalve.errors import ReleaseError

__all__ = ["NAMESPACE", "sign", "signed_by"]

NAMESPACE = "safetyvalve-release"
"""A signature made for something else does not count here."""


def sign(message: str, key: Path) -> str:
    """Sign a text; asks for the key's passphrase on the terminal if it has one.

    Raises:
        ReleaseError: there is no ssh-keygen, or the key cannot sign.
    """
    if not key.is_file():
        raise ReleaseError(
            f"--key '{key}' does not exist; a private OpenSSH key is accepted, such as ~/.ssh/id_ed25519."
        )
    done = _run(["-Y", "sign", "-q", "-f", str(key), "-n", NAMESPACE], message)
    if done.returncode:
        reason = " ".join(done.stderr.split())
        raise ReleaseError(f"--key '{key}' cannot sign ({reason}); a private OpenSSH key is accepted.")
    return done.stdout


def signed_by(message: str, signature: str, name: str, signers: Sequence[str]) -> bool:
    """Whether the signature is of this text by a key that ``signers`` has under ``name``.

    Raises:
        ReleaseError: there is no ssh-keygen.
    """
    with tempfile.TemporaryDirectory() as folder:
        allowed, given = Path(folder) / "allowed_signers", Path(folder) / "signature"
        allowed.write_text("".join(line + "\n" for line in signers), encoding="utf-8")
        given.write_text(signature, encoding="utf-8")
        words = ["-Y", "verify", "-q", "-f", str(allowed), "-I", name, "-n", NAMESPACE, "-s", str(given)]
        return _run(words, message).returncode == 0


def _run(words: list[str], text: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise ReleaseError(
            "signed approvals need ssh-keygen (OpenSSH 8.1 or later), which is not installed. Install OpenSSH's "
            "client; approvals without signers in release.yaml do not need it."
        )
    return subprocess.run([program, *words], input=text, capture_output=True, text=True, check=False)
