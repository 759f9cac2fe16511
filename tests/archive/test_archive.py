"""Archives: round trips, every change refused, hostile ones built by hand, kills, and flat memory."""

import hashlib
import io
import os
import signal
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedimg import canonical
from fedimg.archive import Archive, Entry, Member, read_public_key, write, written_public_key
from fedimg.archive.layout import MOST_NAME, signed_bytes, sound_name
from fedimg.crypto.keys import SigningKey
from fedimg.crypto.sealed_stream import SealedWriter
from fedimg.crypto.sealing import SealingKey
from fedimg.errors import DataError

READER, STRANGER = (SealingKey.from_bytes(bytes([number]) * 32) for number in (1, 2))
SENDER = SigningKey.from_bytes(bytes([3]) * 32)
PURPOSE = "test archive"
FILES = {"a.txt": b"alpha", "b/c/d.bin": bytes(range(256)) * 400, "b/e": b"", "z-9_.x": b"last"}


def filled(root, files=FILES):
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def members(root, files=FILES, **more):
    return [Member(name, root, name, **more) for name in sorted(files, key=lambda name: name.split("/"))]


@pytest.fixture
def made(tmp_path):
    root = filled(tmp_path / "in")
    write(
        tmp_path / "x.sealed", READER.public_bytes, PURPOSE, {"made": "now"}, SENDER, members(root), tmp_path
    )
    return tmp_path / "x.sealed"


def extracted(file, into, key=READER, purpose=PURPOSE, wanted=lambda _name: True):
    into.mkdir(mode=0o700)
    with Archive.open(file, key, purpose, into) as archive:
        archive.extract(into, wanted)
        return archive


def tree(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize("moving", [False, True])
def test_what_was_put_in_comes_out_private_and_signed(tmp_path, moving):
    root = filled(tmp_path / "in")
    chosen = members(root, moving=moving)
    written = write(tmp_path / "x", READER.public_bytes, PURPOSE, {"n": 1}, SENDER, chosen, tmp_path)
    archive = extracted(tmp_path / "x", tmp_path / "out")
    assert tree(tmp_path / "out") == FILES
    assert (
        (written.files, written.bytes) == (archive.files, archive.size) == (4, sum(map(len, FILES.values())))
    )
    assert (archive.sender, archive.facts["n"]) == (SENDER.public_bytes.hex(), 1)
    modes = {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    folders = {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "out").rglob("*") if p.is_dir()}
    assert (modes, folders) == ({0o600}, {0o700})
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out", "x"]


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,6}", fullmatch=True)
trees = st.dictionaries(
    names, st.one_of(st.binary(max_size=300), st.dictionaries(names, st.binary(max_size=9)))
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=trees)
def test_any_tree_comes_back(found, tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("tree")
    files = {}
    for name, content in found.items():
        inner = content.items() if isinstance(content, dict) else [("", content)]
        files |= {f"{name}/{part}" if part else name: data for part, data in inner}
    root = filled(tmp_path / "in", files)
    root.mkdir(exist_ok=True)
    write(tmp_path / "x", READER.public_bytes, PURPOSE, {}, SENDER, members(root, files), tmp_path)
    extracted(tmp_path / "x", tmp_path / "out")
    assert tree(tmp_path / "out") == files


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_cut_or_a_flipped_bit_anywhere_is_refused(made, tmp_path_factory, data):
    whole, folder = made.read_bytes(), tmp_path_factory.mktemp("changed")
    if data.draw(st.booleans()):
        changed = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        bit = data.draw(st.integers(0, 8 * len(whole) - 1))
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
    (folder / "x").write_bytes(changed)
    with pytest.raises(DataError):
        extracted(folder / "x", folder / "out")


def test_another_key_or_purpose_is_refused(made, tmp_path):
    with pytest.raises(DataError):
        extracted(made, tmp_path / "one", key=STRANGER)
    with pytest.raises(DataError, match="another purpose"):
        extracted(made, tmp_path / "two", purpose="other")


# ------------------------------------------------------------------------------------------ hostile ones, by hand


def forged(path, entries, bodies, *, purpose=PURPOSE, sign=None, files=None, size=None, facts=None, tail=b""):
    """An archive that nobody's `write` makes; `entries` are (name, size, SHA-256)."""
    with path.open("wb") as out:
        stream = SealedWriter(out, READER.public_bytes, purpose)
        told = canonical.encode(facts if facts is not None else {"sender": SENDER.public_bytes.hex()})
        manifest = struct.pack(">I", len(told)) + told
        total = sum(one[1] for one in entries) if size is None else size
        manifest += struct.pack(">QQ", len(entries) if files is None else files, total)
        for name, length, digest in entries:
            raw = name if isinstance(name, bytes) else name.encode()
            manifest += struct.pack(">H", len(raw)) + raw + struct.pack(">Q", length) + digest
        signed = signed_bytes(purpose, stream.header_digest, hashlib.sha256(manifest).digest())
        stream.write(manifest + (sign or SENDER.sign)(signed))
        stream.write(b"".join(bodies) + tail)
        stream.close()
    return path


def entry(name, data=b"x"):
    return name, len(data), hashlib.sha256(data).digest()


def test_the_hand_that_forges_can_also_write_a_sound_one(tmp_path):
    forged(tmp_path / "x", [entry("a"), entry("b/c")], [b"x", b"x"])
    extracted(tmp_path / "x", tmp_path / "out")
    assert tree(tmp_path / "out") == {"a": b"x", "b/c": b"x"}


HOSTILE = [
    "/etc/x",
    "../x",
    "a/../b",
    "a//b",
    "a/",
    "",
    ".",
    "..",
    ".hidden",
    "a/.b",
    "-rf",
    "a\\b",
    "a\0b",
    "C:x",
]
HOSTILE += ["a b", "é", b"\xff\xfe", "a/" * 300 + "a", "a" * (MOST_NAME + 1), "a\n", "con\ttrol"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_refused_before_anything_is_written(tmp_path, name):
    forged(tmp_path / "x", [entry(name)], [b"x"])
    with pytest.raises(DataError):
        extracted(tmp_path / "x", tmp_path / "out")
    assert tree(tmp_path / "out") == {}
    assert isinstance(name, bytes) or not sound_name(name)


@pytest.mark.parametrize("pair", [("a", "a"), ("b", "a"), ("a", "a/b"), ("a/b", "a"), ("b-a", "b/a")])
def test_names_twice_out_of_order_or_below_another_are_refused(tmp_path, pair):
    forged(tmp_path / "x", [entry(name) for name in pair], [b"x", b"x"])
    with pytest.raises(DataError):
        extracted(tmp_path / "x", tmp_path / "out")


@pytest.mark.parametrize(
    "change",
    [
        {"files": 10**9},
        {"files": 2},
        {"files": 0},
        {"size": 1 << 60},
        {"size": 0},
        {"tail": b"more"},
        {"facts": {}},
        {"facts": []},
        {"facts": {"sender": "00" * 32}},
        {"facts": {"sender": READER.public_bytes.hex()}},
        {"sign": lambda _data: bytes(64)},
        {"sign": lambda data: SENDER.sign(data[:-1])},
        {"purpose": "other"},
    ],
    ids="-".join,
)
def test_a_manifest_that_does_not_hold_is_refused(tmp_path, change):
    forged(tmp_path / "x", [entry("a")], [b"x"], **change)
    with pytest.raises(DataError):
        extracted(tmp_path / "x", tmp_path / "out")


def test_sizes_beyond_the_file_itself_are_refused_before_anything_is_read(tmp_path):
    forged(tmp_path / "x", [("a", 1 << 40, bytes(32))], [b"x"])
    with pytest.raises(DataError, match="within bounds"):
        extracted(tmp_path / "x", tmp_path / "out")


def test_other_bytes_than_the_manifest_names_are_refused(tmp_path):
    forged(tmp_path / "x", [entry("a", b"said")], [b"else"])
    with pytest.raises(DataError, match="other bytes"):
        extracted(tmp_path / "x", tmp_path / "out")


def test_a_file_that_is_not_wanted_is_refused(made, tmp_path):
    with pytest.raises(DataError, match="another one"):
        extracted(made, tmp_path / "out", wanted=lambda name: name != "z-9_.x")
    assert tree(tmp_path / "out") == {}


def test_what_was_signed_for_one_reader_is_not_handed_on_as_if_for_another(made, tmp_path):
    """The first reader seals the same manifest and signature anew: the signature covers whose it was."""
    from fedimg.crypto.sealed_stream import SealedReader

    length = made.stat().st_size - (8 + 1 + len(PURPOSE) + 80) - 2 * 16  # two pieces
    with made.open("rb") as file:
        reader = SealedReader(file, READER, PURPOSE)
        plain = reader.read(length)
        reader.end()
    out = io.BytesIO()
    writer = SealedWriter(out, STRANGER.public_bytes, PURPOSE)
    writer.write(plain)
    writer.close()
    (tmp_path / "y").write_bytes(out.getvalue())
    with pytest.raises(DataError, match="maker signed"):
        extracted(tmp_path / "y", tmp_path / "out", key=STRANGER)


# ---------------------------------------------------------------------------------------------- while it is written


def test_links_are_not_followed_wherever_they_stand(tmp_path):
    root = filled(tmp_path / "in", {"real/f": b"x"})
    (root / "link").symlink_to(root / "real" / "f")
    (root / "folder").symlink_to(root / "real")
    for path in ("link", "folder/f"):
        with pytest.raises(DataError, match="a link"):
            write(
                tmp_path / "x", READER.public_bytes, PURPOSE, {}, SENDER, [Member("f", root, path)], tmp_path
            )
    os.mkfifo(root / "pipe")
    with pytest.raises(DataError):
        write(tmp_path / "x", READER.public_bytes, PURPOSE, {}, SENDER, [Member("f", root, "pipe")], tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


@pytest.mark.parametrize("data", [b"other", b"alph", b"alpha and more"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, data):
    root = filled(tmp_path / "in")

    def changing():
        yield Member("a.txt", root, "a.txt")
        (root / "a.txt").write_bytes(data)

    with pytest.raises(DataError, match="one that changed"):
        write(tmp_path / "x", READER.public_bytes, PURPOSE, {}, SENDER, changing(), tmp_path)
    assert not (tmp_path / "x").exists()


def test_a_moving_file_is_taken_as_it_was_and_may_vanish(tmp_path):
    root = filled(tmp_path / "in")

    def changing():
        yield Member("a.txt", root, "a.txt", moving=True)
        (root / "a.txt").write_bytes(b"other")
        yield Member("gone", root, "gone", moving=True)

    write(tmp_path / "x", READER.public_bytes, PURPOSE, {}, SENDER, changing(), tmp_path)
    extracted(tmp_path / "x", tmp_path / "out")
    assert tree(tmp_path / "out") == {"a.txt": b"alpha"}


def test_known_bytes_are_held_against_what_is_there(tmp_path):
    root = filled(tmp_path / "in")
    known = Entry("a.txt", 5, hashlib.sha256(b"ALPHA").digest())
    chosen = [Member("a.txt", root, "a.txt", known=known)]
    with pytest.raises(DataError, match="one that changed"):
        write(tmp_path / "x", READER.public_bytes, PURPOSE, {}, SENDER, chosen, tmp_path)


def test_an_existing_file_is_never_written_over(made, tmp_path):
    before = made.read_bytes()
    with pytest.raises(DataError, match="something of that name"):
        write(made, READER.public_bytes, PURPOSE, {}, SENDER, [], tmp_path)
    assert made.read_bytes() == before


CHILD = """
import resource, sys
from pathlib import Path
from fedimg.archive import Archive, Member, write
from fedimg.crypto.keys import SigningKey
from fedimg.crypto.sealing import SealingKey
key, sender, work = SealingKey.from_bytes(bytes(32)), SigningKey.from_bytes(bytes(32)), Path(sys.argv[1])
step, count = sys.argv[2], int(sys.argv[3])
if step == "write":
    (work / "one").write_bytes(b"x" * 100)
    many = (Member(f"d{n // 100:05d}/f{n % 100:02d}", work, "one") for n in range(count))
    write(work / "x", key.public_bytes, "memory", {}, sender, many, work)
else:
    (work / "out").mkdir(mode=0o700)
    with Archive.open(work / "x", key, "memory", work) as archive:
        archive.extract(work / "out", lambda name: True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_is_flat_over_many_files(tmp_path):
    peak = {}
    for count in (100, 20_000):
        work = tmp_path / str(count)
        work.mkdir()
        for step in ("write", "read"):
            command = [sys.executable, "-c", CHILD, str(work), step, str(count)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peak[step, count] = int(done.stdout)
    # 20,000 records are 1 MB, and as objects some 10 MB: neither is in memory
    assert peak["write", 20_000] - peak["write", 100] < 4_000
    assert peak["read", 20_000] - peak["read", 100] < 4_000


@pytest.mark.parametrize("step", ["write", "read"])
def test_a_kill_leaves_nothing_under_the_name_and_the_next_one_clears_up(tmp_path, step):
    work = tmp_path / "w"
    work.mkdir()
    if step == "read":
        subprocess.run(
            [sys.executable, "-c", CHILD, str(work), "write", "3000"], check=True, capture_output=True
        )
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(work), step, "200000" if step == "write" else "3000"]
    )
    waited_for = (lambda: any(work.glob(".x.*.partial"))) if step == "write" else (work / "out").exists
    deadline = time.monotonic() + 30
    while not waited_for() and time.monotonic() < deadline:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    if step == "write":
        assert not (work / "x").exists()
        assert any(work.glob(".x.*.partial"))
        write(work / "x", READER.public_bytes, PURPOSE, {}, SENDER, [Member("one", work, "one")], work)
        assert sorted(p.name for p in work.iterdir()) == ["one", "x"]
    else:
        assert (work / "x").exists()


def test_public_keys_are_read_as_they_are_written(tmp_path):
    file = tmp_path / "k.pub"
    file.write_text(written_public_key(READER.public_bytes) + "\n")
    assert read_public_key(file) == READER.public_bytes
    for text in ("", READER.public_bytes.hex(), "x25519:12", "x25519:" + "g" * 64, "ed25519:" + "0" * 64):
        file.write_text(text)
        with pytest.raises(DataError, match="public key"):
            read_public_key(file)
    with pytest.raises(DataError):
        read_public_key(Path(tmp_path / "none"))
