"""Broken data sets, one defect at a time: one message with file and row, exit status 2, and not a file more or less."""

import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from xinggan.data.prepare import main

TRAIN, TEST, PAIRS = "market-annotation-train.csv", "market-annotation-test.csv", "market-pairs-test.csv"
NAME = "xinggan.data.prepare"
Breaks = Callable[[Path], object]


def append(table: str, row: str) -> Breaks:
    return lambda root: (root / table).write_text((root / table).read_text() + row + "\n")


def annotate(table: str, name: str) -> Breaks:
    """Append the table's first row under another name."""

    def breaks(root: Path) -> None:
        append(table, f"{name}:{(root / table).read_text().splitlines()[1].partition(':')[2]}")(root)

    return breaks


def rewrite(name: str, change: Callable[[bytes], bytes]) -> Breaks:
    return lambda root: (root / name).write_bytes(change((root / name).read_bytes()))


def replace(name: str, content: bytes) -> Breaks:
    return rewrite(name, lambda _: content)


def remove(name: str) -> Breaks:
    return lambda root: (root / name).unlink()


def copy(source: str, target: str) -> Breaks:
    return lambda root: (root / target).write_bytes((root / source).read_bytes())


def both(*steps: Breaks) -> Breaks:
    return lambda root: [step(root) for step in steps]


def linked_elsewhere(root: Path) -> None:
    (root.parent / "secret.png").write_bytes((root / "train/1_b.png").read_bytes())
    remove("train/1_b.png")(root)
    (root / "train/1_b.png").symlink_to(root.parent / "secret.png")


def png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG file that claims to have so many pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


# Defects of the files: how a good data set is broken, the file and row of the problem, and words of it.
UNREADABLE = "the image cannot be read"
FILES: dict[str, tuple[Breaks, tuple[str | int, ...], str]] = {
    "image missing": (remove("train/1_b.png"), (TRAIN, 3), "train/1_b.png: the image is missing"),
    "folder missing": (lambda root: (root / "test").rename(root / "tests"), ("test/",), "folder of the images is miss"),
    "image empty": (replace("train/1_b.png", b""), (TRAIN, 3), f"train/1_b.png: {UNREADABLE}"),
    "image that is text": (replace("train/1_b.png", b"not a picture\n"), (TRAIN, 3), f"1_b.png: {UNREADABLE}"),
    "image truncated": (rewrite("test/3_b.png", lambda data: data[:-300]), (TEST, 3), f"test/3_b.png: {UNREADABLE}"),
    "image damaged": (
        rewrite("test/3_b.png", lambda data: data[:900] + bytes(50) + data[950:]),
        *((TEST, 3), f"test/3_b.png: {UNREADABLE}"),
    ),
    "image of another size": (
        lambda root: Image.new("RGB", (16, 36)).save(root / "train/2_a.png"),
        *((TRAIN, 5), "train/2_a.png: 16 x 36 pixels (width x height); expected 16 x 32"),
    ),
    "3.6 billion pixels": (replace("train/2_a.png", png_header(60_000, 60_000)), (TRAIN, 5), UNREADABLE),
    "0.1 billion pixels": (replace("train/2_a.png", png_header(10_000, 10_000)), (TRAIN, 5), UNREADABLE),
    "image linked elsewhere": (linked_elsewhere, (TRAIN, 3), "train/1_b.png: a link that leaves the folder"),
    "image linked to nowhere": (
        both(remove("train/1_b.png"), lambda root: (root / "train/1_b.png").symlink_to("nowhere")),
        *((TRAIN, 3), "train/1_b.png: the image is missing"),
    ),
    "image that is a folder": (
        both(remove("train/1_b.png"), lambda root: (root / "train/1_b.png").mkdir()),
        *((TRAIN, 3), "train/1_b.png: no file but a folder"),
    ),
    "image that is a pipe": (
        both(remove("train/1_b.png"), lambda root: os.mkfifo(root / "train/1_b.png")),
        *((TRAIN, 3), "train/1_b.png: no file but a folder, pipe or device"),
    ),
    "annotations that are a pipe": (both(remove(TEST), lambda root: os.mkfifo(root / TEST)), (TEST,), "no file but a"),
    "blank first line": (
        rewrite(TRAIN, lambda data: b"\n" + data),
        (TRAIN, 1),
        "the line is blank; expected the header",
    ),
    "name of 256 bytes": (annotate(TRAIN, "x" * 252 + ".png"), (TRAIN, 7), "is too long for a file's name"),
    "path of 4,005 bytes": (annotate(TRAIN, "x/" * 2000 + "a.png"), (TRAIN, 7), "is too long for a file's name"),
    "annotations missing": (remove(TEST), (TEST,), "the file cannot be read"),
    "annotations without rows": (replace(TEST, b"name:keypoints_y:keypoints_x\n"), (PAIRS,), "no usable pair"),
    "Latin-1": (rewrite(TEST, lambda data: data.replace(b"3_b", b"3_\xe4")), (TEST, 3), "not text in UTF-8"),
    "annotation malformed": (append(TRAIN, "9_a.png: [1, 2: [3]"), (TRAIN, 7), "9_a.png: the list of y cannot be read"),
    "duplicate name": (annotate(TRAIN, "1_a.png"), (TRAIN, 7), "1_a.png is annotated already in row 2"),
    "same name but for suffix": (
        both(copy("train/1_a.png", "train/1_a.bmp"), annotate(TRAIN, "1_a.bmp")),
        *((TRAIN, 7), "1_a.bmp is named like the image of row 2 but for its suffix"),
    ),
    "name above the root": (annotate(TRAIN, "../1_z.png"), (TRAIN, 7), "'../1_z.png' leaves the folder"),
    "no identity in a name": (
        both(copy("train/1_a.png", "train/x.png"), annotate(TRAIN, "x.png")),
        *((TRAIN, 7), "no identity in the name x.png"),
    ),
    "pairs with another header": (
        rewrite(PAIRS, lambda data: data.replace(b"to", b"into")),
        *((PAIRS, 1), "the header is 'from,into'; expected from,to"),
    ),
    "pairs without rows": (replace(PAIRS, b"from,to\n"), (PAIRS,), "no usable pair"),
    "pair of unknown image": (append(PAIRS, "3_a.png,8_a.png"), (PAIRS, 3), "8_a.png is unknown"),
    "pair without annotation": (
        both(copy("test/3_a.png", "test/8_a.png"), append(PAIRS, "8_a.png,3_a.png")),
        *((PAIRS, 3), "8_a.png has no annotation"),
    ),
    "pair above the root": (append(PAIRS, "../train/1_a.png,3_a.png"), (PAIRS, 3), "1_a.png' leaves the folder"),
    "pair of three": (append(PAIRS, "3_a.png,3_b.png,4_a.png"), (PAIRS, 3), "3 fields separated by ','; expected 2"),
    "pair twice": (append(PAIRS, "3_a.png,3_b.png"), (PAIRS, 3), "the pair is listed already in row 2"),
    "pair with itself": (append(PAIRS, "3_a.png,3_a.png"), (PAIRS, 3), "3_a.png is paired with itself"),
    "no derived pair": (
        rewrite(TRAIN, lambda table: re.sub(rb"\[(\d+), (\d+), (\d+),", rb"[\1, \2, -1,", table)),
        *((TRAIN,), "no usable pair"),
    ),
    "picture in both splits": (
        lambda root: Image.open(root / "train/1_a.png").save(root / "test/3_a.png", compress_level=1),
        *((TEST, 2), "test/3_a.png: the same picture as train/1_a.png"),
    ),
    "name in both splits": (
        both(copy("test/3_a.png", "test/1_a.png"), annotate(TEST, "1_a.png")),
        *((TEST, 6), "1_a.png is in train as well (market-annotation-train.csv, row 2)"),
    ),
    "person in both splits": (
        both(copy("test/3_a.png", "test/1_z.png"), annotate(TEST, "1_z.png")),
        *((TEST, 6), "person 1 is in train as well (market-annotation-train.csv, row 2)"),
    ),
}


def tree(folder: Path) -> dict[str, object]:
    """Everything in a folder, with what files hold and where links lead."""
    return {
        str(path.relative_to(folder)): path.readlink() if path.is_symlink() else path.is_file() and path.read_bytes()
        for path in folder.rglob("*")
    }


def refused(tmp_path: Path, capsys: pytest.CaptureFixture, *arguments: str) -> list[str]:
    """The lines of the message with which the command refuses these arguments, nothing having changed."""
    before = tree(tmp_path)
    assert main(["--cache", str(tmp_path / "cache"), *arguments]) == 2
    assert tree(tmp_path) == before
    captured = capsys.readouterr()
    assert captured.out == "" and "Traceback" not in captured.err
    return captured.err.splitlines()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", FILES)
def test_a_broken_file_is_refused_with_file_and_row(make_layout, tmp_path, capsys, case):
    breaks, where, message = FILES[case]
    root = make_layout(pairs={"test": "from,to\n3_a.png,3_b.png\n"})
    breaks(root)
    first, _, header, *rows = refused(tmp_path, capsys, "market1501", "--root", str(root))
    assert re.fullmatch(rf"{NAME}: [1-9]\d* problems? in {root}; nothing was prepared.", first) and "problem" in header
    told = [line for line in rows if line.split()[: len(where)] == [*map(str, where)] and message in line]
    assert len(told) == 1, "\n".join(rows)


def two_sets(root: Path) -> None:
    (root / TRAIN).rename(root / f"my-{TRAIN}")
    (root / f"your-{TRAIN}").touch()


# Defects of the command or of a whole root: words of the command, and words of the one line.
MARKET = "market1501 --root {root}"
COMMANDS: dict[str, tuple[str, str]] = {
    "no root": ("market1501", "needs root"),
    "no such root": (f"{MARKET}/nowhere", "nowhere does not exist; expected a folder with"),
    "root is a file": (f"{MARKET}/train/1_a.png", "1_a.png is a file; expected a folder with"),
    "root of nobody": ("market1501 --root ~nobody-known/data", "data does not exist"),
    "root without annotations": (f"{MARKET}/train", "looked for market-annotation-train.csv, fasion-res"),
    "several sets": (MARKET, "has several sets (my-market, your-market)"),
    "cache is a file": (f"{MARKET} --cache {{root}}/train/1_a.png", "1_a.png is a file"),
    "cache in a file": (f"{MARKET} --cache {{root}}/train/1_a.png/x", "1_a.png is a file"),
    "cache that cannot be made": (f"{MARKET} --cache /proc/x", "cache /proc/x cannot be made"),
    "pattern that is none": (f"{MARKET} --identity-pattern (", "'(' is not a regular expression"),
    "pattern without group": (f"{MARKET} --identity-pattern a", "'a' has no group"),
    "height of 30": (f"{MARKET} --height 30", "height is 30 pixels; accepted: multiples of 4"),
    "no test pairs": (f"{MARKET} --test-pairs 0", "test_pairs is 0; accepted: 1 or more"),
    "one view": ("synthetic --views 1", "views is 1"),
    "options of synthetic people": (f"{MARKET} --views 3 --seed 0", "--views, --seed: only for the synthetic people"),
    "options of photographs": ("synthetic --resize --root .", "--root, --resize: only for photographs; leave out for"),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_a_command_that_cannot_be_carried_out_is_refused_in_one_line(make_layout, tmp_path, capsys, case):
    words, message = COMMANDS[case]
    root = make_layout()
    if case == "several sets":
        two_sets(root)
    (line,) = refused(tmp_path, capsys, *words.format(root=root).split())
    assert line.startswith(f"{NAME}: ") and message in line


def test_a_pattern_that_fits_no_name_is_one_problem_of_each_table(make_layout, tmp_path, capsys):
    lines = refused(tmp_path, capsys, "market1501", "--root", str(make_layout()), "--identity-pattern", "(x+)")
    assert lines[0].startswith(f"{NAME}: 2 problems in ")
    assert [line.split()[0] for line in lines[3:]] == [TRAIN, TEST]
    assert "'(x+)' fits none of 5 names, 1_a.png for one; set identity_pattern" in lines[3]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
@pytest.mark.parametrize("name", ["train/1_b.png", TRAIN])
def test_a_file_that_must_not_be_read_is_named(make_layout, tmp_path, capsys, name):
    root = make_layout()
    (root / name).chmod(0)
    before = set(tmp_path.rglob("*"))
    assert main(["market1501", "--root", str(root), "--cache", str(tmp_path / "cache")]) == 2
    assert name in capsys.readouterr().err and set(tmp_path.rglob("*")) == before


def test_all_problems_are_told_at_once(make_layout, tmp_path, capsys):
    root = make_layout(pairs={"test": "from,to\n3_a.png,3_b.png\n"})
    independent = ["image missing", "image truncated", "image of another size", "annotation malformed"]
    independent += ["pair of unknown image", "picture in both splits"]
    for case in independent:
        FILES[case][0](root)
    lines = refused(tmp_path, capsys, "market1501", "--root", str(root))
    assert lines[0].startswith(f"{NAME}: {len(independent)} problems in ")
    for case in independent:
        assert any(FILES[case][2] in line for line in lines), case
