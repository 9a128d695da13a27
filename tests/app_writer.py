"""An application on ``dbmigrate.app``, as a process of its own: threads that move money between hot accounts.

Each transaction adds to an account and writes a journal line that names the server which executed it. What was
acknowledged goes to a file, line by line, so that a test knows it after killing the process.

Usage: ``python tests/app_writer.py SETTINGS.json``; ends after a line on standard input.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from dbmigrate.app import Options, sessionmaker
from dbmigrate.app.mirror import Mirrors

ACCOUNTS = 20


class Base(orm.DeclarativeBase):
    """The writer's own tables."""


class Account(Base):
    """A hot row."""

    __tablename__ = "account"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True, autoincrement=False)
    balance: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)


class Journal(Base):
    """One committed transaction; ``executed_on`` is the server's id."""

    __tablename__ = "journal"
    id: orm.Mapped[int] = orm.mapped_column(sa.BigInteger, primary_key=True)
    token: orm.Mapped[str] = orm.mapped_column(sa.String(40), unique=True)
    account_id: orm.Mapped[int]
    amount: orm.Mapped[int]
    executed_on: orm.Mapped[int] = orm.mapped_column(sa.BigInteger)


def create_tables(engine: sa.Engine) -> None:
    """The tables with their accounts, all empty."""
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session, session.begin():
        session.add_all(Account(id=number, balance=0) for number in range(ACCOUNTS))


class Writer:
    """Threads that write until they are stopped."""

    def __init__(self, factory: Any, acknowledged: Path, *, threads: int, pause_seconds: float) -> None:
        self._factory, self._pause = factory, pause_seconds
        self._file = acknowledged.open("a")
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._write, args=(seed,)) for seed in range(threads)]
        self._threads.append(threading.Thread(target=self._read))

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the transactions under way."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _write(self, seed: int) -> None:
        chance = random.Random(seed)
        while not self._stopping.is_set():
            token = uuid.uuid4().hex
            try:
                self._transfer(chance, token)
            except Exception as fault:
                self.failures.append(f"{type(fault).__name__}: {fault}"[:200])
                time.sleep(0.05)
            else:
                with self._lock:
                    self._file.write(token + "\n")
                    self._file.flush()
            time.sleep(self._pause)

    def _read(self) -> None:
        while not self._stopping.wait(0.01):
            try:
                with self._factory() as session:
                    session.scalars(sa.select(Account).order_by(Account.id)).all()
            except Exception as fault:
                self.failures.append(f"reading: {type(fault).__name__}: {fault}"[:200])

    def _transfer(self, chance: random.Random, token: str) -> None:
        with self._factory.begin() as session:
            account = session.get(Account, chance.randrange(ACCOUNTS), with_for_update=True)
            amount = chance.randrange(1, 100)
            account.balance += amount
            if chance.random() < 0.2:
                with session.begin_nested() as savepoint:
                    account.balance += 1_000_000
                    session.flush()
                    savepoint.rollback()
            executed_on = session.scalar(sa.text("SELECT @@server_id"))
            session.add(Journal(token=token, account_id=account.id, amount=amount, executed_on=executed_on))


def die_between_commits(after: int) -> None:
    """Let the process die at once when the owner has committed for the n-th time and the mirror has not."""
    begin_commit, left = Mirrors.begin_commit, iter(range(after - 1))

    def dying(mirrors: Mirrors, mirror: Any) -> Any:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return begin_commit(mirrors, mirror)

    Mirrors.begin_commit = dying  # type: ignore[method-assign]


def main() -> None:
    """Run as the settings say."""
    settings = json.loads(Path(sys.argv[1]).read_text())
    engines = [
        sa.create_engine(settings[role], pool_size=settings["threads"] + 2, pool_pre_ping=True)
        for role in ("source", "target")
    ]
    factory = sessionmaker(*engines, migration_id=settings["id"], options=Options(**settings.get("options", {})))
    if settings.get("dies_between_commits_after"):
        die_between_commits(settings["dies_between_commits_after"])
    writer = Writer(
        factory, Path(settings["acknowledged"]), threads=settings["threads"], pause_seconds=settings["pause_seconds"]
    )
    writer.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    writer.stop()
    factory.kw["dbmigrate_instance"].close()
    sys.stdout.write(json.dumps({"failures": writer.failures}) + "\n")


if __name__ == "__main__":
    main()
