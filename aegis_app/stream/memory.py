"""A table whose values carry the offsets they were learnt from; RocksDB below, recovered in bulk.

Replaces of Faust: the write per key and the offset per write (the owner writes a chunk at once, with the changelog's offset in
the same batch), recovery record by record, handles that stay open after a revocation, and a block cache of 2 GiB a partition.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Generic, TypeVar

import faust
import msgspec
import rocksdict
from aiokafka.structs import ConsumerRecord
from faust.stores import rocksdb
from faust.types import TP
from msgspec import Struct

PRIVATE: Final = b"\0"
"""First byte of keys that hold no value of the table: what a partition remembers about itself."""
LEARNT: Final = PRIVATE + b"learnt"
"""Key of the last offset learnt from each source, and of where the decisions about that end."""
SUPERSEDED: Final = PRIVATE + b"superseded"
"""Key of the keys whose latest changelog record is older than what is stored, or than their end: a revived writer's."""
RESTORED: Final = ("restored", b"")
"""Header of a value that was put on the changelog again, behind offsets beyond its own: that does not make it a revived writer's."""

encode_learnt: Final = msgspec.msgpack.Encoder().encode
decode_learnt: Final = msgspec.msgpack.Decoder(dict[str, int]).decode
_encode_keys: Final = msgspec.msgpack.Encoder().encode
_decode_keys: Final = msgspec.msgpack.Decoder(set[bytes]).decode

V = TypeVar("V")


class Codec(Struct, Generic[V], frozen=True):
    """How a table's values are written, which offsets they were learnt from, and when they are forgotten."""

    encode: Callable[[V], bytes]
    decode: Callable[[bytes], V]
    seen: Callable[[bytes], Mapping[Any, int]]
    """The last offset learnt from each source, of an encoded value."""
    clock: Callable[[V], int]
    """The latest event time that a value knows of, in milliseconds."""
    expired: Callable[[bytes, int], bool]
    """Whether an encoded value idled for too long at such a time."""
    late: Callable[[bytes, Mapping[str, int]], bool] = lambda raw, learnt: False
    """Whether an encoded value was learnt from nothing beyond such offsets, by topic: once forgotten, it must not come back."""
    summary: Callable[[V], bytes | None] | None = None
    """What every worker holds of a value, where they do; `None`: it need not be known elsewhere."""


class Budget:
    """Memory of RocksDB, all tables and partitions together: blocks that were read, and buffers with what is not on disk yet.

    Indexes and filters come on top, about 10 bytes a value. Buffers are written beside, so they exceed their half a little.
    """

    def __init__(self, size: int) -> None:
        self.blocks = rocksdict.Cache(size)
        self.buffers = rocksdict.WriteBufferManager.new_write_buffer_manager_with_cache(size // 2, False, self.blocks)
        """Counted as if it were blocks; beyond half of all, whoever writes next goes to disk."""


class Store(rocksdb.Store):
    """One RocksDB per partition."""

    offset_key = PRIVATE + b"offset"
    table: "Memory[Any]"

    def _open_for_partition(self, partition: int) -> Any:
        blocks = rocksdict.BlockBasedOptions()
        blocks.set_block_cache(self.table.budget.blocks)
        blocks.set_bloom_filter(10, block_based=False)
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(32 << 20)
        options.set_max_write_buffer_number(3)
        options.set_arena_block_size(32 << 10)  # each partition has one, however little is written to it
        options.set_write_buffer_manager(self.table.budget.buffers)
        options.set_keep_log_file_num(2)
        options.set_block_based_table_factory(blocks)
        path = self.partition_path(partition)
        path.parent.mkdir(parents=True, exist_ok=True)
        return rocksdict.Rdict(str(path), options=options)

    def partition(self, partition: int) -> Any:
        """The database of a partition that this worker holds."""
        return self._dbs[partition]

    def holds(self, partition: int) -> bool:
        return partition in self._dbs

    def superseded(self, partition: int) -> set[bytes]:
        """The keys of a partition that are to be put on the changelog again, see `SUPERSEDED`."""
        raw = self.partition(partition).get(SUPERSEDED)
        return set() if raw is None else _decode_keys(raw)

    def size(self) -> tuple[int, int]:
        """Values held here, as RocksDB estimates, and the bytes of its files and of what it has not written there yet."""
        keys = stored = 0
        for database in list(self._dbs.values()):
            keys += database.property_int_value("rocksdb.estimate-num-keys") or 0
            stored += database.property_int_value("rocksdb.total-sst-files-size") or 0
            stored += database.property_int_value("rocksdb.cur-size-all-mem-tables") or 0
        return keys, stored

    def revoke_partitions(self, table: Any, tps: set[TP]) -> None:
        for tp in tps:
            if tp.topic in table.changelog_topic.topics:
                self.close(tp.partition)

    def close(self, partition: int) -> None:
        """Close a partition's database, so that a late write fails instead of landing."""
        database = self._dbs.pop(partition, None)
        if database is not None:
            database.close()

    def wipe(self, partition: int) -> None:
        """Forget a partition; it comes back from the changelog."""
        self.close(partition)
        shutil.rmtree(self.partition_path(partition), ignore_errors=True)

    def wipe_all(self) -> None:
        for partition in list(self._dbs):
            self.wipe(partition)

    async def stop(self) -> None:
        for partition in list(self._dbs):
            self.close(partition)

    def apply_changelog_batch(self, batch: Iterable[Any], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]) -> None:
        """Write chunks of the changelog as they are. The value learnt from later offsets stays, whatever came last.

        Faust applies what it does not expect to the table that came before: another's changes are dropped.
        """
        for event in batch:
            if event.message.topic in self.table.changelog_topic.topics:
                self.restore(event.message.partition, event.message.value)

    def restore(self, partition: int, records: list[ConsumerRecord]) -> None:
        """Bring a partition's database up to the last of `records`."""
        database = self._db_for_partition(partition)
        superseded = self.superseded(partition)
        latest: dict[bytes, bytes | None] = {}
        raw = database.get(LEARNT)
        learnt = {} if raw is None else decode_learnt(raw)
        for record in records:
            key, value = record.key, record.value
            if key == LEARNT:
                said = decode_learnt(value)
                learnt |= {topic: offset for topic, offset in said.items() if offset > learnt.get(topic, -1)}
                latest[key], is_late = encode_learnt(learnt), learnt != said
            else:
                before = latest[key] if key in latest else database.get(key)
                is_late = value is not None and self._is_late(record, before, learnt)
                if not is_late:
                    latest[key] = value
            (superseded.add if is_late else superseded.discard)(key)
        write = rocksdict.WriteBatch(raw_mode=True)
        for key, value in latest.items():
            if value is None:
                write.delete(key)
            else:
                write.put(key, value)
        write.put(SUPERSEDED, _encode_keys(superseded))
        write.put(self.offset_key, b"%d" % records[-1].offset)
        database.write(write)

    def _is_late(self, record: ConsumerRecord, before: bytes | None, learnt: Mapping[str, int]) -> bool:
        """Whether a value was written by who did not know of what stands before it: a newer value, or that it is forgotten."""
        codec = self.table.codec
        if before is None:
            return RESTORED not in record.headers and codec.late(record.value, learnt)
        return _older(codec.seen(record.value), codec.seen(before))


def _older(one: Mapping[Any, int], other: Mapping[Any, int]) -> bool:
    return one != other and all(offset <= other.get(source, -1) for source, offset in one.items())


class Memory(faust.Table, Generic[V]):  # type: ignore[type-arg]  # generic to mypy alone
    """A table that only the owner of a partition writes, and views read. Key and topic co-partitioned with its sources."""

    data: Store

    def __init__(self, app: Any, name: str, codec: Codec[V], *, budget: Budget, **options: Any) -> None:
        super().__init__(app, name=name, key_type=bytes, value_type=bytes, recovery_buffer_size=4, standby_buffer_size=4, **options)
        self.codec = codec
        self.budget = budget

    def _new_store_by_url(self, url: Any) -> Store:
        return Store(
            url,
            self.app,
            self,
            table_name=self.name,
            key_type=self.key_type,
            key_serializer=self.key_serializer,
            value_serializer=self.value_serializer,
            value_type=self.value_type,
            loop=self.loop,
            driver="rocksdict",
        )

    def read(self, partition: int, key: str) -> V | None:
        """What a partition remembers under `key`; `None` for nothing. Raises `KeyError` where it is not held here."""
        raw = self.data.partition(partition).get(key.encode())
        return None if raw is None else self.codec.decode(raw)

    def scan(self, partition: int, after: bytes = PRIVATE) -> Iterator[tuple[bytes, bytes]]:
        """Keys and encoded values of a partition in the order of keys, from the first beyond `after`."""
        cursor = self.data.partition(partition).iter()
        cursor.seek(b"\1" if after == PRIVATE else after + b"\0")
        while cursor.valid():
            yield cursor.key(), cursor.value()
            cursor.next()
