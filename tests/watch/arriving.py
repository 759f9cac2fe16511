"""Instances to send, DCMTK's senders, and a spool that remembers what its sources told."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from dataclasses import dataclass, field

import numpy as np

from fedimg.dicom import authoring
from fedimg.dicom.arrival import ArrivalLimits
from sites.watch.spool import Spool, SpoolLimits
from tests.system import program

NAME, NUMBER, ACCESSION = "Featherstonehaugh^Ottilie", "MRN88213947", "ACC7736"
PLANTED = ("Featherstonehaugh", "featherstone", "Ottilie", "88213947", "7736")
STUDY, SERIES = "1.2.826.0.1.999.1", "1.2.826.0.1.999.1.1"
PIXELS = np.arange(64, dtype=np.uint16).reshape(8, 8)
DEADLINE_S = 20.0


def uid_of(number):
    return f"{SERIES}.{number}"


def instance(number=1, pixels=PIXELS, **attributes):
    """The bytes of a CT instance; `attributes` override, one of None is left out."""
    whole = {
        "PatientName": NAME,
        "PatientID": NUMBER,
        "AccessionNumber": ACCESSION,
        "StudyDate": "20260102",
        "StudyInstanceUID": STUDY,
        "SeriesInstanceUID": SERIES,
        "SOPInstanceUID": uid_of(number),
        "InstanceNumber": str(number),
        **attributes,
    }
    syntax = whole.pop("syntax", "explicit_le")
    return authoring.encode_image(modality="CT", pixels=pixels, attributes=whole, transfer_syntax=syntax)


def without(data, keyword):
    """The bytes of an instance, less one element."""
    from io import BytesIO

    from pydicom import dcmread

    dataset = dcmread(BytesIO(data))
    del dataset[keyword]
    out = BytesIO()
    dataset.save_as(out, enforce_file_format=False)
    return out.getvalue()


def wait_for(condition, what="it"):
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen in time"
        time.sleep(0.01)


@dataclass
class Told:
    """What a source told."""

    received: list = field(default_factory=list)
    released: list = field(default_factory=list)


@contextlib.contextmanager
def spooled(folder, **limits):
    """A spool below a folder; `limits` are those of an instance, and `keep_free_bytes`."""
    keep = limits.pop("keep_free_bytes", 0)
    with Spool(folder / "spool", SpoolLimits(ArrivalLimits(**limits), keep)) as spool:
        yield spool


def files_of(spool):
    return sorted(path for path in spool.root.rglob("*") if path.is_file())


def dcmtk(name):
    """A program of DCMTK; Python packages install others of the same names."""
    return program(name)


def storescu(port, files, *options, caller="PACS", called="FEDIMG"):
    """DCMTK's sender: what it said and how it ended."""
    command = [dcmtk("storescu"), "-v", "-aet", caller, "-aec", called, *options, "127.0.0.1", str(port)]
    return _run([*command, *map(str, files)])


def echoscu(port, *options, caller="PACS", called="FEDIMG"):
    command = [dcmtk("echoscu"), "-v", "-aet", caller, "-aec", called, *options, "127.0.0.1", str(port)]
    return _run(command)


def _run(command):
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
