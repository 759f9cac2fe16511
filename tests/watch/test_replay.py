"""Studies come at the rate that was chosen, in order, and are released one by one."""

from __future__ import annotations

import threading
import time

import pytest

from fedimg.errors import ConfigError, DataError
from sites.watch.replay import Rate, RealClock, ReplaySource, VirtualClock
from sites.watch.spool import SpoolLimits
from tests.watch.arriving import Told, instance, spooled


def fill(folder, studies=3, instances=4):
    folder.mkdir()
    for study in range(studies):
        for number in range(instances):
            data = instance(
                100 * study + number,
                StudyInstanceUID=f"1.2.3.{study}",
                SeriesInstanceUID=f"1.2.3.{study}.1",
                InstanceNumber=str(instances - number),  # against the order of the names
            )
            (folder / f"{study}-{number}.dcm").write_bytes(data)
    (folder / "letter.txt").write_text("Dear colleague")


def test_studies_come_in_order_at_the_chosen_rate(tmp_path):
    fill(tmp_path / "in")
    told, clock, times = Told(), VirtualClock(50.0), []

    def received(one):
        told.received.append(one)
        times.append(clock.now() - 50.0)

    with spooled(tmp_path) as spool:
        source = ReplaySource(tmp_path / "in", spool, received, told.released.append, Rate(360, 2), clock)
        assert source.studies == 3
        assert source.run() == 12
        # a study every 10 s, an instance every half
        assert times == pytest.approx([10.0 * study + 0.5 * k for study in range(3) for k in range(4)])
        assert [one.arrival.number for one in told.received] == [1, 2, 3, 4] * 3
        assert told.released == [frozenset({f"1.2.3.{study}"}) for study in range(3)]
        assert spool.counts.read() == {"received": 12, "refused.not_an_image": 1}
        assert {one.source for one in told.received} == {"replay"}


def test_a_study_longer_than_its_time_holds_up_the_next_one(tmp_path):
    fill(tmp_path / "in", studies=2)
    clock, times = VirtualClock(), []
    with spooled(tmp_path) as spool:
        source = ReplaySource(
            tmp_path / "in", spool, lambda _: times.append(clock.now()), lambda _: None, Rate(3600, 2), clock
        )
        source.run()
    assert times == pytest.approx([0, 0.5, 1.0, 1.5, 1.5, 2.0, 2.5, 3.0])


def test_a_full_disk_is_waited_for_and_nothing_is_left_out(tmp_path):
    fill(tmp_path / "in", studies=1)
    told, clock = Told(), VirtualClock()
    with spooled(tmp_path) as spool:
        limits = spool.limits

        def received(one):
            told.received.append(one)
            if len(told.received) == 2:
                spool.limits = SpoolLimits(keep_free_bytes=1 << 60)

        wait = clock.wait

        def freed(seconds):
            if spool.counts.read().get("full", 0) == 3:
                spool.limits = limits
            return wait(seconds)

        clock.wait = freed
        ReplaySource(tmp_path / "in", spool, received, told.released.append, clock=clock).run()
        assert len(told.received) == 4 and spool.counts.read()["full"] == 3


def test_a_real_clock_is_as_many_times_faster_and_can_be_called_off(tmp_path):
    fill(tmp_path / "in", studies=2)
    told, clock = Told(), RealClock(speed=1000.0)
    with spooled(tmp_path) as spool:
        begun = time.monotonic()
        source = ReplaySource(
            tmp_path / "in", spool, told.received.append, told.released.append, Rate(60, 30), clock
        )
        assert source.run() == 8  # a minute of virtual time
        assert 0.05 < time.monotonic() - begun < 20
        slow = RealClock()
        source = ReplaySource(
            tmp_path / "in", spool, told.received.append, told.released.append, Rate(1, 30), slow
        )
        thread = threading.Thread(target=source.run)
        thread.start()
        slow.call_off()
        thread.join(20)
        assert not thread.is_alive()


def test_what_cannot_be_replayed_is_told(tmp_path):
    (tmp_path / "in").mkdir()
    with spooled(tmp_path) as spool, pytest.raises(DataError, match="DICOM instances in the folder"):
        ReplaySource(tmp_path / "in", spool, print, print)
    for rate in ((0, 1), (1, 0), (-1, 1), (float("nan"), 1)):
        with pytest.raises(ConfigError, match="rates above zero"):
            Rate(*rate)
