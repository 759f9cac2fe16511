"""`fedimg demo`: all of it once, with generated hospitals: a federation, its released model, studies that arrive, the page."""

from __future__ import annotations

import sys
import threading
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fedimg.cli.console import progress, say, verb_parser
from fedimg.errors import ConfigError, DataError

if TYPE_CHECKING:
    from sites.watch.service import Watcher

_EPILOG = """nothing in it is of a patient: hospitals, people, images and findings are generated. Ctrl-C ends it; the folder stays,
and `fedimg watch start FOLDER/watch.yaml` goes on with it."""
_NEW_PATIENTS = 7919  # added to the seed: people whom nobody has trained on


def run(argv: Sequence[str]) -> int:
    parser = verb_parser(
        "demo",
        "Train a model over generated hospitals, release it, let new studies arrive and watch them on a page.",
    )
    parser.epilog = _EPILOG
    parser.add_argument("folder", type=Path, help="a new folder, for all of it")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="of the federation: rounds=4 sites=3 …"
    )
    parser.add_argument(
        "--finding", default="infarct", help="of conf/findings and conf/experiment; default infarct"
    )
    parser.add_argument("--studies", type=int, default=16, help="that arrive; default 16")
    parser.add_argument("--every", type=float, default=4.0, metavar="SECONDS", help="between two; default 4")
    parser.add_argument(
        "--page", default="127.0.0.1:8460", metavar="HOST:PORT", help="default 127.0.0.1:8460"
    )
    parser.add_argument("--leave", action="store_true", help="end when every study was looked at")
    arguments = parser.parse_intermixed_args(argv)
    if arguments.folder.exists():
        raise DataError("a new folder for the demo", "one that exists", "name another")
    if arguments.studies < 1 or not arguments.every > 0:
        raise ConfigError("one study or more, and seconds above 0", "others", "change --studies or --every")
    from fedimg.config import keys

    keys.check(arguments.overrides)
    bundle = _released(arguments)
    studies = _new_studies(arguments)
    return _watched(arguments, bundle, studies)


def _released(arguments: Namespace) -> Path:
    """Train, and release: the folder of the bundle, whose key lies beside it."""
    import fedimg
    from fedimg.cli import bundle as verb

    folder: Path = arguments.folder
    folder.mkdir(mode=0o700, parents=True)
    say(f"1 of 4: hospitals train a model together ({arguments.finding})")
    with progress() as report:
        done = fedimg.simulate(
            [
                f"experiment={arguments.finding}",
                f"runs={folder / 'runs'}",
                "compare=false",
                *arguments.overrides,
            ],
            report,
        )
    auroc = (done.summary.get("test") or {}).get("auroc")
    say(
        f"2 of 4: the coordinator releases it{'' if auroc is None else f' (AUROC {auroc:.3f} on its public set)'}"
    )
    key, out = folder / "release.key", folder / "model"
    verb.run(["keygen", str(key)])
    verb.run(["make", str(done.path), str(out), "--key", str(key), "--finding", arguments.finding])
    return out


def _new_studies(arguments: Namespace) -> Path:
    """Of a hospital and people that the model has never seen."""
    from fedimg.cohort import generate_hospital
    from fedimg.config import compose

    say("3 of 4: another hospital's patients come in")
    folder: Path = arguments.folder / "arriving"
    config = compose([f"experiment={arguments.finding}", *arguments.overrides])
    cohort = replace(
        config.data.cohort,
        hospitals=1,
        patients_per_hospital=arguments.studies,
        max_studies=1,
        broken_files=0,
    )
    generate_hospital(folder, cohort, 0, config.seed + _NEW_PATIENTS, "train")
    return folder


def _watched(arguments: Namespace, bundle: Path, studies: Path) -> int:
    from fedimg.process_log import logger
    from fedimg.process_signals import ending_on_signals
    from fedimg.web.access import AccessToken
    from sites.watch.console.serving import TOKEN_FILE
    from sites.watch.service import watching
    from sites.watch.settings import WatchSettings

    file: Path = arguments.folder / "watch.yaml"
    file.write_text(
        "# of `fedimg demo`; goes on with `fedimg watch start`\n"
        f"home: home\nbundles: [{bundle.name}]\ntrusted_keys: [release.key.pub]\n"
        f'console: {{address: "{arguments.page}"}}\nprevalence: {{}}\n',
        "utf-8",
    )
    settings = WatchSettings.load(file)
    log = logger("watch")
    with ending_on_signals() as ending, watching(settings, log) as watcher:
        token = AccessToken(Path(settings.home) / TOKEN_FILE).read()
        say(f"4 of 4: open http://{arguments.page}/ and log in with this token")
        sys.stdout.write(token + "\n")
        sys.stdout.flush()
        _replayed(arguments, studies, watcher, ending)
        if not arguments.leave:
            say("every study is there; Ctrl-C ends the demo")
            ending.wait()
        alerts = watcher.store.database.row("SELECT COUNT(*) AS n FROM alert")
        looked = watcher.store.database.row("SELECT COUNT(*) AS n FROM study WHERE state = 'analysed'")
    if alerts is not None and looked is not None:
        say(f"{looked['n']} studies were looked at, {alerts['n']} alerts")
    return 0


def _replayed(arguments: Namespace, studies: Path, watcher: Watcher, ending: threading.Event) -> None:
    """Send them one after the other, and wait until each was looked at."""
    from sites.watch.replay import Rate, RealClock, ReplaySource

    clock = RealClock()
    rate = Rate(studies_per_hour=3600.0 / arguments.every, instances_per_s=30.0)
    source = ReplaySource(
        studies, watcher.spool, watcher.centre.received, watcher.centre.released, rate, clock
    )

    def until() -> None:
        ending.wait()
        clock.call_off()

    threading.Thread(target=until, daemon=True).start()
    for _ in source:
        if ending.is_set():
            return
    waiting = "SELECT COUNT(*) AS n FROM study WHERE state IN ('arriving', 'queued', 'running')"
    while not ending.wait(0.2):
        row = watcher.store.database.row(waiting)
        if row is not None and row["n"] == 0 and not watcher.centre.waiting:
            return
