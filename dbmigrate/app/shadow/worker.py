"""Repeats one read: on the candidate, and where the answers differ on both sides in turns, until it knows the class.

Apart from the reader, which counts, samples and looks after threads. A ``Repeater`` belongs to one thread; it loads the
parser of SQL when it is first used, so that an application which is not sampled never does.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from dbmigrate.app.shadow.reads import ControlRead, Reading, ResultColumn
from dbmigrate.app.shadow.sides import Side, client_limit, is_statements_own, is_timeout
from dbmigrate.app.shadow.tables import TableFacts, TableId
from dbmigrate.domain.evidence import MismatchKind

if TYPE_CHECKING:
    from dbmigrate.app.shadow.classes import Suspicion
    from dbmigrate.app.shadow.comparison import Compared, Comparison, Facts
    from dbmigrate.app.shadow.reader import ShadowReader
    from dbmigrate.app.shadow.statements import Plan

log = logging.getLogger(__name__)

_MOST_PLANS = 500
_PLAN_SECONDS = 300.0
"""So long a table's keys are believed to be the same."""
_GRACE_SECONDS = 0.5
_COMPARING_SECONDS = 30.0
_LONGEST_PAUSE_SECONDS = 2.0


class Stopped(BaseException):
    """Nobody waits for this read any more. Not an ``Exception``: nothing on its way may take it for a failed read."""


class RecheckFailedError(Exception):
    """The owner did not answer a second time, or nobody knows where the stream is. Says nothing of the candidate."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _NotComparable(Exception):  # noqa: N818  # no error: the rows have changed so that nothing can be told
    """The rows have become too many, or a LIMIT chooses among them now."""


class ExpectWithin(Protocol):
    """Tells who looks after a thread how long its next step may take, and whether the candidate is to blame if not."""

    def __call__(self, seconds: float, *, is_of_candidate: bool = False) -> None:
        """Raises Stopped if nobody waits for the result any more."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to count. ``failure`` is the name of a count where there was no comparison."""

    names: tuple[str, ...] = ()
    latencies: tuple[float, float] | None = None
    failure: str = ""
    is_of_candidate: bool = False
    has_answered: bool = False


class Repeater:
    """For one thread."""

    def __init__(self, reader: ShadowReader, expect_within: ExpectWithin) -> None:
        self._reader, self._expect_within = reader, expect_within
        self._settings = reader.settings
        self._candidate = Side(reader.candidate_engine, reader.settings)
        self._control: Side | None = None
        self._plans: OrderedDict[tuple[str, tuple[str, ...]], tuple[float, Plan]] = OrderedDict()

    def repeat(self, read: ControlRead) -> Outcome:
        """Read and compare; failures are outcomes."""
        try:
            return self._repeat(read)
        except RecheckFailedError as fault:
            log.debug("a difference could not be read again", exc_info=True)
            return Outcome(failure="timeouts" if is_timeout(fault.cause) else "errors")
        except Exception as fault:
            log.debug("a repeated read failed", exc_info=True)
            is_own = is_statements_own(fault)
            if not is_own:
                self._candidate.give_up()
            return Outcome(failure="timeouts" if is_timeout(fault) else "errors", is_of_candidate=not is_own)

    def rest(self) -> None:
        """Nothing to do for a while: the connections are given back."""
        self._candidate.give_up()
        if self._control is not None:
            self._control.give_up()

    def close(self) -> None:
        """The end of the thread."""
        self._candidate.close()
        if self._control is not None:
            self._control.close()

    def _repeat(self, read: ControlRead) -> Outcome:
        from dbmigrate.app.shadow import comparison as comparing
        from dbmigrate.app.shadow.statements import limit_of

        plan = self._plan(read)
        if refusal := plan.refusal or comparing.ignores_all(plan, self._settings):
            log.debug("a read was not compared: %s: %s", refusal, plan.statement)
            return Outcome(("ignored",))
        if _bytes_of(read) > self._settings.max_bytes:
            return Outcome(("ignored",))
        candidate, seconds = self._read(self._candidate, read)
        latencies = (read.seconds, seconds)
        columns = tuple(ResultColumn(*column) for column in read.columns)
        control = Reading(columns, read.rows)
        comparison = comparing.Comparison(
            plan, columns, candidate.columns, self._settings, limit=limit_of(read.sql, read.parameters)
        )
        self._expect_within(_COMPARING_SECONDS)
        if comparison.is_cut(control, candidate):
            return Outcome(("ignored",), latencies, has_answered=True)
        compared = comparison.compare(control, candidate)
        if compared.verdict is comparing.Verdict.MATCH:
            return Outcome(("samples", "matches"), latencies, has_answered=True)
        if compared.verdict is comparing.Verdict.IGNORED:
            return Outcome(("samples", "ignored"), latencies, has_answered=True)
        return replace(self._classify(read, plan, comparison, compared), latencies=latencies, has_answered=True)

    def _plan(self, read: ControlRead) -> Plan:
        from dbmigrate.app.shadow.statements import plan_statement

        def find_table(table: TableId) -> TableFacts:
            within = 4 * client_limit(self._settings.timeout_seconds) + _GRACE_SECONDS
            self._expect_within(within, is_of_candidate=True)
            return self._candidate.find_table(table)

        name, now = (read.sql, tuple(read.tables)), time.monotonic()
        planned_at, plan = self._plans.get(name, (0.0, None))
        if plan is None or now - planned_at > _PLAN_SECONDS:
            self._expect_within(_COMPARING_SECONDS)
            plan = plan_statement(read.sql, find_table, tables=read.tables)
            self._plans[name] = (now, plan)
            while len(self._plans) > _MOST_PLANS:
                self._plans.popitem(last=False)
        return plan if read.is_ordered else replace(plan, is_ordered=False)

    def _read(self, side: Side, read: ControlRead, *, is_of_candidate: bool = True) -> tuple[Reading, float]:
        within = client_limit(self._settings.timeout_seconds) + _GRACE_SECONDS
        self._expect_within(within, is_of_candidate=is_of_candidate)
        side.connect()
        self._expect_within(within, is_of_candidate=is_of_candidate)
        began_at = time.perf_counter()
        reading = side.read(read.sql, read.parameters)
        return reading, time.perf_counter() - began_at

    def _classify(self, read: ControlRead, plan: Plan, comparison: Comparison, compared: Compared) -> Outcome:
        """Read on both sides, in turns, until the difference is refuted or has lasted: see ``classes``."""
        from dbmigrate.app.shadow.classes import Suspicion

        if compared.control is None or compared.candidate is None:
            raise AssertionError("a difference has facts")
        suspicion = Suspicion(compared.control, compared.candidate)
        pause = self._settings.recheck_pause_seconds
        try:
            for number in range(self._settings.rechecks):
                if number:
                    self._pause(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
                before = self._control_facts(read, comparison)
                if not self._wait_for_stream():
                    return Outcome(failure="timeouts")
                candidate = self._candidate_facts(read, comparison)
                suspicion.add(before, candidate, self._control_facts(read, comparison))
                if suspicion.is_refuted:
                    break
            else:
                self._watch(read, comparison, suspicion)
        except _NotComparable:
            return self._settle(MismatchKind.MOVED, plan, comparison, compared, suspicion)
        return self._settle(suspicion.kind, plan, comparison, compared, suspicion)

    def _watch(self, read: ControlRead, comparison: Comparison, suspicion: Suspicion) -> None:
        """Give a value that returns some more chances to show itself."""
        for _ in range(self._settings.watch_reads):
            self._pause(self._settings.recheck_pause_seconds)
            suspicion.watch_control(self._control_facts(read, comparison))
            self._pause(self._settings.recheck_pause_seconds)
            suspicion.watch_candidate(self._candidate_facts(read, comparison))
            if suspicion.is_refuted:
                return

    def _control_facts(self, read: ControlRead, comparison: Comparison) -> Facts:
        control = self._read_control(read)
        if control.is_truncated or comparison.is_cut(control):
            raise _NotComparable
        self._expect_within(_COMPARING_SECONDS)
        return comparison.facts(control, is_candidate=False)

    def _candidate_facts(self, read: ControlRead, comparison: Comparison) -> Facts:
        candidate, _ = self._read(self._candidate, read)
        if comparison.is_cut(candidate):
            raise _NotComparable
        self._expect_within(_COMPARING_SECONDS)
        return comparison.facts(candidate, is_candidate=True)

    def _read_control(self, read: ControlRead) -> Reading:
        try:
            if self._control is None:
                self._control = Side(self._reader.recheck.control_engine, self._settings)
            return self._read(self._control, read, is_of_candidate=False)[0]
        except Exception as fault:
            if self._control is not None:
                self._control.give_up()
            raise RecheckFailedError(fault) from fault

    def _wait_for_stream(self) -> bool:
        limit = self._settings.stream_timeout_seconds
        within = limit + client_limit(self._settings.timeout_seconds) + _GRACE_SECONDS
        self._expect_within(within, is_of_candidate=False)
        try:
            return self._reader.recheck.wait_for_stream(limit)
        except Exception as fault:
            raise RecheckFailedError(fault) from fault

    def _pause(self, seconds: float) -> None:
        seconds *= 0.5 + self._reader.random()  # not in step with anything that the application does
        self._expect_within(seconds + _GRACE_SECONDS)
        self._reader.stopping.wait(seconds)

    def _settle(self, kind: MismatchKind, plan: Plan, comparison: Comparison, compared: Compared,
                suspicion: Suspicion) -> Outcome:  # fmt: skip
        from dbmigrate.app.shadow.recording import describe

        if compared.control is None or compared.candidate is None:
            raise AssertionError("a difference has facts")
        mismatch = describe(
            plan, comparison, kind, (compared.control, compared.candidate), suspicion,
            may_store_values=self._settings.may_store_values, found_at=datetime.now(UTC),
            instance_id=self._reader.instance_id,
        )  # fmt: skip
        self._expect_within(_COMPARING_SECONDS)
        self._reader.record(mismatch)
        return Outcome(("samples", kind.value))


def _bytes_of(read: ControlRead) -> int:
    return sum(len(value) if isinstance(value, (str, bytes)) else 8 for row in read.rows for value in row)
