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
Breaks = Callable[[Path], object]


def append(table: str, row: str) -> Breaks:
    return lambda root: (root / table).write_text((root / table).read_text() + row + "\n")


def annotate(table: str, name: str, change: Callable[[str], str] = str) -> Breaks:
    """Append the table's first row under another name."""

    def breaks(root: Path) -> None:
        joints = (root / table).read_text().splitlines()[1].partition(":")[2]
        append(table, change(f"{name}:{joints}"))(root)

    return breaks


def rewrite(name: str, change: Callable[[bytes], bytes]) -> Breaks:
    return lambda root: (root / name).write_bytes(change((root / name).read_bytes()))


def replace(name: str, content: bytes) -> Breaks:
    return rewrite(name, lambda _: content)


def copy(source: str, target: str) -> Breaks:
    return lambda root: (root / target).write_bytes((root / source).read_bytes())


def both(*steps: Breaks) -> Breaks:
    return lambda root: [step(root) for step in steps]


def link(name: str, target: Callable[[Path], Path]) -> Breaks:
    """Replace an image by a link to a copy of it elsewhere."""

    def breaks(root: Path) -> None:
        target(root).write_bytes((root / name).read_bytes())
        (root / name).unlink()
        (root / name).symlink_to(target(root))

    return breaks


def png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG file that claims to have so many pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def joint(axis_from: str, axis_to: str) -> Breaks:
    return annotate(TRAIN, "9_a.png", lambda row: row.replace(axis_from, axis_to, 1))


# Defects of the files: how a good data set is broken, then file, row (None: the whole file) and words of the problem.
FILES: dict[str, tuple[Breaks, str, int | None, str]] = {
    "image missing": (lambda root: (root / "train/1_b.png").unlink(), TRAIN, 3, "train/1_b.png: the image is missing"),
    "folder missing": (
        lambda root: (root / "test").rename(root / "tests"),
        "test/",
        None,
        "folder of the images is miss",
    ),
    "image empty": (replace("train/1_b.png", b""), TRAIN, 3, "train/1_b.png: the image cannot be read"),
    "image that is text": (replace("train/1_b.png", b"not a picture\n"), TRAIN, 3, "1_b.png: the image cannot be read"),
    "image truncated": (
        rewrite("test/3_b.png", lambda data: data[:-300]),
        TEST,
        3,
        "3_b.png: the image cannot be read",
    ),
    "image damaged": (
        rewrite("test/3_b.png", lambda data: data[:900] + bytes(50) + data[950:]),
        *(TEST, 3, "test/3_b.png: the image cannot be read"),
    ),
    "image of another size": (
        lambda root: Image.new("RGB", (16, 36)).save(root / "train/2_a.png"),
        *(TRAIN, 5, "train/2_a.png: 16 x 36 pixels (width x height); expected 16 x 32"),
    ),
    "image of 3.6 billion pixels": (replace("train/2_a.png", png_header(60_000, 60_000)), TRAIN, 5, "cannot be read"),
    "image of 0.1 billion pixels": (replace("train/2_a.png", png_header(10_000, 10_000)), TRAIN, 5, "cannot be read"),
    "image linked elsewhere": (
        link("train/1_b.png", lambda root: root.parent / "secret.png"),
        *(TRAIN, 3, "train/1_b.png: a link that leaves the folder"),
    ),
    "image linked to nowhere": (
        both(
            lambda root: (root / "train/1_b.png").unlink(), lambda root: (root / "train/1_b.png").symlink_to("nowhere")
        ),
        *(TRAIN, 3, "train/1_b.png: the image is missing"),
    ),
    "image that is a folder": (
        both(lambda root: (root / "train/1_b.png").unlink(), lambda root: (root / "train/1_b.png").mkdir()),
        *(TRAIN, 3, "train/1_b.png: the image is missing"),
    ),
    "annotations missing": (lambda root: (root / TEST).unlink(), TEST, None, "the file cannot be read"),
    "annotations empty": (replace(TEST, b""), TEST, None, "the file is empty"),
    "annotations without rows": (replace(TEST, b"name:keypoints_y:keypoints_x\n"), PAIRS, None, "no usable pair"),
    "annotations without header": (
        rewrite(TEST, lambda data: data.partition(b"\n")[2]),
        TEST,
        1,
        "the header is '3_a.p",
    ),
    "annotations in Latin-1": (
        rewrite(TEST, lambda data: data.replace(b"3_b", b"3_\xe4")),
        TEST,
        3,
        "not text in UTF-8",
    ),
    "annotations binary": (replace(TEST, bytes(range(256)) * 40), TEST, 1, "the header is"),
    "annotations in UTF-16": (
        rewrite(TEST, lambda data: data.decode().encode("utf-16")),
        *(TEST, 1, "not text in UTF-8"),
    ),
    "annotations with another separator": (
        rewrite(TEST, lambda data: data.replace(b":", b";")),
        *(TEST, 1, "the header is 'name;keypoints_y;keypoints_x'; expected name:keypoints_y:keypoints_x"),
    ),
    "annotation malformed": (append(TRAIN, "9_a.png: [1, 2: [3]"), TRAIN, 7, "9_a.png: the list of y cannot be read"),
    "annotation of 17 joints": (joint("[1, ", "["), TRAIN, 7, "17 values of y; expected 18"),
    "annotation of 18 y and 17 x": (joint(", 13]", "]"), TRAIN, 7, "17 values of x; expected 18"),
    "joint that is a word": (joint("[1, ", '["left", '), TRAIN, 7, "'\"left\"' among the values of y is no coordinate"),
    "joint that is no number": (joint("[1, ", "[NaN, "), TRAIN, 7, "'NaN' among the values of y is no coordinate"),
    "duplicate name": (annotate(TRAIN, "1_a.png"), TRAIN, 7, "1_a.png is annotated already in row 2"),
    "same name but for suffix": (
        both(copy("train/1_a.png", "train/1_a.bmp"), annotate(TRAIN, "1_a.bmp")),
        *(TRAIN, 7, "1_a.bmp is named like the image of row 2 but for folder and suffix"),
    ),
    "name above the root": (annotate(TRAIN, "../1_z.png"), TRAIN, 7, "'../1_z.png' leaves the folder"),
    "absolute name": (annotate(TRAIN, "/tmp/1_z.png"), TRAIN, 7, "'/tmp/1_z.png' leaves the folder"),
    "no identity in a name": (
        both(copy("train/1_a.png", "train/x.png"), annotate(TRAIN, "x.png")),
        *(TRAIN, 7, "no identity in the name x.png"),
    ),
    "pairs with another header": (
        rewrite(PAIRS, lambda data: data.replace(b"to", b"into")),
        PAIRS,
        1,
        "'from,into'; exp",
    ),
    "pairs without rows": (replace(PAIRS, b"from,to\n"), PAIRS, None, "no usable pair"),
    "pair of unknown image": (append(PAIRS, "3_a.png,8_a.png"), PAIRS, 3, "8_a.png is unknown"),
    "pair without annotation": (
        both(copy("test/3_a.png", "test/8_a.png"), append(PAIRS, "8_a.png,3_a.png")),
        *(PAIRS, 3, "8_a.png has no annotation"),
    ),
    "pair above the root": (
        append(PAIRS, "../train/1_a.png,3_a.png"),
        PAIRS,
        3,
        "'../train/1_a.png' leaves the folder",
    ),
    "pair of three": (append(PAIRS, "3_a.png,3_b.png,4_a.png"), PAIRS, 3, "3 fields separated by ','; expected 2"),
    "pair twice": (append(PAIRS, "3_a.png,3_b.png"), PAIRS, 3, "the pair is listed already in row 2"),
    "pair with itself": (append(PAIRS, "3_a.png,3_a.png"), PAIRS, 3, "3_a.png is paired with itself"),
    "no derived pair": (
        rewrite(TRAIN, lambda table: re.sub(rb"\[(\d+), (\d+), (\d+),", rb"[\1, \2, -1,", table)),
        *(TRAIN, None, "no usable pair"),
    ),
    "picture in both splits": (
        lambda root: Image.open(root / "train/1_a.png").save(root / "test/3_a.png", compress_level=1),
        *(TEST, 2, "test/3_a.png: the same picture as train/1_a.png"),
    ),
    "name in both splits": (
        both(copy("test/3_a.png", "test/1_a.png"), annotate(TEST, "1_a.png")),
        *(TEST, 6, "1_a.png is in train as well (market-annotation-train.csv, row 2)"),
    ),
    "person in both splits": (
        both(copy("test/3_a.png", "test/1_z.png"), annotate(TEST, "1_z.png")),
        *(TEST, 6, "person 1 is in train as well (market-annotation-train.csv, row 2)"),
    ),
}


def tree(folder: Path) -> dict[str, bytes | str | None]:
    """Everything in a folder, with what files hold and where links lead."""
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else (path.read_bytes() if path.is_file() else None)
        for path in folder.rglob("*")
    }


def refused(tmp_path: Path, capsys: pytest.CaptureFixture, *arguments: str) -> list[str]:
    """The lines of the message with which the command refuses these arguments, nothing having changed."""
    before = tree(tmp_path)
    assert main(["market1501", "--cache", str(tmp_path / "cache"), *arguments]) == 2
    assert tree(tmp_path) == before
    captured = capsys.readouterr()
    assert captured.out == "" and "Traceback" not in captured.err
    return captured.err.splitlines()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", FILES)
def test_a_broken_file_is_refused_with_file_and_row(make_layout, tmp_path, capsys, case):
    breaks, file, row, message = FILES[case]
    root = make_layout(pairs={"test": "from,to\n3_a.png,3_b.png\n"})
    breaks(root)
    first, _, header, *rows = refused(tmp_path, capsys, "--root", str(root))
    assert re.fullmatch(rf"[1-9]\d* problems? in {root}; nothing was prepared.", first) and "problem" in header
    cells = [file, *([] if row is None else [str(row)])]
    told = [line for line in rows if line.split()[: len(cells)] == cells and message in line]
    assert len(told) == 1, "\n".join(rows)


# Defects of the command or of a whole root: arguments after the root, how it is broken, words of the one line.
COMMANDS: dict[str, tuple[list[str], Breaks, str]] = {
    "no such root": (["--root", "{root}/nowhere"], lambda root: None, "nowhere does not exist; expected a folder with"),
    "root is a file": (
        ["--root", "{root}/train/1_a.png"],
        lambda root: None,
        "1_a.png is a file; expected a folder with",
    ),
    "root of nobody": (["--root", "~nobody-known/data"], lambda root: None, "data does not exist"),
    "root without annotations": (
        ["--root", "{root}/train"],
        lambda root: None,
        "looked for market-annotation-train.csv, fasion-resize-annotation-train.csv, fasion-",
    ),
    "several sets": (
        ["--root", "{root}"],
        both(
            lambda root: (root / TRAIN).rename(root / f"my-{TRAIN}"),
            lambda root: (root / f"your-{TRAIN}").write_text(""),
        ),
        "has several sets (my-market, your-market)",
    ),
    "cache is a file": (
        ["--root", "{root}", "--cache", "{root}/train/1_a.png"],
        lambda root: None,
        "1_a.png is a file",
    ),
    "cache in a file": (
        ["--root", "{root}", "--cache", "{root}/train/1_a.png/x"],
        lambda root: None,
        "1_a.png is a file",
    ),
    "cache that cannot be made": (
        ["--root", "{root}", "--cache", "/proc/x"],
        lambda root: None,
        "cache /proc/x cannot be made",
    ),
    "pattern that is none": (
        ["--root", "{root}", "--identity-pattern", "("],
        lambda root: None,
        "'(' is not a regular expression",
    ),
    "pattern without group": (["--root", "{root}", "--identity-pattern", "a"], lambda root: None, "'a' has no group"),
    "height of 30": (["--root", "{root}", "--height", "30"], lambda root: None, "height is 30 pixels; accepted: mult"),
    "options of synthetic people": (
        ["--root", "{root}", "--views", "3", "--seed", "0"],
        lambda root: None,
        "--views, --seed: only for the synthetic people",
    ),
    "no test pairs": (
        ["--root", "{root}", "--test-pairs", "0"],
        lambda root: None,
        "test_pairs is 0; accepted: 1 or more",
    ),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_a_command_that_cannot_be_carried_out_is_refused_in_one_line(make_layout, tmp_path, capsys, case):
    arguments, breaks, message = COMMANDS[case]
    root = make_layout()
    breaks(root)
    (line,) = refused(tmp_path, capsys, *(argument.format(root=root) for argument in arguments))
    assert line.startswith("xinggan.data.prepare: ") and message in line


def test_a_pattern_that_fits_no_name_is_one_problem_of_each_table(make_layout, tmp_path, capsys):
    lines = refused(tmp_path, capsys, "--root", str(make_layout()), "--identity-pattern", "(x+)")
    assert lines[0].startswith("2 problems in ")
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
    independent = [
        *(
            "image missing",
            "image truncated",
            "image of another size",
            "annotation of 17 joints",
            "name above the root",
        ),
        *("pair of unknown image", "picture in both splits"),
    ]
    for case in independent:
        FILES[case][0](root)
    lines = refused(tmp_path, capsys, "--root", str(root))
    assert lines[0].startswith(f"{len(independent)} problems in ")
    for case in independent:
        assert any(FILES[case][3] in line for line in lines), case
