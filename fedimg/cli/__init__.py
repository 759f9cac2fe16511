"""The command line: one module a verb, each imported only when it is called.

Data goes to stdout, progress and errors to stderr, and the exit code says what kind of end it was.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from fedimg import __version__
from fedimg.errors import FedimgError

VERBS = {
    "demo": "all of it once, generated: a federation, its released model, studies that arrive, the page",
    "simulate": "run a whole federation in this process, or several (-m)",
    "train": "ask a federation's server for a run",
    "compare": "run several learners on one federation, or take past runs: one table, one figure",
    "runs": "list, show and export runs, stop and resume those of a server",
    "verify": "check a model's release record offline: signatures, ε, ledgers, weights",
    "privacy-card": "write what a model promises its patients, for people to read",
    "pretrain": "make weights to begin with, of generated images or of images that are declared public",
    "bundle": "release a run's model as a signed MONAI bundle with calibration and threshold, or check one",
    "predict": "look at a folder of studies with a bundle's model: scores, places, reports, outlines",
    "watch": "let released models look at the studies that arrive, and warn",
    "cohort": "write a generated hospital's image files into a folder",
    "sort": "sort mixed files by modality, body part and view: headers, words, then a look at the image",
    "quality": "say what is wrong with data: duplicates, leaks between splits, blank images, outliers, labels",
    "measure": "measure lesions, tissue, acquisition and radiomics of images, for the site alone",
    "deidentify": "make keys, de-identify a folder, verify the receipts",
    "provision": "make a federation, or join one: keys, certificates, members",
    "server": "serve a federation: sites dial in, and the runs that were asked for are done",
    "share": "give released studies to one recipient, sealed for their key",
    "site": "make a site's home, fill it, take part in a federation, back it up",
    "doctor": "look at a site or a federation's server from end to end, and say what to mend",
    "ledger": "show, verify and recover a site's privacy ledger, enter withdrawals",
    "audit": "check that the mechanism keeps its promise, and what an attacker can learn",
    "config": "show the configuration that overrides compose to",
    "version": "show the versions of this program and what it stands on",
}

EXIT_CODES = {
    0: "done",
    1: "failed",
    2: "usage or configuration",
    3: "refused by policy, budget or ledger",
    4: "data",
    5: "federation or message",
    130: "interrupted",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code."""
    # Before anything imports flwr or ray: this software calls home nowhere.
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())  # noqa: T201 - the data asked for
        return 0 if arguments else 2
    verb, rest = arguments[0], arguments[1:]
    if verb == "--version":
        verb = "version"
    if verb not in VERBS:
        return _unknown(verb)
    from fedimg.cli import console

    console.keep_patient_data_out_of_logs()
    try:
        return int(import_module(f"fedimg.cli.{verb.replace('-', '_')}").run(rest))
    except FedimgError as error:
        console.print_error(error)
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        console.print_interrupt(interrupt)
        return 130
    except BrokenPipeError:
        # The reader of stdout went away (`fedimg … | head`); nothing is left to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        console.print_system_error(error)
        return 1
    except Exception as error:  # noqa: BLE001 - the last resort of a program: report and fail
        console.print_unexpected(error)
        return 1


def usage() -> str:
    """What `fedimg --help` prints."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {text}" for name, text in VERBS.items())
    codes = "\n".join(f"  {code:>3}  {text}" for code, text in EXIT_CODES.items())
    return (
        f"fedimg {__version__}: federated learning on medical images with patient-level privacy\n\n"
        "usage: fedimg VERB [key=value …] [options]\n\n"
        f"verbs\n{verbs}\n\n"
        "`fedimg VERB --help` explains one. Every verb that reads takes --json.\n\n"
        f"exit codes\n{codes}\n\n"
        "FEDIMG_DEBUG=1 shows the traceback of an unexpected fault; it may quote patient data."
    )


def _unknown(verb: str) -> int:
    from difflib import get_close_matches

    near = get_close_matches(verb, VERBS, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "`fedimg --help` lists the verbs"
    sys.stderr.write(f"error: expected a verb\n       found {verb}\n       {hint}\n")
    return 2
