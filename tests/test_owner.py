"""The owner's own judgement of what comes: chunks follow one another, letters are sound, latches trip."""

import asyncio
import socket
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from aegis_app.core.card import settled
from aegis_app.core.decision import decide, encode_decision, standing
from aegis_app.core.intake import Past, Reason, Refused
from aegis_app.core.payment import Outcome
from aegis_app.core.policy import parse_policy
from aegis_app.core.screen import HISTORY, adopt, learn_past
from aegis_app.core.terms import Terms
from aegis_app.core.tidings import NONE
from aegis_app.settings import Settings
from aegis_app.stream.background import Background
from aegis_app.stream.letters import Latch, dead_letter
from aegis_app.stream.memory import LEARNT, decode_learnt
from aegis_app.stream.outbox import Landed, Outgoing, Sent
from aegis_app.stream.owner import SOURCE, Holdings, Owner, Owners, Work
from tests.make import cased, features, payment, receipt, record, remember
from tests.numbers import numbers


def owner(**expected: int) -> Owner[Any]:
    made: Owner[Any] = Owner.__new__(Owner)
    made._expected, made._jumps = dict(expected), defaultdict(set)
    return made


def chunk(first: int, number: int = 10) -> list[Any]:
    return [SimpleNamespace(offset=offset) for offset in range(first, first + number)]


def test_a_chunk_beyond_the_expected_offset_is_sent_back_once_and_taken_the_second_time() -> None:
    partition = owner(a=100)

    assert partition.follows("a", chunk(120)) == 100
    assert partition.follows("a", chunk(120)) is None
    assert partition.follows("a", chunk(130)) is None


def test_records_fetched_before_a_rebalance_do_not_pass_for_what_comes_next() -> None:
    partition = owner(a=100)

    assert partition.follows("a", chunk(120)) == 100
    assert partition.follows("a", chunk(130)) == 100
    assert partition.follows("a", chunk(100)) is None
    assert partition.follows("a", chunk(110)) is None


def test_a_true_gap_passes_with_more_chunks_queued_behind_it_each_time() -> None:
    partition = owner(a=100)
    queued = [120, 130, 140]

    assert [partition.follows("a", chunk(first)) for first in queued] == [100, 100, 100]
    assert [partition.follows("a", chunk(first)) for first in queued] == [None, None, None]


def test_a_true_gap_in_one_topic_passes_while_another_flows() -> None:
    partition = owner(a=100, b=0)

    assert partition.follows("a", chunk(120)) == 100
    assert partition.follows("b", chunk(0)) is None
    assert partition.follows("a", chunk(120)) is None


class Ended(Exception):
    """What ends the process, in a test."""


@pytest.mark.parametrize("waiting", [True, False])
def test_a_process_that_stood_still_ends_before_it_does_what_became_possible_meanwhile(waiting: bool) -> None:
    def die(reason: BaseException) -> None:
        raise Ended(str(reason))

    def meanwhile() -> None:
        other.send(b"x")
        time.sleep(0.5)

    def waits(timeout: float) -> Any:
        meanwhile()
        return select(0)

    async def stand_still() -> None:
        loop.add_reader(here, lambda: done.append("read"))
        if waiting:
            loop._selector.select = waits
        Holdings(app).watch(loop)
        if not waiting:
            loop.call_soon(meanwhile)
        await asyncio.sleep(0.01)

    app: Any = SimpleNamespace(lease_seconds=0.2, die=die)
    done: list[str] = []
    loop: Any = asyncio.new_event_loop()
    select = loop._selector.select
    here, other = socket.socketpair()
    with here, other, closing(loop):
        with pytest.raises(Ended, match="stood still"):
            loop.run_until_complete(stand_still())
        loop.remove_reader(here)

    assert done == []


@pytest.mark.parametrize("attempts", [None, b"many", b"9" * 5000])
def test_a_letter_survives_strange_headers(attempts: bytes | None) -> None:
    record: Any = SimpleNamespace(
        key=b"k", value=b"v", topic="transactions", partition=0, offset=7, headers=[("attempts", attempts), ("other", None)]
    )

    assert ("attempts", b"1") in dead_letter(record, Refused(Reason.MALFORMED, "no")).headers


def test_the_latch_trips_on_a_share_of_the_last_payments_alone() -> None:
    latch = Latch(0.2, 1000)

    assert not latch.trips(500, 500)
    assert latch.trips(500, 0)
    assert not latch.trips(2000, 400)
    assert latch.trips(500, 300)


def test_a_decision_about_another_payment_at_the_same_offset_is_not_adopted() -> None:
    txn, other = payment(), payment(transaction_id="of a topic made anew")
    policy = parse_policy("")
    records = [encode_decision(each, decide(cased(each), features(), Terms(policy), receipt(each))) for each in (other, txn)]

    assert standing([b"a stranger's", b"{}", b'{"transaction_id":"\xff","card_id":""}', records[0]], txn) is None
    assert standing(records, txn) is not None
    assert adopt(None, txn, Terms(policy=policy), standing(records, txn), txn.at, 0).card.habit.payments == 1  # type: ignore[arg-type]  # not None


def test_a_payment_of_history_that_was_taken_up_first_is_learnt_once_and_answered_as_it_was_decided() -> None:
    txn = payment()
    terms = Terms(policy=parse_policy(""))
    ruling = decide(cased(txn), features(), terms, receipt(txn))
    past, _ = learn_past(None, Past(txn, Outcome.BLOCK), terms, txn.at, 9)

    adopted, news = adopt(past, txn, terms, ruling, txn.at, 4)

    assert (adopted.attempts, adopted.habit, adopted.seen[0], news) == (past.attempts, past.habit, 4, NONE)
    assert settled(past, txn.transaction_id)[0].outcome is Outcome.BLOCK  # type: ignore[index]  # not None
    assert settled(adopted, txn.transaction_id)[0] == ruling.settled()  # type: ignore[index]  # not None
    assert len(adopted.ring.ids) == 8


def test_history_that_is_known_already_teaches_nothing() -> None:
    txn = payment()
    card = remember(txn)

    again, news = learn_past(card, Past(txn), Terms(policy=parse_policy("")), txn.at, 9)

    assert again.habit == card.habit
    assert again.attempts == card.attempts
    assert again.seen[HISTORY] == 9
    assert news == NONE


class Changelog:
    """Stands for Kafka's: what is published at once lands at once, or not at all."""

    def __init__(self) -> None:
        self.batches: list[list[Outgoing]] = []

    async def publish(self, topic: str, partition: int, records: list[Outgoing]) -> list[Landed]:
        first = sum(map(len, self.batches))
        self.batches.append(records)
        return [(first, len(records))]


@pytest.fixture
def changelog() -> Changelog:
    return Changelog()


@pytest.fixture
def settling(tmp_path: Path, changelog: Changelog) -> Iterator[Owner[int]]:
    """An owner that is not open, over a real database: its chunks are settled by hand."""
    memory = numbers(tmp_path)
    memory.data.restore(0, [record(0, b"other", b"1")])
    app: Any = SimpleNamespace(settings=Settings(), background=Background(), changes=changelog)
    yield Owner(Owners(app, memory, ["payments", "history"], decisions="decisions"), 0)
    memory.data.close(0)


def learning(owner: Owner[int], topic: str, offset: int, **values: int | None) -> Work[int]:
    """A chunk of one record, computed and not settled."""
    work = Work(owner, [record(offset, None, None, topic)])
    for name, value in values.items():
        work.learn(name, value)
    return work


def test_a_card_erased_twice_in_flight_is_not_remembered_while_the_second_time_is_not_settled(settling: Owner[int]) -> None:
    works = [
        learning(settling, "history", 1, card=None),
        learning(settling, "payments", 2, card=2),
        learning(settling, "history", 3, card=None),
    ]

    recalled = []
    for work in works:
        asyncio.run(settling._settle([work], []))
        recalled.append(settling.recall("card"))

    assert recalled == [None, None, None]
    assert settling.overlay == {}


def test_a_tombstone_and_the_offset_that_it_was_learnt_from_land_in_one_batch_after_all_values(
    settling: Owner[int], changelog: Changelog
) -> None:
    works = [
        learning(settling, "payments", 1, one=1, two=1),
        learning(settling, "history", 2, one=None),
        learning(settling, "payments", 3, three=3),
    ]

    asyncio.run(settling._settle(works, []))

    values, last = [[(each.key, each.value is None) for each in batch] for batch in changelog.batches]
    assert sorted(values) == [(b"three", False), (b"two", False)]
    assert last == [(LEARNT, False), (b"one", True)]


def test_a_worker_knows_the_leaders_of_all_that_owners_ask_about_before_a_payment_comes(settling: Owner[int]) -> None:
    changelog = settling.changelog

    assert settling.owners.topics == ["payments", "history", changelog, "decisions"]


def settle(owner: Owner[int], offset: int, decided: tuple[int, int] | None) -> None:
    """Settle a payment, of which outputs landed on `decisions`: their first offset, and their number."""

    async def go() -> None:
        landing: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        landing.set_result(SimpleNamespace(offset=0 if decided is None else decided[0]))
        sent = ("letters", (landing, 1)) if decided is None else ("decisions", (landing, decided[1]))
        await owner._settle([learning(owner, "payments", offset, card=offset)], [sent])

    asyncio.run(go())


class Decisions:
    """Stands for the reader of a partition of `decisions`: payment after payment, from offset 7 on."""

    def __init__(self, *payments: int) -> None:
        self._records = [SimpleNamespace(value=b"%d" % n, headers=[(SOURCE, b"0:%d" % n)]) for n in payments]
        self._at = 0
        self.read: list[int] = []

    async def beginning_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, 7)

    async def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, 7 + len(self._records))

    def assign(self, tps: list[TopicPartition]) -> None: ...

    def pause(self, tp: TopicPartition) -> None: ...

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._at = offset

    async def position(self, tp: TopicPartition) -> int:
        return self._at

    async def getone(self, tp: TopicPartition) -> Any:
        self._at += 1
        return self._records[self._at - 8]

    async def getmany(self, tp: TopicPartition, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        self.read.append(self._at)
        return {tp: [await self.getone(tp)]}


def search(owner: Owner[int], *payments: int) -> list[int]:
    """The offsets of decisions that are searched by who takes over what `owner` has settled, where these payments' decisions stand."""
    reader = Decisions(*payments)
    asyncio.run(owner._read_recorded(reader, TopicPartition("decisions", 0)))
    return reader.read


def test_decisions_that_are_learnt_are_not_searched_again(settling: Owner[int]) -> None:
    search(settling)
    settle(settling, 2, (7, 3))

    assert decode_learnt(settling.memory.data.partition(0).get(LEARNT)) == {"payments": 2, "decisions": 9}
    assert search(settling, 0, 1, 2) == []
    assert search(settling, 0, 1, 2, 3, 4) == [10, 11]
    assert settling.recorded == {3: [b"3"], 4: [b"4"]}


def test_a_decision_that_stood_there_and_is_not_learnt_yet_is_found_again_however_many_were_published_after_it(
    settling: Owner[int],
) -> None:
    search(settling, 0, 1, 2, 3)
    settle(settling, 0, None)  # adopted
    settle(settling, 1, (11, 1))

    assert search(settling, 0, 1, 2, 3, 1) == [7, 8, 9, 10, 11]
    assert settling.recorded == {2: [b"2"], 3: [b"3"]}

    settle(settling, 3, None)
    settle(settling, 4, (12, 1))

    assert search(settling, 0, 1, 2, 3, 1, 4) == []


def test_decisions_that_landed_in_between_are_found_by_the_next_owner(settling: Owner[int]) -> None:
    """A revived writer's, of 0 to 3: this owner, which did not see them, published 0 and 1, too."""
    search(settling)
    settle(settling, 1, (11, 2))

    assert search(settling, 0, 1, 2, 3, 0, 1) == [7, 8, 9, 10, 11, 12]
    assert settling.recorded == {2: [b"2"], 3: [b"3"]}


@pytest.mark.parametrize("number", [2, 5], ids=["shorter than before", "longer"])
def test_decisions_made_anew_are_searched_whole(settling: Owner[int], number: int) -> None:
    search(settling)
    settle(settling, 2, (7, 3))

    assert search(settling, *range(3, 3 + number)) == list(range(7, 7 + number))
    assert settling.recorded.keys() == {*range(3, 3 + number)}


class Broker:
    """Stands for Kafka's decisions: a batch lands when it is let through."""

    def __init__(self) -> None:
        self.batches: list[list[bytes | None]] = []
        self.lets_through = asyncio.Event()

    async def send(self, topic: str, partition: int, records: list[Outgoing]) -> list[Sent]:
        self.batches.append([each.value for each in records])
        await self.lets_through.wait()
        return []


def test_decisions_that_are_ready_while_others_are_on_their_way_go_out_together(settling: Owner[int]) -> None:
    async def batches() -> list[list[bytes | None]]:
        settling.app.outputs = broker = Broker()  # type: ignore[assignment]
        publishing = asyncio.create_task(settling._publish_all())
        for n in range(4):
            work = learning(settling, "payments", n)
            work.publish("decisions", b"card", b"%d" % n, [])
            await settling.put(work)
            await asyncio.sleep(0)
        broker.lets_through.set()
        await settling._computed.join()
        publishing.cancel()
        return broker.batches

    assert asyncio.run(batches()) == [[b"0"], [b"1", b"2", b"3"]]
