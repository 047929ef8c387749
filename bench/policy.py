"""What the packaged policy is worth: on simulated seeds that it was not tuned on, and on Sparkov's last two months.

python -m bench.policy --help
"""

import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import msgspec

from aegis_app.backtest.labels import Truth
from aegis_app.backtest.report import Judgement, Report, report
from aegis_app.backtest.run import Job, backtest, cores_for
from aegis_app.core.label import Label
from aegis_app.core.payment import encode_transaction
from aegis_app.core.policy import parse_policy
from aegis_app.core.rates import Rates, parse_rates
from aegis_app.core.terms import Terms
from aegis_app.policies import local_policy
from aegis_app.settings import Settings
from aegis_app.simulate import RATES_FILE, simulate
from aegis_app.simulate.labels import Desk

START = datetime(2026, 1, 1, tzinfo=UTC)
WARM = timedelta(days=30)
"""Learnt from before anything is counted: a card without a past says little."""
SPARKOV_SINCE = datetime(2020, 1, 1, tzinfo=UTC)


def simulated(seed: int, cards: int, policy: str) -> Report:
    """The policy on 60 simulated days after 30 that are only learnt from. 0.2 % of payments are fraud; memory hears of them as in life."""
    with TemporaryDirectory(prefix="aegis-policy-") as name:
        file, truths, desk = Path(name) / "payments.jsonl", {}, Desk(seed)
        with file.open("wb") as lines:
            for each in simulate(cards, 90, seed, START, fraud_rate=0.002):
                lines.write(encode_transaction(each.transaction) + b"\n")
                truths[each.transaction.transaction_id] = Truth(each.fraud is not None, each.fraud)
                desk.see(each)
        return judged(file, policy, parse_rates(RATES_FILE, "rates", "EUR"), truths, START + WARM, tuple(desk.rest()))


def judged(file: Path, policy: str, rates: Rates, truths: dict[str, Truth], since: datetime, heard: tuple[Label, ...] = ()) -> Report:
    terms = Terms(parse_policy(policy), rates=rates)
    tally = backtest(Job(file, (terms,), truths, None, False, since, heard), cores_for(file), lambda number: None)
    return report(file.name, tally, len(truths), [("packaged", terms.policy)])


def table(results: Sequence[tuple[str, Report]]) -> Iterator[str]:
    """In Markdown: a row for what all rules do together, for each rule, and for each kind of fraud."""
    judgements = [found.policies[0] for _, found in results]
    yield "| | " + " | ".join(name for name, _ in results) + " |"
    yield "|---|" + "---|" * len(results)
    yield "| payments, frauds | " + " | ".join(f"{r.payments.payments:,}, {r.payments.frauds:,}" for _, r in results) + " |"
    for place, what in enumerate(("review", "block", "both")):
        flagged = [each.flagged[place] for each in judgements]
        yield f"| {what}: a day | " + " | ".join(f"{each.a_day:.1f}" for each in flagged) + " |"
        yield f"| {what}: of genuine payments | " + " | ".join(percent(each.false_positive_rate, 3) for each in flagged) + " |"
        yield f"| {what}: precision | " + " | ".join(percent(each.precision) for each in flagged) + " |"
        yield f"| {what}: recall | " + " | ".join(percent(each.recall) for each in flagged) + " |"
    for place, rule in enumerate(judgements[0].rules):
        if any(each.rules[place].hits.payments for each in judgements):
            yield (
                f"| `{rule.rule}` ({rule.asks if rule.state == 'on' else rule.state}): precision of hits | "
                + " | ".join(hits(each, place) for each in judgements)
                + " |"
            )
    kinds = sorted({fraud.fraud_type for each in judgements for fraud in each.frauds if fraud.fraud_type is not None})
    for kind in kinds:
        yield f"| recall of {kind} | " + " | ".join(recall(each, kind) for each in judgements) + " |"


def percent(share: float | None, places: int = 1) -> str:
    return "" if share is None else f"{share:.{places}%}"


def hits(judgement: Judgement, place: int) -> str:
    rule = judgement.rules[place]
    return f"{percent(rule.precision, 0)} of {rule.hits.payments:,}" if rule.hits.payments else "no hit"


def recall(judgement: Judgement, kind: str) -> str:
    return next((f"{fraud.recall:.0%} of {fraud.frauds}" for fraud in judgement.frauds if fraud.fraud_type == kind), "")


@click.command()
@click.option("--seeds", default="31,32,33", show_default=True, help="of simulated payments; 101 and 102 were for tuning")
@click.option("--cards", default=4000, show_default=True)
@click.option("--sparkov", type=click.Path(exists=True, path_type=Path), help="Sparkov's payments, in parquet")
@click.option("--json", "as_json", is_flag=True, help="every figure, a report a line")
def main(seeds: str, cards: int, sparkov: Path | None, as_json: bool) -> None:
    """Example: python -m bench.policy --sparkov sparkov.parquet"""
    policy = local_policy(Settings()).text
    results = [(f"seed {seed}", simulated(int(seed), cards, policy)) for seed in seeds.split(",")]
    if sparkov is not None:
        results.append(("Sparkov, January and February 2020", judged(sparkov, policy, Rates("USD"), {}, SPARKOV_SINCE)))
    if as_json:
        sys.stdout.writelines(msgspec.json.encode(found).decode() + "\n" for _, found in results)
    else:
        sys.stdout.writelines(line + "\n" for line in table(results))


if __name__ == "__main__":
    main()
