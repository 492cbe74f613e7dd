"""Preparing: found again by content, prepared again when a byte changes, whole or not at all, and a command."""

import os
import re
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from xinggan.data import photographs
from xinggan.data import prepare as preparing
from xinggan.data.prepare import digest, main, prepare
from xinggan.data.settings import DatasetSettings


def market(root: Path, **others) -> DatasetSettings:
    return DatasetSettings("market1501", root=str(root), **others)


def flip_last_byte(path: Path) -> None:
    """Change one byte and nothing that a look at the folder would show, except the time of change."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_the_digest_changes_with_any_content_and_not_with_the_root(make_layout, tmp_path):
    root = make_layout(pairs={"test": "from,to\n3_a.png,3_b.png\n"})
    digests = {digest(market(root))}
    moved = root.rename(tmp_path / "elsewhere")
    assert digest(market(moved)) in digests
    files = sorted(path for path in moved.rglob("*") if path.is_file())
    assert len(files) == 12
    for path in files:
        flip_last_byte(path)
        digests.add(digest(market(moved)))
    assert len(digests) == 1 + len(files)
    (moved / "train/not_annotated.png").write_bytes(b"")
    assert digest(market(moved)) in digests


@pytest.mark.parametrize("kind", ["folder", "synthetic"])
def test_the_digest_depends_on_the_settings_of_its_kind_of_data_set_only(make_layout, kind):
    of_both = [{"height": 32}, {"mask_radius": 3}, {"test_pairs": 10}]
    of_photographs = [{"resize": True}, {"identity_pattern": "(.)"}]
    of_synthetic = [{"people_train": 7}, {"people_test": 7}, {"views": 3}, {"seed": 4}]
    effective, others = of_both + of_photographs, of_synthetic
    if kind == "synthetic":  # the defaults of its size are known
        effective, others = of_both + of_synthetic, [*of_photographs, {"root": "x"}, {"height": 128, "width": 64}]
    settings = {"name": kind, "root": str(make_layout())}
    unchanged = digest(DatasetSettings(**settings))
    assert {digest(DatasetSettings(**{**settings, **change})) for change in others} == {unchanged}
    changed = {digest(DatasetSettings(**{**settings, **change})) for change in effective}
    assert len(changed - {unchanged}) == len(effective)


def test_the_digest_of_synthetic_people_changes_with_their_generator(monkeypatch):
    before = digest(DatasetSettings())
    monkeypatch.setattr("xinggan.data.synthetic.GENERATOR_VERSION", "another")
    assert digest(DatasetSettings()) != before


def test_a_prepared_data_set_is_found_again_without_decoding(make_layout, tmp_path, monkeypatch):
    root = make_layout()
    first = prepare(market(root), tmp_path / "cache", progress=False)
    monkeypatch.setattr(photographs, "read_picture", None)
    again = prepare(market(root), tmp_path / "cache", progress=False)
    assert again.directory == first.directory and again.digest == digest(market(root))


def test_settled_files_are_not_read_again_and_changed_ones_are(make_layout, tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, "SETTLED_AFTER_S", -1e9)  # as if the files were old
    root, cache = make_layout(), tmp_path / "cache"
    first = prepare(market(root), cache, progress=False)
    with monkeypatch.context() as without_reading:
        without_reading.setattr(Path, "read_bytes", None)
        assert prepare(market(root), cache, progress=False).digest == first.digest == digest(market(root), cache)
    flip_last_byte(root / "market-annotation-test.csv")
    assert digest(market(root), cache) != first.digest


def test_files_that_were_just_written_are_read_again_to_be_sure(make_layout, tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, "SETTLED_AFTER_S", 600)
    prepare(market(make_layout()), tmp_path / "cache", progress=False)
    assert not (tmp_path / "cache" / preparing.MEMORY).exists()


def test_a_broken_pack_is_prepared_again(make_layout, tmp_path, capsys):
    root = make_layout()
    first = prepare(market(root), tmp_path / "cache", progress=False)
    (first.directory / "train/images.npy").write_bytes(b"half")
    assert prepare(market(root), tmp_path / "cache", progress=False).train.images.shape == (5, 32, 16, 3)
    assert "not a complete packed data set" in capsys.readouterr().err


# Prepare a data set two images at a time, killed at one of them.
KILLED = """
import os, signal, sys
from xinggan.data import photographs
from xinggan.data.prepare import main

photographs.IMAGES_AT_ONCE = 2
read_picture, last, read = photographs.read_picture, sys.argv.pop(1), []

def reading(path, pose, framing):
    read.append(path.name)
    if read.count(last) == 2:  # the first time it is looked at, before anything is written
        os.kill(os.getpid(), signal.SIGKILL)
    return read_picture(path, pose, framing)

photographs.read_picture = reading
sys.exit(main(sys.argv[1:]))
"""


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("last", ["2_a.png", "4_b.png"])
def test_a_packing_that_was_killed_starts_again_and_gives_the_same_bytes(make_layout, tmp_path, last):
    root, cache = make_layout(), tmp_path / "cache"
    command = [sys.executable, "-c", KILLED, last, "market1501", "--root", str(root), "--cache", str(cache)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert any(path.name.endswith(".part") for path in cache.iterdir())
    again = prepare(market(root), cache, progress=False)
    assert bytes_in(again.directory) == bytes_in(prepare(market(root), tmp_path / "other", progress=False).directory)
    assert [path for path in cache.iterdir() if path.name != preparing.MEMORY] == [again.directory]


def test_an_interrupted_command_leaves_nothing_and_says_so(make_layout, tmp_path, monkeypatch, capsys):
    def interrupt(path, pose, framing):
        raise KeyboardInterrupt

    monkeypatch.setattr(photographs, "read_picture", interrupt)
    assert main(["market1501", "--root", str(make_layout()), "--cache", str(tmp_path / "cache")]) == 130
    assert capsys.readouterr().err == "xinggan.data.prepare: interrupted; nothing is left half-written\n"
    assert not (tmp_path / "cache").exists()


def test_files_that_change_while_they_are_packed_are_refused(make_layout, tmp_path, monkeypatch):
    root, read_picture = make_layout(), photographs.read_picture

    def changing(path, pose, framing):
        if path.name == "4_b.png":
            flip_last_byte(root / "train/1_a.png")
        return read_picture(path, pose, framing)

    monkeypatch.setattr(photographs, "read_picture", changing)
    with pytest.raises(ValueError, match="changed while they were packed"):
        prepare(market(root), tmp_path / "cache", progress=False)
    assert not (tmp_path / "cache").exists()


def test_the_command_prints_the_card_and_keeps_it(make_layout, tmp_path, capsys):
    root = make_layout()
    assert main(["market1501", "--root", str(root), "--cache", str(tmp_path / "cache"), "--test-pairs", "3"]) == 0
    printed = capsys.readouterr().out
    dataset = prepare(market(root, test_pairs=3), tmp_path / "cache", progress=False)
    for expected in (dataset.digest, str(dataset.directory), "right elbow", "100.0%"):
        assert expected in printed
    assert str(root) not in (dataset.directory / "card.json").read_text()


def test_peak_memory_does_not_grow_with_the_number_of_images(make_layout, tmp_path):
    height, width, counts, peaks = 128, 64, (192, 448), []
    for count in counts:
        names = tuple(f"{n}_{n}.png" for n in range(count))
        pairs = {"train": f"from,to\n{names[0]},{names[1]}\n"}
        root = make_layout(train=names, size=(width, height), pairs=pairs, root=tmp_path / f"{count}")
        table = root / "market-annotation-train.csv"
        table.write_text(
            re.sub(r"\[.*?\]", str([-1] * 18), table.read_text())
        )  # without joints masks are drawn at once
        tracemalloc.start()
        prepare(DatasetSettings("folder", root=str(root)), tmp_path / "cache", progress=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < (counts[1] - counts[0]) * height * width * 3 / 4, peaks


def test_help_needs_nothing_heavy():
    code = (
        "import sys, xinggan.data.prepare as prepare\n"
        "try: prepare.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'numpy', 'torch', 'pandas', 'skimage', 'PIL'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "usage: python -m xinggan.data.prepare" in result.stdout and result.stdout.splitlines()[-1] == "[]"
