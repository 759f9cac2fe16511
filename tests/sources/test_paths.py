import pytest

from fedimg.errors import ConfigError, DataError
from fedimg.sources.paths import data_folder, inside, regular_files


@pytest.mark.parametrize(
    "named",
    [
        "../x.dcm",
        "a/../../x.dcm",
        "a/../b.dcm",
        "/etc/passwd",
        "",
        ".",
        "a\\b",
        "a\0b",
        "link/x.dcm",
        "alias",
    ],
)
def test_a_name_that_could_lead_out_is_refused_and_not_repeated(folder, tmp_path, named):
    (tmp_path / "x.dcm").write_bytes(b"")
    (folder / "link").symlink_to(tmp_path)
    (folder / "alias").symlink_to(tmp_path / "x.dcm")
    with pytest.raises(DataError) as refusal:
        inside(folder, named, 17)
    assert str(refusal.value) == (
        "expected paths relative to the data folder, without `..` or links; found another one in row 17; "
        "copy the files into the data folder and name them from there"
    )


def test_names_below_the_folder_are_taken(folder):
    assert inside(folder, "a/b..c/d.dcm", 2) == folder / "a" / "b..c" / "d.dcm"


def test_links_and_hidden_files_are_not_walked_into(folder, tmp_path, write_files):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.png").write_bytes(b"")
    write_files("b/2.PNG", "a/1.png", "a/t.txt", ".hidden/3.png", ".4.png")
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "link.png").symlink_to(tmp_path / "outside" / "x.png")
    assert [p.relative_to(folder).as_posix() for p in regular_files(folder, (".png",))] == [
        "a/1.png",
        "b/2.PNG",
    ]


def test_the_folder_must_be_named_and_be_there(folder):
    assert data_folder(str(folder)) == folder.resolve()
    with pytest.raises(ConfigError, match=r"data\.path, the folder with the data; found null"):
        data_folder(None)
    with pytest.raises(DataError, match=r"an existing folder at data\.path; found none"):
        data_folder(str(folder / "absent"))
