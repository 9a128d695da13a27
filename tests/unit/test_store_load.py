"""How the load takes the answers it gets; the store here is a stand-in that answers whatever a test wants."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from dbmigrate.store.journal import Outcome
from dbmigrate.store.load import Answer, Load

ORDER = {"total": "12.50", "product_id": 1}
HANG_UP = 0

Reply = Callable[[str, str], int]
StandIn = Callable[[Reply], str]


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    """``stand_in(reply)``: the address of a store; ``reply`` gives the status for a method and a path."""
    servers: list[ThreadingHTTPServer] = []

    def start(reply: Reply) -> str:
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), _build_answerer(reply)))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def _build_answerer(reply: Reply) -> type[BaseHTTPRequestHandler]:
    class Answerer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            is_list = self.path.startswith(("/products?", "/customers?"))
            status = 200 if is_list else reply(self.command, self.path)
            if status == HANG_UP:
                self.close_connection = True
                return
            body = json.dumps([{"id": number} for number in range(1, 9)] if is_list else ORDER).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = answer  # noqa: N815 - the names that http.server calls

        def log_message(self, *arguments: Any) -> None:
            """Nobody listens."""

    return Answerer


def run_load(url: str, *, enough: Callable[[Load], bool]) -> Load:
    """A load that runs until it has seen enough."""
    with Load(url, workers=2, rate=1_000, timeout_seconds=5) as load:
        waited = threading.Event()
        while not enough(load):
            waited.wait(0.01)
    return load


def journals_of(load: Load) -> list[Any]:
    return load._journals()


def test_answers_2xx_are_promises(stand_in: StandIn) -> None:
    load = run_load(stand_in(lambda method, path: 201), enough=lambda load: load.requests > 100)
    writer, reader = journals_of(load)
    assert load.failed_requests == 0
    assert {order.outcome for order in writer.orders} == {Outcome.DONE}
    assert {order.cancel for order in writer.orders} == {None, Outcome.DONE}
    assert len(writer.written_at) == len(writer.write_latencies) > 0
    assert writer.written_at == sorted(writer.written_at)
    assert len(reader.read_latencies) > 0
    assert reader.orders == []


def test_empty_shelf_is_no_failure_and_is_restocked_at_once(stand_in: StandIn) -> None:
    seen: list[str] = []

    def reply(method: str, path: str) -> int:
        if method != "GET":
            seen.append(path)
        return 409 if path == "/orders" else 200

    load = run_load(stand_in(reply), enough=lambda load: load.requests > 100)
    writer, _ = journals_of(load)
    assert load.failed_requests == 0
    assert writer.refused == len(writer.orders) > 0
    assert {order.outcome for order in writer.orders} == {Outcome.REFUSED}
    for before, after in itertools.pairwise(seen):
        assert before != "/orders" or after == "/products/1/restock"


@pytest.mark.parametrize(
    ("status", "outcome"), [(503, Outcome.UNKNOWN), (500, Outcome.UNKNOWN), (404, Outcome.REJECTED)]
)
def test_other_answers_are_failed_requests(stand_in: StandIn, status: int, outcome: Outcome) -> None:
    load = run_load(stand_in(lambda method, path: status), enough=lambda load: load.requests > 50)
    writer, _ = journals_of(load)
    assert load.failed_requests == load.requests
    assert {order.outcome for order in writer.orders} == {outcome}
    assert writer.unknown_writes == (len(writer.write_latencies) if outcome is Outcome.UNKNOWN else 0)
    assert writer.written_at == []
    assert load.errors[0].endswith(f": {status} {json.dumps(ORDER)}")


def test_lost_answer_is_a_failed_request_and_is_not_sent_again(stand_in: StandIn) -> None:
    sent: Counter[str] = Counter()

    def reply(method: str, path: str) -> int:
        sent["all"] += 1
        return HANG_UP if method != "GET" else 200

    load = run_load(stand_in(reply), enough=lambda load: load.requests > 50)
    writer, reader = journals_of(load)
    assert sent["all"] == load.requests
    assert writer.failed == writer.requests == writer.unknown_writes > 0
    assert reader.failed == 0
    assert "no answer" in load.errors[0]


def test_answer_that_nobody_understands_is_a_failure_and_the_load_goes_on(stand_in: StandIn) -> None:
    """A 2xx without a total: the order counts as unknown, the worker lives."""
    url = stand_in(lambda method, path: 200)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ORDER, "total", None)
        load = run_load(url, enough=lambda load: load.failed_requests > 5)
    assert load.failed_requests > 5


def test_store_that_is_down_fails_requests_until_it_is_back(stand_in: StandIn) -> None:
    is_down = threading.Event()
    load = Load(stand_in(lambda method, path: HANG_UP if is_down.is_set() else 200), workers=2, rate=1_000)
    with load:
        _wait_for(lambda: load.requests > 20)
        is_down.set()
        _wait_for(lambda: load.failed_requests > 20)
        is_down.clear()
        failed = load.failed_requests
        _wait_for(lambda: load.requests > failed + 100)
    assert load.failed_requests < load.requests


def _wait_for(condition: Callable[[], bool]) -> None:
    waited = threading.Event()
    while not condition():
        waited.wait(0.005)


def test_several_addresses_are_taken_in_turns(stand_in: StandIn) -> None:
    seen: Counter[int] = Counter()

    def count(number: int) -> Reply:
        def reply(method: str, path: str) -> int:
            seen[number] += 1
            return 200

        return reply

    with Load([stand_in(count(0)), stand_in(count(1))], workers=4, rate=1_000) as load:
        _wait_for(lambda: load.requests > 100)
    assert min(seen[0], seen[1]) > 0


def test_floor_of_the_gaps_follows_from_rate_and_workers() -> None:
    assert Load("http://127.0.0.1:1", workers=8, rate=200).write_period_ms == pytest.approx(40)
    assert Load("http://127.0.0.1:1", workers=4, rate=200, write_share=0.25).write_period_ms == pytest.approx(20)


def test_store_that_does_not_answer_at_the_start_is_told() -> None:
    with pytest.raises(ConnectionError, match="no answer"):
        Load("http://127.0.0.1:1").start()


@pytest.mark.parametrize("wrong", [{"workers": 1}, {"rate": 0}, {"write_share": 0}, {"write_share": 1.0}])
def test_load_that_would_test_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a load needs"):
        Load("http://127.0.0.1:1", **wrong)


def test_address_must_be_http() -> None:
    with pytest.raises(ValueError, match="https://shop"):
        Load("https://shop")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, Outcome.DONE), (201, Outcome.DONE), (409, Outcome.REFUSED), (422, Outcome.REJECTED), (302, Outcome.UNKNOWN),
     (503, Outcome.UNKNOWN), (0, Outcome.UNKNOWN)],
)  # fmt: skip
def test_status_tells_the_outcome(status: int, outcome: Outcome) -> None:
    assert Answer(status).outcome is outcome
