"""`nifti` and `images` share their reading; both are tried where the format matters."""

import pytest

from fedimg.errors import ConfigError, DataError
from fedimg.sources import load
from fedimg.values import Quarantine


def row(path, patient="P1", label="0", **more):
    return {"path": path, "patient_id": patient, "label": label} | more


@pytest.mark.parametrize(
    ("name", "kind", "ending"), [("images", "image", ".png"), ("nifti", "nifti", ".nii.gz")]
)
def test_listed_files_become_items_and_unlisted_ones_stay_visible(
    config, write_files, write_table, tmp_path, name, kind, ending
):
    write_files(f"a{ending}", f"b{ending}", f"c{ending}", f"new{ending}", "notes.txt")
    write_table([row(f"a{ending}"), row(f"b{ending}", "P2", "positive"), row(f"c{ending}", "P3", "")])
    manifests = load(config(name), tmp_path, 1, 0)
    assert set(manifests) == {"site-1"}  # nothing is public, so there is no public set
    items = {item.path.name.removesuffix(ending): item for item in manifests["site-1"].items}
    assert {n: (i.kind, i.patient_id, i.label) for n, i in items.items()} == {
        "a": (kind, "P1", 0),
        "b": (kind, "P2", 1),
        "c": (kind, "P3", None),  # unlabelled: the intake quarantines it
        "new": (kind, None, None),
    }
    assert manifests["site-1"].unit == "patient"
    assert not manifests["site-1"].public_data
    assert manifests["site-1"].declared_patients is None


def test_sites_and_splits_come_from_the_table(config, write_files, write_table, tmp_path):
    write_files("a.png", "b.png", "c.png", "d.png", "unlisted.png")
    write_table(
        [
            row("a.png", "P1", site="north"),
            row("b.png", "P2", site="south"),
            row("c.png", "P3", site="north"),
            row("d.png", "P2", site="south"),
        ]
    )
    manifests = load(config(partition="manifest", declared_patients=523), tmp_path, 4, 0)
    names = {site: [i.path.name for i in m.items] for site, m in manifests.items()}
    assert names == {"north": ["a.png", "c.png", "unlisted.png"], "south": ["b.png", "d.png"]}
    assert manifests["south"].declared_patients == {"south": 520}  # two significant digits
    own = load(config(partition="manifest", declared_patients={"north": 81, "south": 1234}), tmp_path, 4, 0)
    assert [own[site].declared_patients for site in own] == [{"north": 81}, {"south": 1200}]
    with pytest.raises(ConfigError, match=r"data\.declared_patients of south too; found those of north"):
        load(config(partition="manifest", declared_patients={"north": 81}), tmp_path, 4, 0)


def test_a_patient_at_two_sites_is_held_back_from_the_second(config, write_files, write_table, tmp_path):
    write_files("a.png", "b.png", "c.png")
    write_table([row("a.png", site="n"), row("b.png", site="s"), row("c.png", "P2", site="s")])
    manifests = load(config(partition="manifest"), tmp_path, 2, 0)
    assert [i.path.name for i in manifests["n"].items] == ["a.png"]
    assert [i.path.name for i in manifests["s"].items] == ["c.png"]
    held = manifests["s"].held_back[Quarantine.PATIENT_AT_TWO_SITES]
    assert [i.path.name for i in held] == ["b.png"]
    allowed = load(config(partition="manifest", max_sites_per_patient=2), tmp_path, 2, 0)
    assert not allowed["s"].held_back


def test_whoever_is_in_the_public_set_is_trained_on_nowhere(config, write_files, write_table, tmp_path):
    write_files("a.png", "b.png", "c.png")
    write_table([row("a.png", split="train"), row("b.png", split="public"), row("c.png", "P2", split="")])
    for allowed in (1, 5):
        manifests = load(config(max_sites_per_patient=allowed), tmp_path, 1, 0)
        assert [i.path.name for i in manifests["public"].items] == ["b.png"]
        assert manifests["public"].public_data
        assert [i.path.name for i in manifests["site-1"].items] == ["c.png"]
        held = manifests["site-1"].held_back[Quarantine.PATIENT_AT_TWO_SITES]
        assert [i.path.name for i in held] == ["a.png"]


def test_repeated_rows_count_once_and_dropped_columns_are_counted(config, write_files, write_table, tmp_path):
    write_files("a.png", "b.png")
    write_table([row("a.png", name="Doe"), row("b.png", "P2", name="Roe"), row("a.png", name="Doe")])
    manifest = load(config(), tmp_path, 1, 0)["site-1"]
    assert len(manifest.items) == 2
    assert (manifest.repeated_rows, manifest.dropped_columns) == (1, 1)
    assert "Doe" not in repr(manifest)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [row("a.png", label="Doe")],
            "one of the classes negative, positive, or its index; found another one in row 2",
        ),
        ([row("a.png", label="2")], "found another one in row 2"),
        ([row("a.png"), row("a.png", label="1")], "found row 3, which contradicts an earlier one"),
        ([row("a.png"), row("a.png", "P9")], "found row 3, which contradicts an earlier one"),
        ([row("a.png", site="../up")], "site names of up to 32 letters"),
        ([row("a.png", site="Public")], "other than `public`; found another one in row 2"),
        ([row("a.png", split="test")], "split to be train or public; found another word in row 2"),
        ([row("../a.png")], r"without `\.\.` or links; found another one in row 2"),
        ([{"path": "a.png", "label": "0"}], "found no column patient_id"),
        ([row("a.png", site="n"), row("b.png", "P2", site="")], "a site for every labelled row"),
    ],
)
def test_bad_tables_are_refused_naming_rows_only(config, write_files, write_table, tmp_path, rows, message):
    write_files("a.png", "b.png")
    write_table(rows)
    with pytest.raises(DataError, match=message) as refusal:
        load(config(partition="manifest"), tmp_path, 1, 0)
    for secret in ("Doe", "P9", "../up", "a.png", str(tmp_path)):
        assert secret not in str(refusal.value)


def test_a_named_file_that_is_not_there_is_left_to_the_intake(config, write_table, write_files, tmp_path):
    write_files("a.png")
    write_table([row("a.png"), row("gone.png", "P2")])
    assert len(load(config(), tmp_path, 1, 0)["site-1"].items) == 2


def test_more_sites_than_patients_leaves_sites_empty(config, write_files, write_table, tmp_path):
    write_files("a.png", "b.png")
    write_table([row("a.png"), row("b.png", "P2")])
    manifests = load(config(), tmp_path, 5, 0)
    assert sorted(len(m.items) for s, m in manifests.items() if s != "public") == [0, 0, 0, 1, 1]
