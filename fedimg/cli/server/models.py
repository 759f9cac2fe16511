"""`fedimg server models`: which models of a federation were released, and what became of them."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedimg.cli.console import add_action, print_json, print_table, say

if TYPE_CHECKING:
    from server.model_registry import RegisteredModel

_ABOUT = "register a federation's released models: take a bundle in, release it, withdraw it, tell the sites"


def add_to(actions: Any) -> None:
    """The arguments of each of its verbs."""
    models = add_action(actions, "models", _ABOUT)
    verbs = models.add_subparsers(dest="verb", required=True, metavar="add|list|release|withdraw|export")
    add = add_action(
        verbs, "add", "verify a bundle of one of this federation's runs, and make it a candidate"
    )
    listed = add_action(verbs, "list", "every model that was registered, and where it stands")
    release = add_action(verbs, "release", "make it the released version of its name")
    withdraw = add_action(verbs, "withdraw", "nobody is to use it any more, for good")
    export = add_action(verbs, "export", "write the signed list of released and withdrawn models, for sites")
    for verb in (add, listed, release, withdraw, export):
        verb.add_argument("folder", type=Path, help="a federation's folder, of `fedimg provision init`")
        verb.add_argument("--json", action="store_true", help="JSON on stdout")
    add.add_argument("bundle", type=Path, help="a folder of `fedimg bundle make`")
    add.add_argument(
        "--key",
        action="append",
        required=True,
        help="that it is signed with: ed25519:HEX, or the file it is in",
    )
    for verb in (release, withdraw):
        verb.add_argument("name")
        verb.add_argument("version")
    release.add_argument("--why", default="", help="in a sentence, for its history")
    withdraw.add_argument("--why", required=True, help="in a sentence, for its history and for the sites")
    for verb in (add, release, withdraw):
        verb.add_argument("--who", help="who does this; the name of this machine's user where it is left out")
    export.add_argument("file", type=Path, help="to write; one that is there is replaced")


def run(arguments: Any) -> int:
    verbs = {"add": _add, "list": _list, "release": _change, "withdraw": _change, "export": _export}
    return verbs[arguments.verb](arguments)


def _add(arguments: Any) -> int:
    from fedimg.crypto.public_key import public_key
    from server.federation_folder import FederationFolder
    from server.model_admission import admitted
    from server.model_registry import ModelRegistry

    folder = FederationFolder(arguments.folder)
    facts = admitted(folder, arguments.bundle, [public_key(text) for text in arguments.key])
    with ModelRegistry(folder.root) as registry:
        found = registry.add(facts, _who(arguments))
    for remark in facts.remarks:
        say(f"note: {remark}")
    return _say(arguments, found)


def _list(arguments: Any) -> int:
    from server.federation_folder import FederationFolder
    from server.model_registry import ModelRegistry

    with ModelRegistry(FederationFolder(arguments.folder).root) as registry:
        rows = [_row(one) for one in registry.all()]
    if arguments.json:
        print_json(rows)
    else:
        shown = [row | {"digest": row["digest"][:16]} for row in rows]
        print_table(shown, ("name", "version", "state", "since", "epsilon", "run", "digest", "why"))
    return 0


def _change(arguments: Any) -> int:
    from server.federation_folder import FederationFolder
    from server.model_registry import ModelRegistry

    with ModelRegistry(FederationFolder(arguments.folder).root) as registry:
        change = registry.release if arguments.verb == "release" else registry.withdraw
        digest = registry.named(arguments.name, arguments.version).facts.digest
        found = change(digest, _who(arguments), arguments.why)
    return _say(arguments, found)


def _export(arguments: Any) -> int:
    from fedimg.durable import write_durably
    from server.federation_folder import FederationFolder
    from server.model_admission import coordinator_key
    from server.model_list import signed_list
    from server.model_registry import ModelRegistry

    folder = FederationFolder(arguments.folder)
    with ModelRegistry(folder.root) as registry:
        data = signed_list(folder, registry)
    write_durably(arguments.file, data, mode=0o644)
    key = f"ed25519:{coordinator_key(folder.root).public_bytes.hex()}"
    if arguments.json:
        print_json({"list": str(arguments.file), "signer": key})
    else:
        sys.stdout.write(f"{arguments.file}\n{key}\n")
        say("sites that are to believe this list need the key above, by a way that cannot be forged")
    return 0


def _say(arguments: Any, found: RegisteredModel) -> int:
    if arguments.json:
        print_json(_row(found))
    else:
        sys.stdout.write(f"{found.title}: {found.state}\nsha256 {found.facts.digest}\n")
    return 0


def _row(one: RegisteredModel) -> dict[str, Any]:
    facts, last = one.facts, one.history[-1]
    return {
        "name": facts.name,
        "version": facts.version,
        "state": last.state.value,
        "since": last.at,
        "why": last.why,
        "epsilon": facts.guarantee.epsilon,
        "delta": facts.guarantee.delta,
        "run": facts.run,
        "task": facts.task,
        "digest": facts.digest,
        "signer": facts.signer,
        "remarks": list(facts.remarks),
        "history": [
            {"state": change.state.value, "who": change.who, "why": change.why, "at": change.at}
            for change in one.history
        ],
    }


def _who(arguments: Any) -> str:
    """Who does this: as said, or as this machine's user is called."""
    if arguments.who is not None:
        return str(arguments.who)
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return "the command line"
