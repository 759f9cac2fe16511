"""The sources of the settings, each with the same two ears: an image is on the disk, a study's sender has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from fedimg.federation.manifest import split_address
from sites.watch import dicomweb_poll, folder, scp, stow
from sites.watch.dicomweb_poll_settings import PollSettings
from sites.watch.posting import Endpoint
from sites.watch.settings import WatchSettings
from sites.watch.spool import Received, Spool

_SILENT_S = 30.0  # an archive may fetch from a slower store before its first byte
OnReceived = Callable[[Received], None]
OnReleased = Callable[[frozenset[str]], None]
Source = scp.DicomScp | folder.FolderSource | stow.StowServer | dicomweb_poll.DicomWebPoll


def sources(
    settings: WatchSettings, spool: Spool, received: OnReceived, released: OnReleased
) -> Iterator[tuple[str, AbstractContextManager[Source]]]:
    """Each with its name, to be entered. Raises ConfigError for titles, addresses and files that cannot be."""
    if (one := settings.scp) is not None:
        host, port = split_address(one.address)
        tls = None
        if one.tls is not None:
            tls = scp.TlsFiles(
                *(Path(file) for file in (one.tls.certificate, one.tls.key, one.tls.authority))
            )
        own = scp.ScpSettings(host, port, one.ae_title, one.allowed, tls)
        yield "scp", scp.DicomScp(own, spool, received, released)
    if (watched := settings.folder) is not None:
        chosen = folder.FolderSettings(
            Path(watched.path),
            watched.quiet_s,
            move_to=None if watched.move_to is None else Path(watched.move_to),
        )
        yield "folder", folder.FolderSource(chosen, spool, received, released)
    if (web := settings.stow) is not None:
        host, port = split_address(web.address)
        pair = None if web.certificate is None or web.key is None else (Path(web.key), Path(web.certificate))
        place = stow.StowSettings(host, port, Path(web.token), pair)
        yield "stow", stow.StowServer(place, spool, received, released)
    if (asked := settings.poll) is not None:
        yield "poll", dicomweb_poll.DicomWebPoll(_polled(asked), spool, received, released)


def _polled(asked: PollSettings) -> dicomweb_poll.DicomWebPollSettings:
    authority, certificate, key, token, login = (
        None if file is None else Path(file)
        for file in (asked.authority, asked.certificate, asked.key, asked.token, asked.login)
    )
    endpoint = Endpoint(asked.url, authority, certificate, key, timeout_s=_SILENT_S)
    return dicomweb_poll.DicomWebPollSettings(
        endpoint,
        token,
        login,
        asked.modalities,
        every_s=asked.every_s,
        overlap_days=asked.overlap_days,
        first_days=asked.first_days,
    )
