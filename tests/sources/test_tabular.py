import csv
import io
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedimg.errors import DataError
from fedimg.sources.tabular import read_table

ALLOWED = ("path", "label", "site")
FIXTURES = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)


@pytest.fixture
def write(tmp_path):
    def make(text):
        path = tmp_path / "t.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return make


def test_only_allowed_columns_survive_and_the_others_are_counted(write):
    table = read_table(write("Name,PATH ,label,Born\nMüller,a.png,1,1950\nDoe,b.png, 0 ,1960\n"), ALLOWED, ())
    assert table.columns == ("path", "label")
    assert table.rows == ({"path": "a.png", "label": "1"}, {"path": "b.png", "label": "0"})
    assert table.dropped_columns == 2
    assert "Müller" not in repr(table)


cells = st.text(st.characters(exclude_categories=("C", "Z")), max_size=8)
names = st.text("abcdefghijklmnop", min_size=1, max_size=6).filter(lambda name: name not in ALLOWED)


@FIXTURES
@given(data=st.data(), others=st.lists(names, max_size=5, unique=True), place=st.integers(0, 5))
def test_nothing_outside_the_list_is_ever_in_a_table(write, data, others, place):
    header = [*others[:place], "label", *others[place:]]
    column = header.index("label")
    width = len(header)
    rows = data.draw(st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=5))
    for row in rows:
        row[column] = "1"
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([header, *rows])
    table = read_table(write(buffer.getvalue()), ALLOWED, ("label",))
    assert table.dropped_columns == len(others)
    assert table.rows == ({"label": "1"},) * len(rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one row below the header; found none|the columns path, label; found no column"),
        ("path,label\n", "at least one row below the header; found none"),
        ("path,label\n,\n \n", "at least one row below the header; found none"),
        ("path,klass\na,1\n", "the columns path, label; found no column label"),
        ("path,label,label\na,1,1\n", "each column once; found label more than once"),
        ("path,label\na,1\nb,Doe^John,1\n", "2 cells in every row; found 3 in row 3"),
        ("path,label\na\n", "2 cells in every row; found 1 in row 2"),
        ('path,label\n"a"b,1\n', "a well-formed CSV file; found a quoting error in line 2"),
        (b"path,label\n\xff\xfe,1\n", "UTF-8 text; found other bytes"),
    ],
)
def test_tables_that_are_none_are_refused_without_a_word_of_their_content(write, text, message):
    with pytest.raises(DataError, match=message) as refusal:
        read_table(write(text), ALLOWED, ("path", "label"))
    for secret in ("Doe", "klass"):
        assert secret not in str(refusal.value)


def test_a_byte_order_mark_and_quoted_newlines_are_read(write):
    table = read_table(write('\ufeffpath,label\n"a\nb",1\n'), ALLOWED, ("path", "label"))
    assert table.rows == ({"path": "a\nb", "label": "1"},)


def test_what_is_no_regular_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "absent.csv"):
        with pytest.raises(DataError) as refusal:
            read_table(path, ALLOWED, ())
        assert str(tmp_path) not in str(refusal.value)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(DataError, match="a regular file of at most 256 MiB"):
        read_table(fifo, ALLOWED, ())
