"""What a partition becomes when its changelog is read: the last value counts, unless its writer knew less than those before it."""

import asyncio
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.structs import ConsumerRecord

from aegis_app.stream.memory import LEARNT, RESTORED, Store, decode_learnt, encode_learnt
from tests.make import record
from tests.numbers import numbers


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = numbers(tmp_path).data
    yield store
    store.close(0)


def learnt(offset: int, **offsets: int) -> ConsumerRecord:
    return record(offset, LEARNT, encode_learnt(offsets))


def held(store: Store) -> dict[bytes, bytes]:
    """The values of the partition."""
    return {key: value for key, value in store.partition(0).items() if not key.startswith(b"\0")}


def test_a_value_later_than_its_tombstone_and_older_than_what_was_learnt_stays_away(store: Store) -> None:
    log = [record(0, b"a", b"5"), learnt(1, payments=7), record(2, b"a", None), record(3, b"a", b"5")]

    store.restore(0, log)

    assert held(store) == {}
    assert store.superseded(0) == {b"a"}


@pytest.mark.parametrize("cut", range(1, 5))
def test_it_makes_no_difference_in_how_many_parts_the_log_is_read(store: Store, cut: int) -> None:
    log = [record(0, b"a", b"5"), learnt(1, payments=7), record(2, b"a", None), record(3, b"a", b"5"), record(4, b"a", b"8")]

    store.restore(0, log[:cut])
    store.restore(0, log[cut:])

    assert held(store) == {b"a": b"8"}
    assert store.superseded(0) == set()


def test_what_was_put_there_again_is_no_revived_writers_even_where_its_first_record_is_compacted_away(store: Store) -> None:
    again = dataclasses.replace(record(4, b"a", b"5"), headers=(RESTORED,))

    store.restore(0, [learnt(1, payments=7), again])

    assert held(store) == {b"a": b"5"}
    assert store.superseded(0) == set()


def test_what_is_to_be_put_there_again_outlives_a_restart(store: Store, tmp_path: Path) -> None:
    store.restore(0, [record(0, b"a", b"5"), learnt(1, payments=7), record(2, b"a", None), record(3, b"a", b"5")])
    store.close(0)
    again = numbers(tmp_path).data
    again.restore(0, [record(4, b"b", b"9")])

    assert again.superseded(0) == {b"a"}
    again.close(0)


def test_what_was_learnt_never_falls_back_and_is_put_there_again(store: Store) -> None:
    store.restore(0, [learnt(0, payments=7, history=1), learnt(1, payments=5, history=3)])

    assert decode_learnt(store.partition(0)[LEARNT]) == {"payments": 7, "history": 3}
    assert store.superseded(0) == {LEARNT}
    store.restore(0, [learnt(2, payments=9, history=3)])
    assert store.superseded(0) == set()


def test_what_is_not_on_disk_yet_is_bounded_over_all_partitions_together(tmp_path: Path) -> None:
    store = numbers(tmp_path, partitions=20, budget=16 << 20).data
    databases = [store._db_for_partition(partition) for partition in range(20)]
    most = 0
    for n in range(200):
        for database in databases:
            database.put(b"%d" % n, b"%d" % n * 3000)
        most = max(most, sum(database.property_int_value("rocksdb.size-all-mem-tables") for database in databases))
        time.sleep(0.01)  # it is written beside
    asyncio.run(store.stop())

    assert most < 20 << 20, "of 29 MB that were put"
