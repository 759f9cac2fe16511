"""Whatever text goes in comes out as text: for an XML parser and for a browser's."""

from __future__ import annotations

from html.parser import HTMLParser
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from fedimg.report.markup import Markup, element, join, number, text

# Characters that are kept as they are; carriage returns are normalised by every parser.
KEPT = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cn", "Cf")), max_size=40)


class Tree(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.texts = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.extend(attrs)

    def handle_data(self, data):
        self.texts.append(data)


@given(KEPT, KEPT)
def test_text_and_attributes_survive_both_parsers(body, attribute):
    written = element("p", body, title=attribute)
    parsed = ET.fromstring(written)
    assert (parsed.text or "") == body
    assert parsed.get("title") == attribute
    tree = Tree()
    tree.feed(written)
    tree.close()
    assert tree.tags == ["p"]
    assert "".join(tree.texts) == body
    assert tree.attributes == [("title", attribute)]


@given(st.text(st.characters(exclude_categories=())))
def test_no_text_at_all_can_break_well_formedness(anything):
    ET.fromstring(element("p", anything, title=anything))


def test_characters_that_reorder_or_cannot_stand_are_replaced():
    assert text("a\u202eb\x00c\u2066d\ud800e") == "a\ufffdb\ufffdc\ufffdd\ufffde"
    assert text('<b a="1">&\'') == "&lt;b a=&quot;1&quot;&gt;&amp;&#x27;"


def test_only_markup_passes_unescaped():
    assert element("p", Markup("<b></b>"), "<b></b>") == "<p><b></b>&lt;b&gt;&lt;/b&gt;</p>"
    assert join(["<", Markup("<br/>")]) == "&lt;<br/>"
    # A string made from markup by string methods is plain text again: it will be escaped.
    assert join([Markup("<i>").lower()]) == "&lt;i&gt;"


def test_attribute_names_and_void_elements():
    assert (
        element("line", class_="a", stroke_width=1.5, x1=None) == '<line class="a" stroke-width="1.5"></line>'
    )
    assert element("br") == "<br/>"


@given(st.floats(-1e6, 1e6))
def test_a_coordinate_is_right_to_half_a_hundredth_and_short(value):
    written = number(value)
    assert abs(float(written) - value) <= 0.005 + 1e-9
    assert "e" not in written
    assert written != "-0"
    assert "." not in written or not written.endswith("0")
