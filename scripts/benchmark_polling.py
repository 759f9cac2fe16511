"""How many images a second come out of an archive by polling: Orthanc on this machine, CT images of 512 × 512.

scripts/benchmark_polling.py --count 400
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

from known_studies import write_study
from loopback_orthanc import Orthanc

from sites.watch.dicomweb_poll import DicomWebPoll, DicomWebPollSettings
from sites.watch.dicomweb_poll_http import AskLimits
from sites.watch.posting import Endpoint
from sites.watch.spool import Received, Spool, SpoolLimits

_PER_STUDY = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=400, help="images, in studies of 100")
    parser.add_argument("--at-once", type=int, default=AskLimits().at_once, help="images under way")
    parser.add_argument("--orthanc", default="/usr/sbin/Orthanc")
    said = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Orthanc(said.orthanc, Path(folder) / "orthanc") as pacs,
        Spool(Path(folder) / "spool", SpoolLimits(keep_free_bytes=0)) as spool,
    ):
        _fill(pacs, Path(folder) / "in", said.count)
        got: list[Received] = []
        endpoint = Endpoint(pacs.studies.removesuffix("/studies"))
        settings = DicomWebPollSettings(endpoint, limits=AskLimits(at_once=said.at_once))
        source = DicomWebPoll(settings, spool, got.append, lambda _: None)
        seconds = [_round(source) for _ in range(2)]
        figures = {
            "images": len(got),
            "lost": said.count - len(got),
            "bytes": sum(one.arrival.size for one in got),
            "images_per_s": round(len(got) / seconds[0], 1),
            "round_without_news_s": round(seconds[1], 3),
        }
        print(json.dumps(figures, indent=2))


def _round(source: DicomWebPoll) -> float:
    begun = time.perf_counter()
    trouble, _ = asyncio.run(source.round())
    if trouble:
        raise RuntimeError(trouble)
    return time.perf_counter() - begun


def _fill(pacs: Orthanc, folder: Path, count: int) -> None:
    today = datetime.now(UTC).astimezone().strftime("%Y%m%d")
    for number in range(-(-count // _PER_STUDY)):
        slices = min(_PER_STUDY, count - number * _PER_STUDY)
        for path in write_study(folder, f"s{number}", ball=False, slices=slices, side=512, StudyDate=today):
            url = f"http://127.0.0.1:{pacs.http}/instances"
            with urllib.request.urlopen(urllib.request.Request(url, path.read_bytes(), method="POST")):
                path.unlink()


if __name__ == "__main__":
    main()
