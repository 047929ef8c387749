"""Work that nobody waits for leaves the loop to others, one task at a time."""

import asyncio
from time import perf_counter

from aegis_app.stream.background import Background


def compute(seconds: float) -> None:
    until = perf_counter() + seconds
    while perf_counter() < until:
        pass


async def learn(background: Background, steps: int, log: list[str], name: str) -> None:
    async with background:
        for _ in range(steps):
            await background.rest()
            compute(0.001)
            log.append(name)


def test_others_go_on_while_much_is_computed() -> None:
    async def turns_of_others() -> int:
        learning = asyncio.create_task(learn(Background(), 50, [], "merchants"))
        turns = 0
        while not learning.done():
            await asyncio.sleep(0)
            turns += 1
        return turns

    assert asyncio.run(turns_of_others()) > 50


def test_one_task_at_a_time_goes_on() -> None:
    async def learnt() -> list[str]:
        background, log = Background(), list[str]()
        await asyncio.gather(*(learn(background, 20, log, name) for name in ("merchants", "devices")))
        return log

    assert asyncio.run(learnt()) == ["merchants"] * 20 + ["devices"] * 20


def test_a_stretch_that_fails_leaves_its_turn_to_the_next() -> None:
    async def learnt() -> list[str]:
        background, log = Background(), list[str]()
        try:
            async with background:
                raise ValueError
        except ValueError:
            await learn(background, 1, log, "devices")
        return log

    assert asyncio.run(learnt()) == ["devices"]
