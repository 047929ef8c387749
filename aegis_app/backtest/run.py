"""Payments of a file judged under one policy or two, by as many processes as there are cores: each has its part of the cards."""

import os
import signal
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import tee
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from aegis_app.backtest.errors import BacktestError
from aegis_app.backtest.labels import Truth
from aegis_app.backtest.tally import Tally
from aegis_app.core.intake import Refused
from aegis_app.core.label import Label
from aegis_app.core.replay import read_lines, replay
from aegis_app.core.terms import Terms
from aegis_app.progress import counted
from models.datasets import WHOLE, DatasetError, Example, Part, holds_lines, read_payments

WORTH_A_PROCESS: Final = 4 << 20
"""Bytes of a file for which one more process pays: it takes half a second to start."""

_BARE: Final = {is_fraud: Truth(is_fraud) for is_fraud in (None, False, True)}


class Job(Struct, frozen=True):
    """What is judged, under which terms (one policy or two), and what is true."""

    source: Path
    terms: tuple[Terms, ...]
    truths: dict[str, Truth]
    """By transaction_id; where they are silent, the file may say itself what is fraud."""
    unlabelled: bool | None
    """Whether a payment of which nothing is known counts as fraud."""
    token: bool
    """card_ids may look like card numbers, because they are none."""
    since: datetime | None = None
    """Payments before it are learnt from, and not counted."""
    heard: tuple[Label, ...] = ()
    """What memory hears, each from its labelled_at on; `truths` judge the result alone."""
    format: str | None = None
    """What the columns of the source are, as `read_payments` takes it."""

    def truth(self, example: Example) -> Truth:
        known = self.truths.get(example.transaction.transaction_id)
        if known is not None:
            return known
        return _BARE[self.unlabelled if example.is_fraud is None else example.is_fraud]


def cores_for(source: Path) -> int:
    """How many processes to use: all cores, unless the file is small."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 1 + source.stat().st_size // WORTH_A_PROCESS)


def backtest(job: Job, processes: int, count: Callable[[int], object]) -> Tally:
    """Judge every payment, a card's in their order; the result does not depend on `processes`. `count` hears of each further number.

    Where a rule or a bundle asks of other cards' payments, one process judges all.

    Raises `DatasetError` where a parquet file is wrong, `OSError` where a file cannot be read.
    """
    if processes == 1 or any(terms.asks_of_others for terms in job.terms):
        return judge(job, WHOLE, count)
    # Not fork: a progress bar and pyarrow have threads, which a forked child would miss.
    context = get_context("spawn")
    total = Tally.of(len(job.terms))
    children = {}
    try:
        for number in range(processes):
            receiver, sender = context.Pipe(duplex=False)
            child = context.Process(target=_child, args=(job, Part(number, processes), sender), daemon=True)
            child.start()
            sender.close()
            children[receiver] = child
        waiting = set(children)
        while waiting:
            for receiver in waiting.intersection(wait(list(waiting))):
                match _received(receiver):
                    case int(judged):
                        count(judged)
                    case Tally() as tally:
                        total.merge(tally)
                        waiting.discard(receiver)
                    case error:
                        raise error
    finally:
        for child in children.values():
            child.terminate()
            child.join()
    return total


def judge(job: Job, part: Part, count: Callable[[int], object]) -> Tally:
    """Judge the payments of `part`, in their order."""
    tally, rates = Tally.of(len(job.terms)), job.terms[0].rates
    examples, *copies = tee(counted(_examples(job, part, tally), count), 1 + len(job.terms))
    heard = [label for label in job.heard if part.is_whole or part.holds(label.card_id)]
    courses = [
        replay((example.transaction for example in copy), terms, heard, elsewhere=terms.asks_of_others)
        for copy, terms in zip(copies, job.terms, strict=True)
    ]
    for example, *judged in zip(examples, *courses, strict=True):
        if example.transaction.transaction_id in job.truths:
            tally.labelled.add(example.transaction.transaction_id)
        if job.since is not None and example.transaction.timestamp < job.since:
            continue
        tally.count(example.transaction, job.truth(example), [screened.ruling for _, screened in judged], rates)
    return tally


def _examples(job: Job, part: Part, tally: Tally) -> Iterator[Example]:
    if not holds_lines(job.source, job.format):
        yield from read_payments(job.source, format=job.format, currency=job.terms[0].rates.base, part=part, survey=tally.survey)
        return

    def refuse(number: int, refused: Refused) -> None:
        tally.refused.append((number, str(refused)))

    with job.source.open("rb") as lines:
        for txn in read_lines(tally.survey.of_lines(part.of_lines(lines)), refuse, token=job.token):
            yield Example(txn)


def _child(job: Job, part: Part, sender: "Connection[Any, Any]") -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends its children
    try:
        sender.send(judge(job, part, sender.send))
    except (DatasetError, OSError) as error:
        sender.send(error)


def _received(receiver: "Connection[Any, Any]") -> int | Tally | Exception:
    try:
        message: int | Tally | Exception = receiver.recv()
        return message
    except EOFError:
        return BacktestError("a process of the back-test ended early; is there memory for all of them? --processes 1 needs the least")
