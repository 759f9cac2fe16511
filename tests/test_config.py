"""Configuration: composed by Hydra, judged by the strict builder."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.config import Config, EvaluationConfig, compose, composition, dump, keys, load, strict, sweep
from fedimg.coordination.terms import terms_of
from fedimg.errors import ConfigError, DataError
from fedimg.models.classical_config import CLASSICAL
from fedimg.subgroups import Grouping


@dataclass(frozen=True)
class Inner:
    epsilon: float = 8.0
    clip: float | None = None


@dataclass(frozen=True)
class Csv:
    source: Literal["csv"] = "csv"
    path: str | None = None


@dataclass(frozen=True)
class Npz:
    source: Literal["npz"] = "npz"
    md5: str = ""


@dataclass(frozen=True)
class Outer:
    rounds: int = 10
    name: Literal["a", "b"] = "a"
    on: bool = False
    text: str = "x"
    size: tuple[int, ...] = (64, 64)
    pair: tuple[float, float] = (0.0, 1.0)
    weights: Mapping[str, float] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)
    data: Csv | Npz = field(default_factory=Csv)


def refusal(mapping, cls=Outer):
    with pytest.raises(ConfigError) as caught:
        strict.build(cls, mapping)
    return str(caught.value)


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    rounds=st.integers(),
    on=st.booleans(),
    name=st.sampled_from("ab"),
    text=st.text(),
    size=st.lists(st.integers(), max_size=4),
    pair=st.tuples(finite, finite),
    weights=st.dictionaries(st.text(alphabet="abcdef", min_size=1), finite),
    clip=st.none() | finite,
    npz=st.booleans(),
)
def test_what_a_tree_flattens_to_builds_the_same_tree(rounds, on, name, text, size, pair, weights, clip, npz):
    tree = Outer(
        rounds, name, on, text, tuple(size), pair, weights, Inner(1.5, clip), Npz(md5="0") if npz else Csv()
    )
    assert strict.build(Outer, json.loads(json.dumps(dataclasses.asdict(tree)))) == tree


@pytest.mark.parametrize(
    ("mapping", "text"),
    [
        (
            {"inner": {"epsilom": 1}},
            "expected a key of the configuration; found inner.epsilom, which is none; did you mean inner.epsilon?",
        ),
        (
            {"epsilon": 3},
            "expected a key of the configuration; found epsilon, which is none; did you mean inner.epsilon?",
        ),
        (
            {"zzzzzz": 3},
            "expected a key of the configuration; found zzzzzz, which is none; `fedimg config` shows every key",
        ),
        (
            {"inner": {"epsilon": True}},
            "expected inner.epsilon to be a number; found true; set inner.epsilon=… accordingly",
        ),
        (
            {"inner": {"epsilon": float("nan")}},
            "expected inner.epsilon to be a number; found nan (float); set inner.epsilon=… accordingly",
        ),
        (
            {"rounds": 1.0},
            "expected rounds to be a whole number; found 1.0 (float); set rounds=… accordingly",
        ),
        (
            {"rounds": True},
            "expected rounds to be a whole number; found true; set rounds=… accordingly",
        ),
        ({"text": 7}, "expected text to be text; found 7 (int); set text=… accordingly"),
        ({"on": 1}, "expected on to be true or false; found 1 (int); set on=… accordingly"),
        ({"name": "c"}, "expected name to be one of a, b; found 'c' (str); set name=… accordingly"),
        (
            {"pair": [1.0]},
            "expected pair to be a list of 2, each a number; found [1.0] (list); set pair=… accordingly",
        ),
        (
            {"size": [64, "x"]},
            "expected size[1] to be a whole number; found 'x' (str); set size[1]=… accordingly",
        ),
        ({"inner": 3}, "expected inner to be a section; found 3 (int); set inner=… accordingly"),
        (
            {"data": {"source": "zip"}},
            "expected data.source to be one of csv, npz; found 'zip' (str); set data.source=… accordingly",
        ),
        (
            {"data": {"source": "npz", "path": "x"}},
            "expected a key of the section that was chosen; found data.path; "
            "it belongs to another choice; leave it out",
        ),
        (
            {"inner": {"_target_": "os.system"}},
            "expected a configuration that is plain data; found the key inner._target_, which would name code; "
            "remove it; code is added by an entry point and named as data",
        ),
        (
            {"weights": {"_partial_": 1.0}},
            "expected a configuration that is plain data; found the key weights._partial_, which would name code; "
            "remove it; code is added by an entry point and named as data",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_its_key_path(mapping, text):
    assert refusal(mapping) == text


def test_a_key_without_default_must_be_given():
    @dataclass(frozen=True)
    class Needs:
        path: str

    assert refusal({}, Needs) == "expected a value for path; found none; set path=…"


def test_a_section_that_refuses_its_own_values_is_named():
    @dataclass(frozen=True)
    class Picky:
        low: int = 0

        def __post_init__(self):
            if self.low < 0:
                raise ValueError("low below zero")

    assert "found low below zero" in refusal({"low": -1}, Picky)


@given(st.sampled_from(sorted(strict.key_paths(Config))), st.data())
def test_one_missing_letter_is_answered_with_a_key_of_the_configuration(path, data):
    position = data.draw(st.integers(0, len(path) - 1))
    mistyped = path[:position] + path[position + 1 :]
    known = tuple(strict.key_paths(Config))
    if mistyped and not strict.is_key(Config, mistyped) and len(path.rpartition(".")[2]) > 4:
        assert strict.nearest(mistyped, known) in known


# ------------------------------------------------------------------------- the shipped configuration


def test_the_default_configuration_composes():
    config = compose()
    assert (config.sites, config.experiment, config.privacy.mode) == (4, None, "per_site")
    assert config.privacy.rounds == config.rounds


def test_every_option_of_every_group_composes():
    refused = {}
    for group, options in composition.groups().items():
        for option in options:
            overrides = [f"{group}={option}"]
            if group == "model" and option in CLASSICAL:
                overrides.append(f"experiment={option}")  # which sets the rounds that it takes
            try:
                assert isinstance(compose(overrides), Config)
            except ConfigError as error:  # an option may ask for a path that only the caller knows
                refused[overrides[0]] = str(error)
    assert all("expected a value for data." in text for text in refused.values()), refused


def test_overrides_set_values_of_any_section():
    config = compose(["privacy.epsilon=3", "sites=8", "evaluation.bins=16", "seed=7"])
    assert (config.privacy.epsilon, config.sites, config.evaluation.bins, config.seed) == (3.0, 8, 16, 7)


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("privacy.epsilom=3", "found privacy.epsilom, which is none; did you mean privacy.epsilon?"),
        ("epsilon=3", "found epsilon, which is none; did you mean privacy.epsilon?"),
        ("+privacy.typo=1", "found privacy.typo, which is none"),
        ("+privacy.foo=1", "found privacy.foo, which is none; `fedimg config` shows every key"),
        ("patients=4", "found patients, which is none; did you mean data.cohort.patients_per_hospital?"),
        ("aggregation=fedprox", "did you mean training=fedprox?"),
        ("rounds=0", "expected rounds to be at least 1; found 0"),
        ("evaluation.site_evaluations=-1", "expected evaluation.site_evaluations to be at least 0"),
        ("++sitse=1", "found sitse, which is none; did you mean sites?"),
        ("hydra.run.dir=x", "found hydra.run.dir, which is none"),
        ("data._target_=os.system", "found data._target_, which is none"),
        ("data=cohrot", "did you mean data=cohort?"),
        ("privacy=[none]", "expected privacy to be one of "),
        ("~privacy.epsilon", "expected overrides of the form key=value; found '~privacy.epsilon'"),
        ("privacy@x=none", "expected overrides of the form key=value"),
        ("sites", "expected overrides of the form key=value; found 'sites'"),
        (
            "privacy.epsilon=1,3",
            "expected one value for privacy.epsilon; found several, which is a sweep; add -m",
        ),
        ("state=${oc.env:HOME}", "expected a configuration that is plain data; found a ${resolver:…}"),
        ("privacy.rounds=3", "expected privacy.rounds to equal rounds = 20; found 3; set rounds alone"),
        ("sites=0", "expected sites to be at least 1; found 0"),
        ("sites=many", "expected sites to be a whole number; found 'many' (str)"),
        ("evaluation.validation_fraction=1", "expected evaluation.validation_fraction in [0, 1)"),
        ("state=???", "expected a value for state; found none; set state=…"),
    ],
)
def test_an_override_that_cannot_be_used_says_what_was_meant(override, found):
    with pytest.raises(ConfigError) as caught:
        compose([override])
    assert found in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("override", ["privacy.epsilom=3", "data=cohrot", "+privacy.foo=1"])
def test_a_typo_is_answered_before_the_stations_are_imported(override):
    """The same words as the full check's, in a process that has loaded neither torch nor Hydra."""
    code = (
        "import sys\nfrom fedimg.cli import main\n"
        f"code = main(['simulate', {override!r}])\n"
        "assert not {'torch', 'monai', 'hydra'} & set(sys.modules), 'something heavy was loaded'\n"
        "sys.exit(code)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    with pytest.raises(ConfigError) as caught:
        compose([override])
    assert ended.stderr == (
        f"error: expected {caught.value.expected}\n       found {caught.value.found}\n       {caught.value.remedy}\n"
    )


def test_the_copy_of_the_keys_is_that_of_the_tree():
    """After a change of a section: python -m fedimg.config.keys"""
    assert keys.COPY.read_text("utf-8").split() == list(keys.lines(Config))


def test_every_shipped_key_and_option_passes_the_first_check():
    named = {"experiment=quick", "+data.options.anything=1", "privacy.epsilon=1,3", "state=null", "sites"}
    keys.check([*named, *(f"{group}={option}" for group, of in keys.groups().items() for option in of)])


def test_a_run_that_is_not_there_cannot_be_resumed(tmp_path: Path):
    with pytest.raises(DataError, match="found no such run"):
        compose([f"resume={tmp_path / 'nope'}"])


def test_what_dump_writes_load_reads_back(tmp_path: Path):
    config = compose(["privacy.epsilon=3", "privacy.delta=1e-5", "imaging.image_size=[28,28]"])
    (tmp_path / "config.yaml").write_text(dump(config), "utf-8")
    assert load(tmp_path / "config.yaml") == config


@pytest.mark.parametrize("text", ["sites: [", "- 1", "_target_: x", "sites: 1\nname: y"])
def test_a_damaged_configuration_file_is_refused(tmp_path: Path, text):
    (tmp_path / "config.yaml").write_text(text, "utf-8")
    with pytest.raises(ConfigError):
        load(tmp_path / "config.yaml")


def test_resume_takes_the_runs_own_configuration(tmp_path: Path):
    stored = compose(["privacy.epsilon=3", "rounds=7"])
    (tmp_path / "config.yaml").write_text(dump(stored), "utf-8")
    resumed = compose([f"resume={tmp_path}", "device=cpu"])
    assert resumed == dataclasses.replace(stored, resume=str(tmp_path), device="cpu")
    with pytest.raises(ConfigError, match=r"found an override of privacy\.epsilon; leave it out"):
        compose([f"resume={tmp_path}", "privacy.epsilon=8"])


def test_an_experiment_sets_what_its_file_says_and_is_recorded():
    config = compose(["experiment=quick"])
    assert (config.experiment, config.sites, config.rounds, config.compare) == ("quick", 2, 3, False)
    assert config.privacy.rounds == 3
    assert config.data.cohort.patients_per_hospital == 40
    assert compose(["experiment=quick", "rounds=4"]).rounds == 4


def test_a_data_set_may_choose_its_image_size_and_the_command_line_has_the_last_word():
    assert compose(["data=medmnist"]).model.image_size == (28, 28)
    assert compose(["data=medmnist", "imaging=default"]).imaging.image_size == (64, 64)
    assert compose(["data=medmnist", "imaging.image_size=[32,32]"]).model.image_size == (32, 32)


# --------------------------------------------------------------------------------------------- sweeps


def test_a_sweep_is_the_product_of_its_choices_and_ranges():
    assert sweep(["privacy.epsilon=1,3,8", "sites=4"]) == [
        ["privacy.epsilon=1", "sites=4"],
        ["privacy.epsilon=3", "sites=4"],
        ["privacy.epsilon=8", "sites=4"],
    ]
    assert [point[1] for point in sweep(["seed=0,1", "sites=range(2,5)"])] == [
        "sites=2",
        "sites=3",
        "sites=4",
    ] * 2


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=4, unique=True), st.integers(1, 5))
def test_every_point_of_a_sweep_is_reached_once(seeds, sites):
    points = sweep([f"seed={','.join(map(str, seeds))}", f"sites={sites}"])
    assert points == [[f"seed={seed}", f"sites={sites}"] for seed in seeds]


@pytest.mark.parametrize("override", ["sites=interval(1,4)", "data=glob(*)"])
def test_a_sweep_without_points_is_refused(override):
    with pytest.raises(ConfigError, match=r"found an interval or pattern; write a,b,c$"):
        sweep([override])


@pytest.mark.parametrize(
    "changes",
    [
        {"every": 0},
        {"bins": 1},
        {"validation_fraction": 1.0},
        {"bootstrap": -1},
        {"subgroups": ("race",)},
        {"age_edges": (0, 37)},
        {"scanners": ("acme",)},
    ],
)
def test_evaluation_refuses_what_measures_nothing(changes):
    with pytest.raises(ConfigError):
        EvaluationConfig(**changes)


def test_groups_are_part_of_the_terms_and_without_any_nothing_of_them_is():
    told = compose(["secagg=none", "evaluation.subgroups=[sex,scanner]", "evaluation.age_edges=[0,65]"])
    assert terms_of(told, "r").subgroups == Grouping(("sex", "scanner"), (0, 65), told.evaluation.scanners)
    assert "aurelia" in told.evaluation.scanners  # of generated hospitals, whose scanners nobody else has
    assert compose(["data=images", "data.path=x"]).evaluation.scanners == Grouping.scanners
    plain, edges = compose(["secagg=none"]), compose(["secagg=none", "evaluation.age_edges=[0,65]"])
    assert terms_of(plain, "r").digest == terms_of(edges, "r").digest != terms_of(told, "r").digest


def test_groups_are_not_asked_of_data_that_know_no_patient():
    with pytest.raises(ConfigError, match=r"evaluation\.subgroups; found data=medmnist"):
        compose(["data=medmnist", "evaluation.subgroups=[sex]"])


@pytest.mark.parametrize(
    "overrides",
    [
        ["rounds=5"],
        ["training.local_steps=2"],
        ["engine.fused=true", "privacy=none"],
        ["privacy=client_level"],
    ],
    ids=lambda given: given[0],
)
def test_centring_rounds_are_refused_where_they_could_not_be_kept(overrides: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"model\.centring_rounds=5"):
        compose(["model.centring_rounds=5", *overrides])
    compose(overrides)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=segresnet", "model.task=segmentation"], "data.voxels=masks with model.task=segmentation"),
        (["model=unet", "data.voxels=boxes"], "data.voxels=masks with model.task=segmentation"),
        (
            ["model=unet", "model.task=detection", "training.loss=centre_heat_map", "data.voxels=none"],
            "data.voxels=",
        ),
        (["model=cnn", "model.task=multilabel", "training.loss=binary_cross_entropy"], "data.several=true"),
        (["model=cnn", "model.task=regression", "training.loss=huber"], "data.value=COLUMN"),
        (["model=cnn", "data.several=true"], "one class an image"),
        (["data.value=Patient Name"], "the name of a column"),
        (["model=unet", "training.loss=huber"], "losses: cross_entropy, dice_cross_entropy, focal"),
        (["experiment=regression", "training.class_weights=[1.0, 2.0]"], "no classes to weigh"),
        (["experiment=detection", "training.class_weights=[1.0, 2.0]"], "no classes to weigh"),
        (
            ["model=unet", "training.loss=my_loss", "training.class_weights=[1.0, 2.0]"],
            "inside the loss of an extension",
        ),
    ],
)
def test_a_task_without_its_labels_or_with_another_s_loss_is_refused(overrides, words):
    with pytest.raises(ConfigError) as refusal:
        compose(overrides)
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=unet", "imaging=augmented", "training.class_weights=[1.0, 2.0]"],
        ["experiment=detection", "imaging.augmentation.rotation_degrees=10"],
        ["experiment=multilabel", "training.class_weights=[3.0, 9.0]", "imaging.augmentation.flip=true"],
    ],
)
def test_tasks_of_voxels_and_of_several_findings_take_augmentation_and_weights(overrides):
    config = compose(overrides)
    assert config.imaging.augmentation.active
