"""What Transport promises, over every implementation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from e2e.server_lab import Server, away, served
from small_blocks import open_small

from tracker.artifacts.local import LocalArtifacts
from tracker.client.batch_builder import make_batch
from tracker.client.transport import StoreTransport
from tracker.compose import make_transport
from tracker.domain.errors import InvalidValue, RunNotFound, StoreError, StoreUnavailable
from tracker.domain.frames import Batch, EventLogged, Points, RunStarted
from tracker.domain.ports import Transport

START = RunStarted(1, "Default", "name", "file:///x", "host", 1)


class TransportContract:
    """The contract of Transport; heirs have the fixture `transport`."""

    def test_answer_means_committed(self, transport: Transport, any_url: str) -> None:
        """When send returns, another process would find the frames."""
        batch = make_batch("r", "w", [(1, START), (2, Points(1, "step", 0, 0, {"x": 1.0}))])
        assert transport.send(batch).last == 2
        with open_small(any_url) as store:
            assert store.history("r", "x").values.tolist() == [1.0]

    def test_sent_twice_is_stored_once(self, transport: Transport, any_url: str) -> None:
        """A batch whose answer was lost is sent again without harm."""
        batch = make_batch("r", "w", [(1, START), (2, EventLogged(1, "e", None, None, 0, {}))])
        assert transport.send(batch) == transport.send(batch)
        with open_small(any_url) as store:
            assert len(store.events("r")) == 1

    def test_refusal_is_no_outage(self, transport: Transport) -> None:
        """A batch that the store refuses for good raises another error than one that may be sent again."""
        with pytest.raises(RunNotFound) as unknown:
            transport.send(Batch(run_id="nobody", writer="w", first=0, last=0))
        with pytest.raises(InvalidValue) as invalid:
            transport.send(make_batch("r", "w", [(1, START), (2, EventLogged(1, "e", 2**70, None, 0, {}))]))
        assert not isinstance(unknown.value, StoreError)
        assert not isinstance(invalid.value, StoreError)

    def test_closed_transport_opens_again(self, transport: Transport) -> None:
        """close() releases; the next send works."""
        transport.send(make_batch("r", "w", [(1, START)]))
        transport.close()
        assert transport.send(Batch(run_id="r", writer="w", first=0, last=0)).last == 1


class TestStoreTransport(TransportContract):
    """The embedded store."""

    @pytest.fixture
    def transport(self, any_url: str) -> Iterator[Transport]:
        with closing(make_transport(any_url)) as transport:
            yield transport

    def test_store_that_does_not_open_is_an_outage(self, tmp_path: Path) -> None:
        """A store that is away is StoreError: the journal keeps the batch; when it is there, the same call succeeds."""
        path = tmp_path / "folder" / "tracker.db"
        path.parent.mkdir()
        path.write_bytes(b"this is no database, but a file of more than a hundred bytes that stands in its place" * 2)
        transport = StoreTransport(lambda: open_small(f"sqlite:///{path}"))
        with pytest.raises(StoreError):
            transport.send(make_batch("r", "w", [(1, START)]))
        path.unlink()
        assert transport.send(make_batch("r", "w", [(1, START)])).last == 1
        transport.close()


class TestHttpTransport(TransportContract):
    """A tracking server."""

    @pytest.fixture
    def transport(self, any_url: str, tmp_path: Path) -> Iterator[Transport]:
        with open_small(any_url) as store, served(store, LocalArtifacts(tmp_path)) as url:
            with closing(make_transport(url)) as transport:
                yield transport

    def test_server_that_is_away_is_an_outage(self, store_url: str, tmp_path: Path) -> None:
        """Without a server send is StoreError; when it is there, the same transport delivers."""
        with away(store_url) as server, closing(make_transport(server.url)) as transport:
            with pytest.raises(StoreUnavailable, match="does not answer"):
                transport.send(make_batch("r", "w", [(1, START)]))
            server.start()
            assert transport.send(make_batch("r", "w", [(1, START)])).last == 1

    def test_connection_that_the_server_closed_is_no_outage(self, store_url: str) -> None:
        """A server that was restarted between two batches takes the second at once."""
        with Server(store_url) as server, closing(make_transport(server.url)) as transport:
            assert transport.send(make_batch("r", "w", [(1, START)])).last == 1
            server.kill()
            server.start()
            assert transport.send(make_batch("r", "w", [(2, Points(1, "step", 0, 0, {"x": 1.0}))])).last == 2
