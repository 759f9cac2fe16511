"""`fedimg pretrain`: weights to begin with, made of generated images or of images that are declared public."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from fedimg.cli.console import print_json, progress, verb_parser

_ABOUT = (
    "Make a file of weights for model.weights: `generated` trains the network's own task on generated hospitals, "
    "`self_supervised` a task that needs no labels on a folder or npz file of images. Images have to be generated, or "
    "declared public by you (data.declared_public=true). FOLDER/weights.safetensors says how it was made, and so do the "
    "records of runs that begin with it."
)


def run(argv: Sequence[str]) -> int:
    parser = verb_parser("pretrain", _ABOUT)
    parser.add_argument("folder", type=Path, help="a new folder for weights.safetensors and weights.json")
    about = "model=…, imaging=…, seed=…, and data=… of the images; as in the runs that are to use it"
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=about)
    about = "generated (default), or self_supervised"
    parser.add_argument("--method", choices=("generated", "self_supervised"), default="generated", help=about)
    parser.add_argument("--source", default="", metavar="NAME", help="of public data, for the records")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_intermixed_args(argv)
    from fedimg.config import keys

    keys.check(arguments.overrides)  # before anything heavy is imported
    import torch

    from fedimg.config import compose
    from fedimg.pretraining import Fitting, Plan, make

    config = compose(arguments.overrides)
    torch.set_num_threads(config.engine.threads)
    fitting = Fitting(arguments.epochs, arguments.batch_size, arguments.learning_rate)
    with progress() as report:
        made = make(Plan(config, arguments.method, fitting, arguments.source), arguments.folder, report)
    if arguments.json:
        print_json(made.about)
        return 0
    loss = made.about["held_out_loss"]
    sys.stdout.write(
        f"{arguments.folder}/weights.safetensors, of {made.about['images']} images\n"
        f"{made.origin.sentence()}\n"
        f"loss of images that were held out: {loss['before']:.4g} before, {loss['after']:.4g} after\n"
        f"to begin with it: model.weights={arguments.folder}/weights.safetensors\n"
    )
    return 0
