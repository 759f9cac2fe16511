"""`fedimg deidentify`: keys, a folder's way across the identity boundary, and proof of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedimg.cli.console import print_json, progress, say, verb_parser
from fedimg.crypto.keys import SiteKey, write_secret
from fedimg.errors import ConfigError, DataError
from fedimg.home import SiteHome

if TYPE_CHECKING:
    from fedimg.values import SourceItem

SUFFIXES = {".nii": "nifti", ".gz": "nifti", ".png": "image", ".jpg": "image", ".jpeg": "image"}
KEY = "deid.key="


class UnlabelledHome(SiteHome):
    """A home whose labels go to a scratch file: what was only de-identified is not trained on."""

    @property
    def labels(self) -> Path:
        return self.quarantine / "unlabelled.part"


def run(argv: Sequence[str]) -> int:
    parser = verb_parser("deidentify", "Make keys, de-identify a folder, verify the receipts.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="keygen|run|verify")
    about = "make a site key: 32 random bytes in a new file of mode 0600"
    actions.add_parser("keygen", help=about, description=about).add_argument("file", type=Path)
    about = "de-identify every file of a folder into a site's home; labels are not given here"
    take = actions.add_parser("run", help=about, description=about)
    take.add_argument("source", type=Path, help="folder of DICOM, NIfTI, PNG and JPEG files")
    take.add_argument("home", type=Path, help="a site's home folder; made if it is new or empty")
    take.add_argument(
        "overrides", nargs="*", metavar="deid.…=value", help="deid.key=FILE for a new home, deid.project=…"
    )
    about = "check receipts, signature and every released byte; exit code 4 if one does not hold"
    check = actions.add_parser("verify", help=about, description=about)
    check.add_argument("home", type=Path, help="a site's home folder")
    for action in (take, check):
        action.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments, rest = parser.parse_known_args(argv)
    if rest and (arguments.action != "run" or any(o.startswith("-") for o in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:  # an override after an option
        arguments.overrides += rest
    return {"keygen": _keygen, "run": _run, "verify": _verify}[arguments.action](arguments)


def _keygen(arguments: Any) -> int:
    SiteKey.create(arguments.file)
    say(
        "keep this file: without it the same patient gets another pseudonym; with it pseudonyms can be recomputed"
    )
    return 0


def _run(arguments: Any) -> int:
    from fedimg.config import compose
    from fedimg.intake import run_intake

    foreign = [o for o in arguments.overrides if not o.lstrip("+").startswith("deid.")]
    if foreign:
        raise ConfigError("overrides of deid", foreign[0], "see `fedimg deidentify run --help`")
    keys = [o.removeprefix(KEY) for o in arguments.overrides if o.startswith(KEY)]
    config = compose([o for o in arguments.overrides if not o.startswith(KEY)]).deid
    items = _items(arguments.source)
    home = _home(arguments.home, Path(keys[-1]) if keys else None)
    with progress() as report:
        result = run_intake(items, home, config, lambda done, total: report("de-identifying", done, total))
    home.labels.unlink(missing_ok=True)  # the intake clears its scratch files itself
    if arguments.json:
        quarantined = {reason.value: count for reason, count in result.quarantined.items()}
        print_json(
            {
                "released": len(items) - sum(quarantined.values()),
                "quarantined": quarantined,
                "positions": {reason.value: list(found) for reason, found in result.positions.items()},
                "bytes_in": result.bytes_in,
                "bytes_released": result.bytes_released,
            }
        )
    else:
        sys.stdout.write(result.report() + "\n")
    return 0


def _verify(arguments: Any) -> int:
    from fedimg.dicom import receipts

    home = SiteHome.open(arguments.home)
    count = receipts.verify(home.receipts, home.signing_key.public_bytes, home.released)
    if arguments.json:
        print_json({"verified": True, "receipts": count, "key": home.signing_key.public_bytes.hex()})
    else:
        sys.stdout.write(
            f"{count} receipts in an unbroken, signed chain; every released file is as its receipt says\n"
        )
    return 0


def _items(folder: Path) -> list[SourceItem]:
    """Every file of the folder, in a stable order. Positions in reports count along it, from 0."""
    from fedimg.values import SourceItem

    if not folder.is_dir():
        raise DataError("a folder of image files", "none there", "name the folder to de-identify")
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    # The class index is needed to pass the intake and goes to a scratch file, see `UnlabelledHome`.
    return [SourceItem(path, _kind(path), label=0) for path in paths]


def _kind(path: Path) -> Any:
    return SUFFIXES.get(path.suffix.lower(), "dicom")


def _home(root: Path, key_file: Path | None) -> SiteHome:
    """Open the home, or make it with the given key, which an existing home must have already."""
    key = SiteKey.load(key_file) if key_file is not None else None
    if not root.exists() or not any(root.iterdir()):
        UnlabelledHome.create(root, simulated=False)
        if key is not None:
            (root / "site.key").unlink()
            write_secret(root / "site.key", key.to_bytes())
    home = UnlabelledHome.open(root)
    if key is not None and home.site_key.to_bytes() != key.to_bytes():
        raise ConfigError("the key of this home", "another one", "leave deid.key out, or name a new home")
    return home
