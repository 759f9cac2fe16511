"""The language of rules: what it says, what it refuses, and that nothing in it runs."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.errors import ConfigError
from fedimg.imaging.rules import load_rules, rulebook
from fedimg.imaging.rules.expression import condition

EXAMPLE = Path(__file__).parents[3] / "conf" / "rules" / "lesion.yaml"
NAMES = ("lesion_volume_ml", "hu_mean", "hu_sd")
RULE = {"name": "dense", "if": "hu_mean > 20", "class": 1, "score": 0.9}
BOOK = {"classes": 2, "rules": [RULE], "otherwise": {"class": 0, "score": 0.7}}


def holds(text, **measured):
    return condition(text, "if").holds(measured)


# ------------------------------------------------------------------------------------------ expressions

NUMBERS = st.integers(-3, 3)
COMPARISONS = st.builds(
    lambda name, order, number: f"{name} {order} {number}",
    st.sampled_from(NAMES),
    st.sampled_from(["<", "<=", ">", ">=", "==", "!="]),
    NUMBERS,
)
CONDITIONS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.builds("not ({})".format, inner),
        st.builds(lambda a, word, b: f"({a}) {word} ({b})", inner, st.sampled_from(["and", "or"]), inner),
    ),
    max_leaves=8,
)


@given(CONDITIONS, st.fixed_dictionaries({name: NUMBERS.map(float) for name in NAMES}))
def test_a_condition_means_what_python_means(text, measured):
    assert holds(text, **measured) == eval(text, {"__builtins__": {}}, dict(measured))


@given(
    CONDITIONS,
    st.dictionaries(st.sampled_from(NAMES), NUMBERS.map(float)),
    st.lists(NUMBERS, min_size=3, max_size=3),
)
def test_what_is_known_without_a_measurement_stays_true_with_it(text, measured, rest):
    """Whatever the missing ones turn out to be: Kleene's logic is monotone."""
    known = holds(text, **measured)
    whole = dict(zip(NAMES, map(float, rest), strict=True)) | measured
    if known is not None:
        assert holds(text, **whole) == known


def test_missing_is_neither_true_nor_false():
    assert holds("hu_mean > 0") is None and holds("not hu_mean > 0") is None
    assert holds("hu_mean > 0 or hu_sd > 0", hu_sd=1.0) is True
    assert holds("hu_mean > 0 and hu_sd > 0", hu_sd=0.0) is False
    assert holds("hu_mean > 0", hu_mean=float("nan")) is None


def test_chains_words_and_signs():
    assert holds("-10 < hu_mean <= 20", hu_mean=20.0) is True
    assert holds("-10 < hu_mean <= 20", hu_mean=-10.0) is False
    assert holds('convolution_kernel == "SHARP"', convolution_kernel="SHARP") is True
    assert holds('convolution_kernel != "SHARP"', convolution_kernel="SOFT") is True
    assert holds("hu_mean > hu_sd", hu_mean=2.0, hu_sd=1.0) is True
    assert holds('hu_mean == "SHARP"', hu_mean=1.0) is None


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "hu_mean.real > 0",
        "hu_mean + 1 > 0",
        "(lambda: hu_mean)() > 0",
        "[hu_mean][0] > 0",
        "hu_mean",
        "True",
        "hu_mean > True",
        "hu_mean > 1e999",
        "hu_mean > 1j",
        "hu_mean > None",
        "hu_mean in (1, 2)",
        "hu_mean is 1",
        "hu_mean > b'a'",
        "hu_mean > (x := 3)",
        "1 < 2",
        'hu_mean > "a"',
        "hu_mean >",
        "hu_mean > 0; hu_sd > 0",
        "hu_mean > 0\nhu_sd > 0",
        "hu_mean > \x00",
        "",
        "f'{hu_mean}' == 'a'",
        "hu_mean > 0 if hu_sd > 0 else hu_sd > 1",
        "-hu_mean > 0",
        "not " * 240 + "hu_mean",
        "(" * 500 + "hu_mean > 0" + ")" * 480,
    ],
)
def test_anything_else_is_refused_with_the_path_of_its_key(text):
    with pytest.raises(ConfigError, match=r"rules\[3\]\.if"):
        condition(text, "rules[3].if")


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from([*NAMES, "and", "or", "not", "(", ")", "<", "=", "1", "'a'", "."])).map(
        " ".join
    )
)
def test_no_text_does_anything_but_parse_or_be_refused(text):
    try:
        found = condition(text, "if")
    except ConfigError:
        return
    assert found.names <= set(NAMES) and found.holds({}) is None


def test_too_long():
    with pytest.raises(ConfigError, match="1000 characters"):
        condition("hu_mean > 0 or " * 80 + "hu_mean > 0", "if")


def test_an_unknown_measurement_and_the_nearest():
    with pytest.raises(ConfigError) as refusal:
        condition("hu_meen > 0", "rules[0].if")
    assert str(refusal.value) == (
        "expected rules[0].if: the name of a measurement; found hu_meen; did you mean hu_mean?"
    )


# -------------------------------------------------------------------------------------------- rulebooks


def test_the_first_rule_that_holds_decides():
    book = rulebook(BOOK | {"rules": [RULE, RULE | {"name": "any", "if": "hu_mean > 0", "class": 0}]})
    assert book.decide({"hu_mean": 30.0}).rule == "dense"
    assert book.decide({"hu_mean": 10.0}).rule == "any"
    assert book.decide({}).rule == "otherwise"
    assert book.names == {"hu_mean"}


@given(st.floats(0, 1), st.integers(2, 6), st.data())
def test_scores_are_shares(score, classes, data):
    label = data.draw(st.integers(0, classes - 1))
    book = rulebook(BOOK | {"classes": classes, "otherwise": {"class": label, "score": score}})
    scores = book.decide({}).scores(classes)
    assert scores.sum() == pytest.approx(1) and scores[label] == pytest.approx(score)
    assert (scores >= 0).all()


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"classes": 1}, "classes"),
        ({"classes": True}, "classes"),
        ({"rules": []}, "rules"),
        ({"rules": "hu_mean > 0"}, "rules"),
        ({"rules": [RULE | {"class": 2}]}, r"rules\[0\]\.class"),
        ({"rules": [RULE | {"score": 1.5}]}, r"rules\[0\]\.score"),
        ({"rules": [RULE | {"score": "0.5"}]}, r"rules\[0\]\.score"),
        ({"rules": [RULE | {"score": float("nan")}]}, r"rules\[0\]\.score"),
        ({"rules": [RULE | {"if": True}]}, r"rules\[0\]\.if"),
        ({"rules": [RULE, RULE]}, r"rules\[1\]\.name"),
        ({"rules": [RULE | {"name": "otherwise"}]}, r"rules\[0\]\.name"),
        ({"rules": [RULE | {"then": 1}]}, r"rules\[0\]\.then"),
        ({"rules": [{k: v for k, v in RULE.items() if k != "if"}]}, r"rules\[0\]\.if"),
        ({"rules": [3]}, r"rules\[0\]"),
        ({"otherwise": {"class": 0}}, r"otherwise\.score"),
        ({"otherwize": {}}, "otherwize"),
    ],
)
def test_a_mistake_is_named_by_its_key(change, key):
    with pytest.raises(ConfigError, match=key):
        rulebook(BOOK | change)


@pytest.mark.parametrize(
    "text", ["a: [", "- 1", "", "!!python/object/apply:os.system [true]", "\x00", "a: &a [*a]"]
)
def test_files_that_are_no_rules(tmp_path, text):
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load_rules(path)
    with pytest.raises(ConfigError, match="readable YAML"):
        load_rules(tmp_path / "absent.yaml")


def test_a_list_of_lists_of_lists_is_not_written_out(tmp_path):
    """Nine levels of nine references: as text 9⁹ entries."""
    levels = ", ".join(["&l0 [a]", *(f"&l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 10))])
    path = tmp_path / "rules.yaml"
    rule = f"{{name: [{levels}], if: hu_mean > 0, class: 1, score: 1}}"
    path.write_text(f"classes: 2\nrules: [{rule}]\notherwise: {{class: 0, score: 1}}\n")
    with pytest.raises(ConfigError, match=r"expected rules\[0\]\.name: text; found list;"):
        load_rules(path)
    with pytest.raises(ConfigError, match=r"rules\[0\]\.score"):
        rulebook(BOOK | {"rules": [RULE | {"score": [[[]]]}]})


def test_the_shipped_example_decides_as_it_reads():
    book = load_rules(EXAMPLE)
    assert book.decide({"lesion_volume_ml": 0.0}).label == 0
    mass = {
        "lesion_volume_ml": 20.0,
        "lesion_longest_diameter_mm": 40.0,
        "lesion_perpendicular_diameter_mm": 35.0,
    }
    assert book.decide(mass | {"hu_p95": 250.0}).rule == "calcified mass"
    assert book.decide(mass | {"shape_sphericity": 0.85, "shape_flatness": 0.7}).rule == "round mass"
    assert book.decide(mass).rule == "otherwise"
    assert np.isclose(book.decide(mass).scores(2).sum(), 1)
