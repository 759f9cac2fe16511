"""`fedimg privacy-card`: what a model promises its patients, for people to read, from its release record alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from fedimg.cli.console import verb_parser
from fedimg.errors import ConfigError, DataError


def run(argv: Sequence[str]) -> int:
    parser = verb_parser("privacy-card", "Write a model's privacy card from its release record.")
    parser.add_argument("source", type=Path, help="a run's folder, or a record.json")
    parser.add_argument(
        "--out", type=Path, help="CARD.html or CARD.md; Markdown on stdout where none is named"
    )
    arguments = parser.parse_args(argv)
    if arguments.out is not None and arguments.out.suffix not in (".html", ".md"):
        raise ConfigError("--out CARD.html or CARD.md", "another ending", "name the file .html or .md")
    from fedimg import record
    from fedimg.cli.verify import evidence_of, read_bytes, record_file
    from fedimg.durable import write_durably
    from fedimg.record.card import card_of
    from fedimg.report import render_card, render_card_markdown

    file, folder = record_file(arguments.source)
    data = read_bytes(file)
    found = record.verify(data, evidence_of(folder))
    if not found.passed:
        raise DataError(
            "a release record that holds together",
            f"one that fails {', '.join(check.name for check in found.failures)}",
            "see `fedimg verify`: no card is made of it",
        )
    card = card_of(record.read(data))
    if arguments.out is None:
        sys.stdout.write(render_card_markdown(card))
        return 0
    page = render_card(card) if arguments.out.suffix == ".html" else render_card_markdown(card)
    write_durably(arguments.out, page, mode=0o644)
    sys.stdout.write(f"{arguments.out}\n")
    return 0
