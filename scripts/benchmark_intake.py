"""How many CT instances a second one association brings into the watcher's spool, plain and over mutual TLS.

    python scripts/benchmark_intake.py [--count 2000] [--runs 3] [--only plain|tls] [--profile] [--json FILE]

DCMTK's `storescu` (the Debian package `dcmtk`) sends generated 512 × 512 instances over one association on the
loopback; the listener examines each, has it on the disk with its name and only then acknowledges it. Seconds are
from the start of `storescu` to its end. Lost is what was sent and is not in the spool afterwards, by SOP instance
UID, read again as after a restart. CPU is the listener's own processor time for an instance, which other programs of
the machine change little. Medians over the runs. Exit code 1 where a figure that is asked for is missed.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from dicom_tls import make_papers

from fedimg.dicom.authoring import derived_uid, write_image
from sites.watch.scp import DicomScp, ScpSettings, TlsFiles
from sites.watch.spool import Received, Spool

STORESCU = Path("/usr/bin/storescu")  # a package of Python's has a program of that name, too
ASKED = {"plain": 100.0, "tls": 60.0}  # instances a second
_SIDE, _PER_STUDY, _PICTURES = 512, 200, 20


def generate(folder: Path, count: int) -> set[str]:
    """`count` CT instances of 512 × 512 pixels, in studies of 200; their SOP instance UIDs."""
    rng, uids = np.random.default_rng(0), set()
    pictures = rng.integers(0, 4096, (_PICTURES, _SIDE, _SIDE), np.uint16)
    for n in range(count):
        study, uid = str(n // _PER_STUDY), derived_uid("benchmark", str(n))
        attributes = {
            "PatientName": f"Benchmark^{study}",
            "PatientID": study,
            "StudyInstanceUID": derived_uid("study", study),
            "SeriesInstanceUID": derived_uid("series", study),
            "SOPInstanceUID": uid,
            "InstanceNumber": str(n % _PER_STUDY + 1),
            "ImagePositionPatient": ["0", "0", str(n % _PER_STUDY * 2.5)],
            "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
            "PixelSpacing": ["0.7", "0.7"],
            "SliceThickness": "2.5",
        }
        path = folder / f"{n:06}.dcm"
        write_image(path, modality="CT", pixels=pictures[n % _PICTURES], attributes=attributes)
        uids.add(uid)
    return uids


def send(sent: Path, papers: Path, port: int, *, tls: bool) -> float:
    """Seconds that `storescu` takes. Raises CalledProcessError where it fails."""
    command = [str(STORESCU), "-aet", "BENCH", "-aec", "FEDIMG", "--max-send-pdu", "131072", "-R"]
    if tls:
        command += ["+tls", str(papers / "client.key"), str(papers / "client.pem")]
        command += ["+cf", str(papers / "authority.pem")]
    begun = time.perf_counter()
    subprocess.run([*command, "+sd", "127.0.0.1", str(port), str(sent)], check=True)
    return time.perf_counter() - begun


def run(sent: Path, papers: Path, uids: set[str], *, tls: bool) -> tuple[float, float, int]:
    """(instances a second, CPU ms an instance, lost) of one association into an empty spool, which is removed again."""
    files = TlsFiles(papers / "server.pem", papers / "server.key", papers / "authority.pem")
    settings = ScpSettings("127.0.0.1", 0, "FEDIMG", ("BENCH",), files if tls else None)
    folder = sent.parent / "spool"
    released = threading.Event()
    try:
        with Spool(folder) as spool, DicomScp(settings, spool, _nothing, lambda _: released.set()) as scp:
            begun = time.process_time()
            seconds = send(sent, papers, scp.port, tls=tls)
            released.wait(10)
            busy = time.process_time() - begun
        with Spool(folder) as spool:
            kept = {received.arrival.sop_uid for received in spool.waiting()}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return len(uids) / seconds, 1e3 * busy / len(uids), len(uids - kept)


def _nothing(_: Received) -> None:
    pass


def profiled(sent: Path, papers: Path, uids: set[str]) -> None:
    """Where the listener's threads spend their time: own time by function."""
    profiles: list[cProfile.Profile] = []
    run_of_thread = threading.Thread.run

    def run_profiled(thread: threading.Thread) -> None:
        profile = cProfile.Profile()
        profiles.append(profile)
        profile.runcall(run_of_thread, thread)

    threading.Thread.run = run_profiled  # type: ignore[method-assign,assignment]
    try:
        rate, _, _ = run(sent, papers, uids, tls=False)
    finally:
        threading.Thread.run = run_of_thread  # type: ignore[method-assign]
    print(f"{rate:.0f} instances/s under the profiler")
    stats = pstats.Stats(profiles[0])
    for profile in profiles[1:]:
        stats.add(profile)
    stats.sort_stats("tottime").print_stats(25)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=tuple(ASKED))
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--folder", type=Path, help="where the instances are written and removed again")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not STORESCU.exists():
        print(f"needs {STORESCU}: the Debian package `dcmtk` is not installed", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        sent = Path(name) / "sent"
        sent.mkdir()
        make_papers(Path(name))
        uids = generate(sent, arguments.count)
        if arguments.profile:
            profiled(sent, Path(name), uids)
            return 0
        links = [arguments.only] if arguments.only else list(ASKED)
        found = {
            link: [run(sent, Path(name), uids, tls=link == "tls") for _ in range(arguments.runs)]
            for link in links
        }
    missed = False
    print(f"{'link':<8}{'instances':>10}{'median/s':>10}{'least/s':>9}{'asked':>7}{'CPU ms':>8}{'lost':>6}")
    for link, runs in found.items():
        rates, busy, lost = [one[0] for one in runs], [one[1] for one in runs], sum(one[2] for one in runs)
        median = statistics.median(rates)
        missed |= median < ASKED[link] or bool(lost)
        print(f"{link:<8}{len(uids):>10}{median:>10.0f}{min(rates):>9.0f}{ASKED[link]:>7.0f}", end="")
        print(f"{statistics.median(busy):>8.1f}{lost:>6}")
    if arguments.json is not None:
        result = {"instances": len(uids), "load": os.getloadavg(), "runs": found}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
