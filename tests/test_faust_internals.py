"""What the stream layer leans on inside Faust 0.15. When one of these fails after an upgrade, read docs/decisions/0001 first."""

import ast
import inspect
import subprocess
import sys
import textwrap

import faust
import pytest
from aiokafka import client
from aiokafka.consumer import group_coordinator
from faust.cli import agents as agents_command
from faust.tables import recovery
from faust.transport import conductor, consumer
from faust.transport.drivers import aiokafka as driver
from mode.utils.queues import FlowControlEvent, ThrowableQueue


def source(thing: object) -> str:
    return textwrap.dedent(inspect.getsource(thing))  # type: ignore[arg-type]  # any function or class


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (consumer.Consumer, "getmany"),
        (consumer.Consumer, "_wait_next_records"),
        (consumer.Consumer, "_filter_tps_with_pending_acks"),
        (consumer.Consumer, "_new_offset"),
        (consumer.Consumer, "_add_gap"),
        (consumer.Consumer, "on_buffer_full"),
        (consumer.Consumer, "verify_all_partitions_active"),
        (consumer.Consumer, "perform_seek"),
        (consumer.Consumer, "stop_flow"),
        (consumer.Consumer, "on_partitions_revoked"),
        (driver.Consumer, "_new_consumer_thread"),
        (driver.Consumer, "_to_message"),
        (driver.Consumer, "_getmany"),
        (driver.AIOKafkaConsumerThread, "_create_worker_consumer"),
        (driver.AIOKafkaConsumerThread, "_fetch_records"),
        (driver.AIOKafkaConsumerThread, "getmany"),
        (group_coordinator.GroupCoordinator, "_do_heartbeat"),
        (client.AIOKafkaClient, "ready"),
        (client.AIOKafkaClient, "send"),
        (faust.Topic, "_compile_decode"),
        (faust.Topic, "_create_event"),
        (driver.Consumer, "_is_changelog_tp"),
        (faust.App, "_new_transport"),
        (faust.App, "_on_agent_error"),
        (faust.App, "_crash"),
        (faust.Table, "_new_store_by_url"),
        (faust.Worker, "_setup_spinner_handler"),
    ],
)
def test_what_we_override_or_call_is_there(owner: type, name: str) -> None:
    assert callable(getattr(owner, name))


def test_what_the_loop_that_we_replace_does() -> None:
    loop = source(consumer.Consumer._drain_messages)

    assert "callback = self.callback" in loop
    assert "callback(message), self.suspend_flow.wait()" in loop
    assert "except self.consumer_stopped_errors:" in loop
    assert "await consumer._drain_messages(self)" in source(consumer.Fetcher._fetcher.fun)


def test_partitions_change_hands_with_the_flow_stopped_and_it_goes_on_after_a_seek() -> None:
    revoked, recovered = source(faust.App._on_partitions_revoked), source(recovery.Recovery.on_recovery_completed)
    restarted = source(recovery.Recovery._restart_recovery.fun)

    assert revoked.index("consumer.stop_flow") < revoked.index("flow_control.clear")
    assert restarted.index('"Seek offsets for active partitions"') < restarted.index("consumer.resume_flow")
    assert recovered.index("consumer.perform_seek") < recovered.index("consumer.resume_flow")


def test_a_queue_without_bound_is_never_waited_for() -> None:
    queue: ThrowableQueue[object] = ThrowableQueue(maxsize=0, flow_control=FlowControlEvent())

    assert not queue.full()
    assert "if queue.full():" in source(conductor.ConductorCompiler.build)
    assert "self.app.conf.stream_buffer_maxsize" in source(faust.Channel)
    assert "self._tp_index" in source(conductor.Conductor.__init__)


def test_a_commit_asks_for_new_offsets_of_partitions_with_pending_acks() -> None:
    assert "_filter_tps_with_pending_acks(topics)" in source(consumer.Consumer.force_commit)
    assert "self._new_offset(tp)" in source(consumer.Consumer._filter_committable_offsets)


def test_the_isolation_level_is_read_when_the_consumer_starts() -> None:
    import aiokafka

    assert "self._isolation_level = isolation_level" in source(aiokafka.AIOKafkaConsumer.__init__)
    assert "isolation_level=self._isolation_level" in source(aiokafka.AIOKafkaConsumer.start)


def test_how_long_a_broker_is_left_alone_is_read_at_each_answer() -> None:
    from aiokafka.consumer import fetcher

    assert "backoff=self._prefetch_backoff" in source(fetcher.Fetcher._proc_fetch_request)
    assert "self._consumer = " in source(driver.AIOKafkaConsumerThread.on_start)


def test_a_topics_decoder_is_compiled_into_an_attribute() -> None:
    assert "self.decode = self.schema.compile(" in source(faust.Topic._compile_decode)
    assert "chan.decode(message, propagate=True)" in source(conductor.ConductorCompiler.build)


def test_recovery_counts_by_the_offset_of_the_last_record_of_a_chunk() -> None:
    slurp = source(recovery.Recovery._slurp_changelogs.fun)

    assert "offset > seen_offset" in slurp
    assert "offsets[tp] = offset" in slurp
    assert "table.apply_changelog_batch(buf)" in slurp


def test_a_tables_changelog_is_a_topic_of_the_apps_own_class() -> None:
    assert "self.app.topic(" in source(faust.Table._new_changelog_topic)
    assert "conf.Topic(" in source(faust.App.topic)


def test_the_agents_command_asks_a_topic_for_its_name() -> None:
    assert "get_topic_name()" in source(agents_command.agents)


PURE = """
import sys
sys.modules["faust"] = sys.modules["aiokafka"] = sys.modules["aiohttp"] = sys.modules["tensorflow"] = None
import aegis_app, aegis_app.core, aegis_app.core.screen, aegis_app.core.replay, aegis_app.core.intake
loaded = [name for name in ("faust", "mode", "aiokafka", "aiohttp", "tensorflow", "prometheus_client") if sys.modules.get(name)]
sys.exit(f"the core loads {loaded}" if loaded else 0)
"""


def test_the_core_loads_neither_faust_nor_kafka_nor_http() -> None:
    answer = subprocess.run([sys.executable, "-c", PURE], capture_output=True, text=True, check=False)

    assert answer.returncode == 0, answer.stderr


def test_the_core_asks_no_clock_and_no_dice() -> None:
    from pathlib import Path

    import aegis_app.core

    forbidden = {"now", "utcnow", "random", "time", "monotonic", "environ"}
    for path in Path(aegis_app.core.__file__).parent.rglob("*.py"):
        asked = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
        assert not {node.attr for node in asked} & forbidden, path
        assert not [node for node in asked if ast.unparse(node).endswith(("date.today", "datetime.today"))], path  # a field may be `today`
