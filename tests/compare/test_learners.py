"""From names and numbers to overrides: every row is its learner's own experiment, at its ε."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.compare.learners import (
    BASELINES,
    DEFAULT_LEARNERS,
    Question,
    ask,
    epsilon_text,
    epsilons_of,
    own_settings,
    recipe,
)
from fedimg.compare.words import WORDS, words_of
from fedimg.config import compose, keys
from fedimg.errors import ConfigError

OPTIONS = keys.groups()
SMALL = ("sites=3",)


def test_a_row_for_each_learner_at_each_epsilon_in_the_order_given():
    rows = ask(Question(("svm", "ridge"), (math.inf, 3.0)), OPTIONS)
    assert [one.name for one in rows] == ["svm-inf", "svm-3", "ridge-inf", "ridge-3"]
    assert rows[0].recipe == ("experiment=svm", "privacy=none")
    assert rows[3].overrides == ("experiment=ridge", "privacy=distributed", "privacy.epsilon=3")


@pytest.mark.parametrize("learner", DEFAULT_LEARNERS)
@pytest.mark.parametrize("epsilon", [math.inf, 8.0, 1.0, 0.5])
@pytest.mark.parametrize("mode", ["distributed", "per_site"])
def test_every_default_row_composes_with_its_own_rounds(learner, epsilon, mode):
    (one,) = ask(Question((learner,), (epsilon,), mode, SMALL), OPTIONS)
    config = compose([*one.overrides])
    assert config.privacy.mode == ("none" if math.isinf(epsilon) else mode)
    assert math.isinf(epsilon) or config.privacy.epsilon == epsilon
    assert config.model.name == learner
    if learner in OPTIONS["experiment"]:
        assert config.rounds == compose([f"experiment={learner}", *SMALL]).rounds


@pytest.mark.parametrize(
    ("epsilon", "mode", "sites", "name"),
    [
        (3.0, "distributed", 8, "scattering_private"),
        (2.0, "distributed", 8, "scattering_private"),
        (1.0, "distributed", 8, "scattering_private_low"),
        (0.5, "distributed", 8, "scattering_private_least"),
        # docs/private-recipes.md: "With eight sites ε = 8 takes the first recipe, ε = 3 the second, ε = 1 the last."
        (8.0, "per_site", 8, "scattering_private"),
        (3.0, "per_site", 8, "scattering_private_low"),
        (1.0, "per_site", 8, "scattering_private_least"),
    ],
)
def test_scattering_takes_the_recipe_for_its_epsilon(epsilon, mode, sites, name):
    assert recipe("scattering", epsilon, mode, sites, OPTIONS)[0] == f"experiment={name}"


def test_scattering_without_privacy_is_trained_as_the_data_source_says():
    assert recipe("scattering", math.inf, "distributed", 8, OPTIONS) == ("model=scattering", "privacy=none")


def test_a_network_without_an_experiment_is_a_learner_too():
    assert recipe("cnn", 3.0, "per_site", 1, OPTIONS) == (
        "model=cnn",
        "privacy=per_site",
        "privacy.epsilon=3",
    )


def test_a_learners_own_settings_come_last_and_those_of_its_row_after_them():
    own = own_settings(["svm:rounds=3", "svm-inf:rounds=2", "svm:model.classical.gamma=0.1"])
    rows = ask(Question(("svm", "ridge"), (math.inf, 3.0), own=own), OPTIONS)
    gamma = "model.classical.gamma=0.1"
    assert rows[0].recipe == ("experiment=svm", "privacy=none", "rounds=3", gamma, "rounds=2")
    assert rows[1].recipe[-2:] == ("rounds=3", gamma)
    assert not any("rounds" in override for override in rows[2].overrides)
    assert compose([*rows[0].overrides]).rounds == 2


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (Question(("rigde",)), "did you mean ridge?"),
        (Question(("ridge", "ridge")), "names or numbers in --learners, each once"),
        (Question(("ridge",), (3.0, 3.0)), "names or numbers in --epsilons, each once"),
        (Question(("ridge",), overrides=("experiment=svm",)), "--learners, --epsilons and --privacy"),
        (Question(("ridge",), overrides=("privacy.epsilon=8",)), "--learners, --epsilons and --privacy"),
        (Question(("ridge",), overrides=("++privacy=none",)), "--learners, --epsilons and --privacy"),
        (Question(("ridge",), overrides=("rounds=5",)), "use --set LEARNER:rounds=5"),
        (Question(("ridge",), overrides=("resume=runs/1",)), "--out for the comparison's folder"),
        (Question(("ridge",), own={"svm": ("rounds=3",)}), "--set for a learner or a row of this comparison"),
        (Question(("ridge",), own={"ridge": ("privacy=none",)}), "--learners, --epsilons and --privacy"),
    ],
)
def test_what_a_comparison_decides_itself_is_not_given(question, expected):
    with pytest.raises(ConfigError, match=expected.replace("?", r"\?")):
        ask(question, OPTIONS)


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=5), st.booleans())
def test_numbers_come_back_as_they_were_written(numbers, open_too):
    text = ",".join([*(epsilon_text(e) for e in numbers), *(["inf"] if open_too else [])])
    found = epsilons_of(text)
    assert found[: len(numbers)] == tuple(float(epsilon_text(e)) for e in numbers)
    assert math.isinf(found[-1]) == open_too


@pytest.mark.parametrize("text", ["", "3,", "0", "-1", "nan", "three", "1,0"])
def test_an_epsilon_is_a_positive_number_or_inf(text):
    with pytest.raises(ConfigError, match="--epsilons of positive numbers and inf"):
        epsilons_of(text)


@pytest.mark.parametrize("line", ["rounds=3", "svm:rounds", "svm"])
def test_own_settings_name_whom_they_are_for(line):
    with pytest.raises(ConfigError, match="--set LEARNER:key=value"):
        own_settings([line])


def test_every_default_learner_is_described_and_another_one_is_said_not_to_be():
    assert set(DEFAULT_LEARNERS) <= set(WORDS)
    assert set(WORDS) <= {*OPTIONS["model"], *BASELINES}
    assert set(BASELINES) <= set(WORDS)
    assert len({words.strengths for words in WORDS.values()}) == len(WORDS)
    assert words_of("an_extension").limits == "not described"


def test_a_baseline_has_one_row_with_the_data_of_the_first_learner():
    rows = ask(
        Question(("otsu", "segmentation", "blobs"), (math.inf, 3.0), own={"segmentation": ("rounds=5",)}),
        OPTIONS,
    )
    assert [one.name for one in rows] == ["otsu-0", "segmentation-inf", "segmentation-3", "blobs-0"]
    assert rows[0].recipe == ("experiment=segmentation", "privacy=none")
    assert rows[0].overrides == ("rounds=5", *rows[0].recipe)
    config = compose([*rows[3].overrides])
    assert (config.model.task, config.data.voxels, config.privacy.mode) == ("segmentation", "masks", "none")
    (alone,) = ask(Question(("rules",), (3.0,)), OPTIONS)
    assert (alone.name, alone.epsilon, alone.recipe) == ("rules-0", 0.0, ("privacy=none",))
    assert compose([*alone.overrides]).model.task == "classification"
    (traditional,) = ask(Question(("blobs",)), OPTIONS)
    assert compose([*traditional.overrides]).model.task == "segmentation"
