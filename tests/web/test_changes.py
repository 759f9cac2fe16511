"""Whoever waits for a change is told of it, of each and soon; nobody looks while nobody waits."""

import asyncio
import threading
import time
from contextlib import contextmanager

import pytest

from fedimg.web.changes import Changes


class Thing:
    """Something that changes; it counts how often it was looked at, and in which threads."""

    def __init__(self):
        self.value, self.looks, self.threads = 0, 0, set()

    @contextmanager
    def opened(self):
        def mark():
            self.looks += 1
            self.threads.add(threading.get_ident())
            return self.value

        yield mark


@contextmanager
def watched(look_s):
    thing = Thing()
    changes = Changes(thing.opened, look_s)
    try:
        yield thing, changes
    finally:
        changes.end()


async def seconds_until_told(thing, changes, act):
    number = changes.number
    waiting = asyncio.ensure_future(changes.after(number, 20))
    await asyncio.sleep(0.05)
    begun = time.monotonic()
    act()
    await waiting
    assert changes.number > number
    return time.monotonic() - begun


def test_a_change_is_told_within_a_look():
    async def story():
        with watched(0.01) as (thing, changes):

            def change():
                thing.value += 1

            assert await seconds_until_told(thing, changes, change) < 1
            assert len(thing.threads) == 1

    asyncio.run(story())


def test_who_wakes_it_need_not_wait_for_a_look():
    async def story():
        with watched(3600) as (thing, changes):

            def change():
                thing.value += 1
                changes.wake()

            assert await seconds_until_told(thing, changes, change) < 1

    asyncio.run(story())


def test_waking_without_a_change_tells_nothing():
    async def story():
        with watched(3600) as (_, changes):
            changes.wake()
            await changes.after(changes.number, 0.1)
            assert changes.number == 0

    asyncio.run(story())


def test_a_change_between_two_waits_is_not_missed():
    async def story():
        with watched(0.005) as (thing, changes):
            for _ in range(50):
                number = changes.number
                thing.value += 1  # before anybody waits
                begun = time.monotonic()
                await changes.after(number, 20)
                assert time.monotonic() - begun < 2

    asyncio.run(story())


def test_nobody_looks_while_nobody_waits():
    async def story():
        with watched(0.002) as (thing, changes):
            await changes.after(0, 0.05)
            end = time.monotonic() + 10
            while changes._asked.is_set():
                assert time.monotonic() < end
                await asyncio.sleep(0.005)
            before = thing.looks
            await asyncio.sleep(0.1)
            assert thing.looks <= before + 1  # one may have been under way
            await changes.after(changes.number, 0.1)
            assert thing.looks > before + 5

    asyncio.run(story())


def test_of_many_who_wait_each_is_told():
    async def story():
        with watched(0.01) as (thing, changes):
            waiting = [asyncio.ensure_future(changes.after(0, 20)) for _ in range(30)]
            await asyncio.sleep(0.02)
            thing.value += 1
            async with asyncio.timeout(5):
                await asyncio.gather(*waiting)

    asyncio.run(story())


def test_the_end_lets_everybody_go_on():
    async def story():
        with watched(3600) as (_, changes):
            waiting = asyncio.ensure_future(changes.after(0, 3600))
            await asyncio.sleep(0.02)
            await asyncio.to_thread(changes.end)
            async with asyncio.timeout(5):
                await waiting
                await changes.after(changes.number, 3600)

    asyncio.run(story())


def test_a_thing_that_cannot_be_opened_is_no_reason_to_wait_for_ever():
    @contextmanager
    def broken():
        yield object  # always another mark: whoever reads finds out why

    async def story():
        changes = Changes(broken, 0.01)
        begun = time.monotonic()
        await changes.after(changes.number, 20)
        assert time.monotonic() - begun < 5
        changes.end()

    asyncio.run(story())


def test_a_loop_that_has_ended_harms_nobody():
    with watched(0.01) as (thing, changes):
        loop = asyncio.new_event_loop()
        task = loop.create_task(changes.after(0, 3600))
        loop.run_until_complete(asyncio.sleep(0.02))
        loop.stop()
        thing.value += 1
        time.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()
        thing.value += 1

        async def another():
            await changes.after(changes.number, 0.05)

        asyncio.run(another())
