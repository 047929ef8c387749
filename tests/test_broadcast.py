"""Lists and policies on a real Kafka: every worker takes a change up within two seconds, whatever else is on the topic."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from click.testing import CliRunner

from aegis_app import admin, settings
from aegis_app.broadcast import Broadcast
from aegis_app.cli import main
from aegis_app.core.lists import encode_entry
from aegis_app.core.payment import encode_transaction
from aegis_app.core.policy import Mode, parse_policy
from aegis_app.kafka import Kafka, jars
from aegis_app.lists import Listed, publish
from aegis_app.policies import with_mode
from aegis_app.topics import Name, home
from tests.deployment import PARTITIONS, Deployment, recreate, wait_until
from tests.make import entry, payment

pytestmark = pytest.mark.kafka

TAKEN_UP_SECONDS = 2.0
TWO_A_MINUTE = 'mode = "enforce"  # at last\n[rules.velocity_1m]\nstate = "on"\nasks = "block"\nmost = 2\n'
NEWER = 'mode = "enforce"\n[rules.next_years]\nstate = "on"\n'


@pytest.fixture(scope="module")
def pair(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Two workers; the tests follow one another."""
    with Deployment(kafka, tmp_path_factory.mktemp("broadcast"), "broadcast") as made:
        for worker in (made.worker(), made.worker()):
            worker.wait_until_ready()
        wait_until(lambda: tuple(len(series(made, number, "aegis_lag_payments")) for number in (0, 1)) == (5, 5), 30, made)
        yield made


def aegis(made: Deployment, *arguments: str, stdin: str = "") -> Any:
    """What a command prints as JSON lines, on the deployment's Kafka."""
    environment = {"AEGIS_BROKER": made.settings.broker, "AEGIS_TOPIC_PREFIX": made.settings.topic_prefix}
    settings.settings.cache_clear()
    result = CliRunner().invoke(main, [*arguments, "--json"], input=stdin, env=environment)
    settings.settings.cache_clear()
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def rules(made: Deployment) -> list[dict[str, Any]]:
    """What each worker says is in force."""
    return [worker.get("/rules")[1] for worker in made.workers]


def series(made: Deployment, number: int, name: str) -> dict[str, float]:
    """A series of a worker by its labels, as they are written."""
    lines = str(made.workers[number].get("/metrics")[1]).splitlines()
    return {line[len(name) :].rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{")}


def await_everywhere(made: Deployment, policy: str) -> None:
    wait_until(lambda: {each["policy"] for each in rules(made)} == {policy}, TAKEN_UP_SECONDS, made)


def burst(made: Deployment, *cards: str) -> list[list[str]]:
    """For each card, the outcomes of three payments within a minute."""
    made.pay(*(payment(card_id=card, transaction_id=f"{card}-{n}", seconds=n) for card in cards for n in range(3)))
    made.await_settled()
    decisions = made.decisions()
    return [[each["outcome"] for each in decisions if each["card_id"] == card] for card in cards]


def test_while_nothing_is_published_the_packaged_policy_serves_and_nothing_is_listed(pair: Deployment) -> None:
    for each in rules(pair):
        assert each["source"] == {"from": "the package"}
        assert each["mode"] == "observe"
        assert each["lists"] == {"version": None, "entries": {"deny": {}, "watch": {}, "allow": {}}}
    assert burst(pair, "before") == [["allow"] * 3]


@pytest.mark.parametrize("mode", ["observe", "enforce"])
def test_while_nothing_is_published_another_mode_takes_a_policy_of_this_machine_only_when_asked(
    kafka: str, tmp_path: Path, mode: str
) -> None:
    own = tmp_path / "own.toml"
    own.write_text(TWO_A_MINUTE)
    with Deployment(kafka, tmp_path, f"unpublished-{mode}", AEGIS_POLICY=str(own)) as made:
        refused = made.aegis("policies", mode)
        assert refused.exit_code == 1
        assert "aegis policies publish FILE" in refused.stderr
        assert f"aegis policies {mode} --local" in refused.stderr
        assert made.records(Name.POLICIES) == []

        assert made.aegis("policies", mode, "--local").exit_code == 0
        (published,) = made.records(Name.POLICIES)
        assert with_mode(TWO_A_MINUTE, Mode(mode)) == json.loads(published.value)["text"]
        again = made.aegis("policies", mode, "--local")
        assert (again.exit_code, len(made.records(Name.POLICIES))) == (1, 1)
        assert f"`aegis policies {mode}`, without --local" in again.stderr
        assert made.aegis("policies", "observe").exit_code == 0


def test_a_published_policy_judges_the_next_payments_on_both_workers(pair: Deployment, tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(TWO_A_MINUTE)
    version = parse_policy(TWO_A_MINUTE).version

    payments = tmp_path / "payments.jsonl"
    payments.write_bytes(b"\n".join(encode_transaction(payment(transaction_id=f"t{n}", seconds=n)) for n in range(4)))
    dry, judged = aegis(pair, "policies", "publish", str(file), "--note", "try", "--dry-run", "--backtest", str(payments))
    assert [each["policy"] for each in judged["policies"]] == [f"in force: {dry['was']}", f"this one: {dry['policy']}"]
    assert pair.records(Name.POLICIES) == []
    refused = pair.aegis("policies", "publish", str(file), "--note", "two are enough")
    assert refused.exit_code == 1
    assert "rules that are on would be in shadow, because it gives them no state: velocity_10m, " in refused.stderr
    assert pair.records(Name.POLICIES) == []
    (told,) = aegis(pair, "policies", "publish", str(file), "--note", "two are enough", "--by", "ana", "--yes")
    await_everywhere(pair, version)

    assert dry["changes"] == told["changes"]
    assert {"entry": "rules.velocity_1m.most", "was": 4, "is": 2} in told["changes"]
    for number, each in enumerate(rules(pair)):
        assert each["source"].items() >= {"offset": 0, "author": "ana", "note": "two are enough"}.items()
        assert series(pair, number, "aegis_policy_info") == {f'{{mode="enforce",version="{version}"}}': 1}
    cards = "after-1", "after-2", "after-3", "after-4"
    assert {home(card.encode(), PARTITIONS) for card in cards} == {0, 1}
    assert burst(pair, *cards) == [["allow", "allow", "block"]] * 4
    assert {each["policy"] for each in pair.decisions() if each["card_id"] in cards} == {version}


def test_a_bad_policy_is_observed_rolled_back_and_only_then_enforced_again(pair: Deployment, tmp_path: Path) -> None:
    good = parse_policy(TWO_A_MINUTE).version
    file = tmp_path / "bad.toml"
    file.write_text(TWO_A_MINUTE.replace("most = 2", "most = 1"))
    (bad,) = aegis(pair, "policies", "publish", str(file), "--note", "one is enough", "--yes")
    await_everywhere(pair, bad["policy"])
    assert burst(pair, "blocked") == [["allow", "block", "block"]]

    (observing,) = aegis(pair, "policies", "observe", "--note", "too much")
    await_everywhere(pair, observing["policy"])
    assert burst(pair, "observed") == [["allow"] * 3]
    assert aegis(pair, "policies", "observe")[0]["offset"] is None
    refused = pair.aegis("policies", "publish", str(file), "--note", "again")
    assert (refused.exit_code, "what is only observed now would be enforced" in refused.stderr) == (1, True)

    (dry,) = aegis(pair, "policies", "rollback", "--dry-run")
    assert dry["offset"] is None
    assert dry["changes"] == [{"entry": "rules.velocity_1m.most", "was": 1, "is": 2}]
    told = pair.aegis("policies", "rollback")
    assert (told.exit_code, "its mode was enforce; `aegis policies enforce` switches to that" in told.stderr) == (0, True)
    await_everywhere(pair, dry["policy"])
    assert [each["mode"] for each in rules(pair)] == ["observe"] * 2
    assert burst(pair, "led back") == [["allow"] * 3]
    assert aegis(pair, "policies", "rollback", good)[0]["offset"] is None, "a version does not bring its mode along either"
    aegis(pair, "policies", "enforce")
    await_everywhere(pair, good)
    assert burst(pair, "enforced") == [["allow", "allow", "block"]]

    past = aegis(pair, "policies", "history")
    assert [(each["policy"], each["note"], each["state"]) for each in past] == [
        (good, "two are enough", "past"),
        (bad["policy"], "one is enough", "past"),
        (observing["policy"], "too much", "past"),
        (dry["policy"], f"rolled back from {observing['policy']}", "past"),
        (good, "enforce", "in force"),
    ]
    text = pair.records(Name.POLICIES)[-1].value.decode()
    assert "# at last" in text


def test_a_policy_from_a_newer_version_or_garbage_is_passed_over_by_both_and_counted(pair: Deployment) -> None:
    before = rules(pair)[0]["policy"]
    newer = json.dumps({"text": NEWER, "author": "ana", "note": "soon", "at": "2026-03-04T12:00:00Z"}).encode()
    for value in (b"garbage", newer):
        pair.send(value, b"key", partition=0, name=Name.POLICIES)
    refused = '{topic="policies"}'
    wait_until(lambda: all(series(pair, n, "aegis_broadcast_refused_total").get(refused) == 2 for n in (0, 1)), TAKEN_UP_SECONDS, pair)

    assert {each["policy"] for each in rules(pair)} == {before}
    assert "there is no rule 'next_years'" in pair.workers[0].log.read_text()
    assert burst(pair, "unmoved") == [["allow", "allow", "block"]]


def test_a_list_entry_reaches_both_workers_and_its_removal_stays_on_record(pair: Deployment) -> None:
    aegis(pair, "lists", "add", "deny", "card", "tok_1", "--reason", "stolen", "--by", "ana")
    wait_until(lambda: all(each["lists"]["entries"]["deny"] == {"card": 1} for each in rules(pair)), TAKEN_UP_SECONDS, pair)
    assert {each["lists"]["version"] for each in rules(pair)} == {"1"}

    aegis(pair, "lists", "remove", "deny", "card", "tok_1", "--by", "ben")
    wait_until(lambda: all(each["lists"]["entries"]["deny"] == {} for each in rules(pair)), TAKEN_UP_SECONDS, pair)

    assert aegis(pair, "lists", "show") == []
    (removed,) = aegis(pair, "lists", "show", "--removed")
    assert (removed["value"], removed["by"], removed["reason"]) == ("tok_1", "ben", "stolen")


@pytest.mark.parametrize(
    ("until", "shown"),
    [
        ("2036-12-31", "until 2036-12-31  stolen"),
        ("2037-01-01T00:00:00Z", "until 2036-12-31  stolen"),
        ("2036-12-31T12:00:00+01:00", "until 2036-12-31 11:00:00Z  stolen"),
    ],
)
def test_an_entry_is_shown_until_the_day_that_was_said(pair: Deployment, until: str, shown: str) -> None:
    line = f"list,of,value,reason,until\ndeny,device,lost,stolen,{until}\n"

    assert pair.aegis("lists", "import", "-", "--csv", stdin=line.encode()).stdout == "imported 1 entry\n"
    assert f"deny device lost  {shown}  (by " in pair.aegis("lists", "show", "deny", "device").stdout
    assert pair.aegis("lists", "remove", "deny", "device", "lost").exit_code == 0


def test_many_entries_are_imported_and_garbage_among_them_changes_nothing(pair: Deployment) -> None:
    lines = "".join(f"watch,merchant,m-{n},odd\n" for n in range(5000))
    aegis(pair, "lists", "import", "-", "--csv", stdin="list,of,value,reason\n" + lines)
    pair.send(b"garbage", b"watch:merchant:m-1", partition=0, name=Name.LISTS)
    pair.send(encode_entry(entry("watch", "merchant", "m-2", removed=True)), b"watch:merchant:m-2", partition=0, name=Name.LISTS)

    wait_until(lambda: all(each["lists"]["entries"]["watch"] == {"merchant": 4999} for each in rules(pair)), TAKEN_UP_SECONDS, pair)

    assert len(aegis(pair, "lists", "show", "watch", "merchant")) == 4999
    assert all(series(pair, n, "aegis_broadcast_refused_total")['{topic="lists"}'] == 1 for n in (0, 1))


def test_a_worker_that_starts_later_holds_all_of_it_before_it_is_ready(pair: Deployment) -> None:
    late = pair.worker(AEGIS_APP_ID="another-group").wait_until_ready()

    now, then = late.get("/rules")[1], pair.workers[0].get("/rules")[1]

    assert now["source"]["note"] == "enforce"
    assert now["lists"]["entries"]["watch"] == {"merchant": 4999}
    assert now | {"age_seconds": 0} == then | {"age_seconds": 0}


@asynccontextmanager
async def following(made: Deployment) -> AsyncIterator[Broadcast[Listed]]:
    lists = Broadcast(made.settings, Name.LISTS, lambda: Listed(token=False))
    await lists.load()
    task = asyncio.create_task(lists.follow())
    yield lists
    await lists.stop()
    await task


async def until(is_so: Any, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():  # noqa: ASYNC110  # what changes is no event of ours
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("number", [1, 20, 30], ids=["shorter", "as long", "longer"])
def test_a_topic_made_anew_is_read_anew_whatever_its_length(kafka: str, tmp_path: Path, number: int) -> None:
    async def go(made: Deployment) -> None:
        await publish(made.settings, [entry(value=f"old-{n}") for n in range(20)])
        async with following(made) as lists:
            assert sum(lists.held.lists.counts.values()) == 20
            lists._consumer.pause(lists._parts[0].tp)  # so that it does not look while there is less
            await recreate(made, Name.LISTS)
            await publish(made.settings, [entry(value=f"new-{n}") for n in range(number)])
            assert sum(lists.held.lists.counts.values()) == 20
            lists._consumer.resume(lists._parts[0].tp)

            await until(lambda: set(lists.held.lists.card) == {f"new-{n}" for n in range(number)}, 25)
            assert lists.held.lists.version == str(number)

    with Deployment(kafka, tmp_path, f"anew-lists-{number}") as made:
        asyncio.run(go(made))


def test_a_topic_that_must_have_one_partition_and_has_more_is_found(kafka: str, tmp_path: Path) -> None:
    async def go(made: Deployment) -> list[str]:
        client = AIOKafkaAdminClient(**made.settings.connection())
        await client.start()
        await client.create_topics([NewTopic(made.topic(Name.LISTS), 3, 1)])
        await client.close()
        await admin.create(made.settings)
        return await admin.check(made.settings)

    made = Deployment(kafka, tmp_path, "three-parts")

    assert "three-parts-lists has 3 partitions, it must have 1" in asyncio.run(go(made))


def test_while_kafka_is_away_the_age_grows_and_what_is_held_stays(tmp_path: Path) -> None:
    with Kafka(tmp_path / "kafka", jars(settings.read({}))) as broker, Deployment(broker.address, tmp_path, "away") as made:
        asyncio.run(publish(made.settings, [entry()]))
        worker = made.worker().wait_until_ready()
        wait_until(lambda: oldest(worker.get("/rules")[1]) < 1.0, 5, made)

        going = time.monotonic()
        broker.stop()
        # Each topic is read by itself, so one may be behind a moment before another.
        wait_until(lambda: any(each.startswith("lists are those of 1") for each in worker.get("/ready")[1].get("behind", ())), 20, made)
        status, ready = worker.get("/ready")
        held = worker.get("/rules")[1]

        assert oldest(held) > 9.0
        assert oldest(held) < time.monotonic() - going + 1.5
        assert (status, ready["ready"]) == (200, True)
        assert held["lists"]["entries"]["deny"] == {"card": 1}
        assert held["source"] == {"from": "the package"}

        broker.start()
        asyncio.run(publish(made.settings, [entry(value="tok_2")]))
        wait_until(lambda: worker.get("/rules")[1]["lists"]["entries"]["deny"] == {"card": 2}, 20, made)
        wait_until(lambda: oldest(worker.get("/rules")[1]) < 1.0, 20, made)
        wait_until(lambda: "behind" not in worker.get("/ready")[1], 20, made)


def oldest(answer: dict[str, Any]) -> float:
    ages: dict[str, float] = answer["age_seconds"]
    return max(ages.values())
