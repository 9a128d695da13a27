"""Engines beside the application's own."""

from __future__ import annotations

import sqlalchemy as sa


def detached_engine(engine: sa.Engine) -> sa.Engine:
    """An engine with a pool of its own that connects exactly as the given one does, its ``do_connect`` events included.

    For connections whose session settings are ours, and for threads with an event loop of their own.
    """
    return sa.Engine(engine.pool.recreate(), engine.dialect, engine.url)
