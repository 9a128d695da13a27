"""Transactions that have been open for long: they delay DDL, the start, and the switch."""

from __future__ import annotations

from dbmigrate.mysql.open_transactions import read_open_transactions
from dbmigrate.workflow.preflight.finding import Finding, Severity, Surroundings

LONG_SECONDS = 60


def check_transactions(s: Surroundings) -> list[Finding]:
    """Name them, so that their owner can be asked."""
    return [
        Finding(
            "transactions", Severity.WARNING, s.source.place, f"a transaction is open for long: {transaction}",
            f"let it end, or KILL {transaction.connection_id}",
        )
        for transaction in read_open_transactions(s.source, at_least_seconds=LONG_SECONDS)
    ]  # fmt: skip
