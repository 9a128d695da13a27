"""Logs: set-up and the redaction of secrets. Metrics follow."""

from __future__ import annotations

_secrets: set[str] = set()


def register_secret(secret: str) -> None:
    """Keep ``secret`` out of every log line from here on."""
    if secret:
        _secrets.add(secret)
