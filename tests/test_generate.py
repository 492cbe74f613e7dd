"""The command that generates from a photograph: what it writes is what the run was scored on, or it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from xinggan.data.poses import draw_skeleton
from xinggan.generate import main
from xinggan.model.method import Method
from xinggan.trained import load_trained, read_run
from xinggan.training.generation import generate_pairs, generate_poses

HEIGHT, WIDTH = 32, 16


def pose_json(pose, height=HEIGHT, width=WIDTH):
    joints = [[float(x), float(y)] if visible else None for x, y, visible in pose]
    return json.dumps({"joints": joints, "height": height, "width": width})


@pytest.fixture
def files(tmp_path, trained_on):
    """A folder as a person has it: pair p's photograph source-p.png and poses source-p.json and target-p.json."""
    split = trained_on.test
    for p in range(4):
        source, target = split.pairs[p]
        Image.fromarray(split.images[source]).save(tmp_path / f"source-{p}.png")
        (tmp_path / f"source-{p}.json").write_text(pose_json(split.poses[source]))
        (tmp_path / f"target-{p}.json").write_text(pose_json(split.poses[target]))
    return tmp_path


@pytest.fixture
def generate(trained_run, files):
    """generate("--pose", "target-0.json", ...) -> exit status; words that name something in the folder become paths."""

    def command(*words, run=trained_run, source=("source-0.png", "--source-pose", "source-0.json"), out="out.png"):
        words = ["--run", str(run), "--source", *source, "--out", out, "--device", "cpu", *words]
        suffixes = (".png", ".json", ".csv", ".gif", ".jpg", "poses")
        return main([str(files / word) if word.partition(".csv:")[0].endswith(suffixes) or ".csv:" in word else word
                     for word in words])  # fmt: skip

    return command


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


def of_pairs(trained_run, trained_on, pairs):
    """What `generate_pairs` gives, one pair at a time."""
    return generate_pairs(load_trained(read_run(trained_run), "cpu").method, trained_on.test, pairs, batch=1)


def test_an_image_is_the_one_that_was_scored(generate, files, trained_run, trained_on):
    for p in (0, 3):
        source = (f"source-{p}.png", "--source-pose", f"source-{p}.json")
        assert generate("--pose", f"target-{p}.json", source=source) == 0
        image = pixels(files / "out.png")
        assert np.array_equal(image, of_pairs(trained_run, trained_on, [p])[0])
        scored = pixels(trained_run / "generated" / f"{p:06d}.png")  # in a batch of twelve, so rounded by itself
        assert np.abs(image.astype(int) - scored).max() <= 1


def test_poses_come_from_rows_and_photographs_as_from_json(generate, files, trained_on):
    split = trained_on.test
    (source, first), (_, second) = split.pairs[0], split.pairs[1]
    rounded = np.where(split.poses[..., 2:] > 0, split.poses.round(), -1)
    rows = ["name:keypoints_y:keypoints_x"]
    for name, image in (("source-0.png", source), ("deep/other.png", first), ("last.png", second)):
        pose = rounded[image].astype(int)
        rows.append(f"{name}: {pose[:, 1].tolist()}: {pose[:, 0].tolist()}")
    (files / "table.csv").write_text("\n".join(rows) + "\n")
    (files / "deep").mkdir()
    Image.fromarray(split.images[first]).save(files / "deep" / "other.png")
    for name, image in (("source-0", source), ("target-0", first)):
        pose = np.where(split.poses[image][:, 2:] > 0, rounded[image], split.poses[image])
        (files / f"{name}.json").write_text(pose_json(pose))
    annotated = {"source": ("source-0.png", "--annotation", "table.csv")}
    images = []
    for words in (["target-0.json"], ["table.csv:deep/other.png"], ["deep/other.png"]):
        assert generate("--pose", *words, **annotated) == 0
        images.append(pixels(files / "out.png"))
    assert np.array_equal(images[0], images[1])
    assert np.array_equal(images[0], images[2])
    assert generate("--pose", "table.csv", **annotated) == 0
    assert pixels(files / "out.png").shape == (2 * HEIGHT + 2, 4 * WIDTH + 6, 3)  # source and three rows


def test_a_photograph_without_a_row_is_given_to_the_estimator(generate, files, trained_on, monkeypatch):
    class Known:
        """Knows the photographs of the data set by their pixels."""

        def estimate(self, images):
            rows = [np.flatnonzero((trained_on.test.images == image).all(axis=(1, 2, 3)))[0] for image in images]
            return trained_on.test.poses[rows], trained_on.test.poses[rows][..., 2]

    asked = []
    monkeypatch.setattr(
        "xinggan.data.estimators.open_estimator",
        lambda name, weights, proportions: asked.append((name, weights, proportions)) or Known(),
    )
    assert generate("--pose", "target-0.json") == 0
    expected = pixels(files / "out.png")
    Image.fromarray(trained_on.test.images[trained_on.test.pairs[0][1]]).save(files / "other.png")
    words = ["--estimator", "any", "--weights", "w", "--proportions", "48:128"]
    assert generate("--pose", "other.png", *words, source=("source-0.png",)) == 0
    assert np.array_equal(pixels(files / "out.png"), expected)
    assert asked == [("any", Path("w"), (48, 128))]


def test_a_strip_has_the_source_first_and_each_skeleton_above_its_image(generate, files, trained_run, trained_on):
    assert generate("--pose", *(f"target-{p}.json" for p in range(3))) == 0
    strip, split = pixels(files / "out.png"), trained_on.test
    assert strip.shape == (2 * HEIGHT + 2, 4 * WIDTH + 3 * 2, 3)
    columns = [strip[:, start : start + WIDTH] for start in range(0, strip.shape[1], WIDTH + 2)]
    source = split.pairs[0][0]
    assert np.array_equal(columns[0][HEIGHT + 2 :], split.images[source])
    assert np.array_equal(columns[0][:HEIGHT], draw_skeleton(split.poses[source], HEIGHT, WIDTH))
    for p, column in enumerate(columns[1:]):
        assert np.array_equal(column[:HEIGHT], draw_skeleton(split.poses[split.pairs[p][1]], HEIGHT, WIDTH))
    first = of_pairs(trained_run, trained_on, [0])[0]
    assert np.abs(columns[1][HEIGHT + 2 :].astype(int) - first).max() <= 1
    assert generate("--pose", *["target-0.json"] * 20) == 0  # a long strip continues below
    assert pixels(files / "out.png").shape == (4 * HEIGHT + 3 * 2, 16 * WIDTH + 15 * 2, 3)


def test_an_animation_has_its_frames_in_the_order_of_the_poses(generate, files, trained_on, monkeypatch):
    def skeletons(method, source, source_pose, poses, **_):
        return np.stack([draw_skeleton(pose, HEIGHT, WIDTH) for pose in poses])

    monkeypatch.setattr("xinggan.training.generation.generate_poses", skeletons)  # images that can be told apart
    order, split = (2, 0, 3, 1), trained_on.test
    (files / "poses").mkdir()
    for frame, p in enumerate(order):
        (files / "poses" / f"{frame}.json").write_bytes((files / f"target-{p}.json").read_bytes())
    assert generate("--pose", "poses", "--fps", "20", out="walk.gif") == 0
    animation = Image.open(files / "walk.gif")
    assert (animation.n_frames, animation.info["duration"], animation.info["loop"]) == (4, 50, 0)
    drawn = [draw_skeleton(split.poses[split.pairs[p][1]], HEIGHT, WIDTH).astype(int) for p in order]
    for number, frame in enumerate(ImageSequence.Iterator(animation)):
        distances = [np.abs(np.asarray(frame.convert("RGB")) - image).mean() for image in drawn]
        assert int(np.argmin(distances)) == number
        assert min(distances) < 2  # of 255: 256 colours a frame


def test_a_larger_photograph_is_resized_with_its_joints_only_when_asked(generate, files, trained_on, capsys):
    split = trained_on.test
    source, target = split.pairs[0]
    Image.fromarray(split.images[source].repeat(2, 0).repeat(2, 1)).save(files / "large.png")
    for name, image in (("large-source.json", source), ("large-target.json", target)):
        pose = split.poses[image].copy()
        pose[pose[:, 2] > 0, :2] = (pose[pose[:, 2] > 0, :2] + 0.5) * 2 - 0.5
        (files / name).write_text(pose_json(pose, 2 * HEIGHT, 2 * WIDTH))
    large = {"source": ("large.png", "--source-pose", "large-source.json")}
    assert generate("--pose", "large-target.json", **large) == 2
    said = capsys.readouterr().err
    assert said.count("32 x 64 pixels (width x height); expected 16 x 32 as in training, or --resize") == 3
    assert not (files / "out.png").exists()
    assert generate("--pose", "large-target.json", "--resize", **large) == 0
    said = capsys.readouterr().err
    assert "large.png: resized from 32 x 64 to 16 x 32 pixels" in said
    assert "1 of 1 poses: resized" in said
    large_image = pixels(files / "out.png")
    assert generate("--pose", "target-0.json") == 0
    assert np.abs(large_image.astype(int) - pixels(files / "out.png")).max() <= 1


REFUSALS = {
    "no such source": (["--pose", "target-0.json"], {"source": ("nobody.png",)}, "nobody.png: there is no such file"),
    "source without a pose": (["--pose", "target-0.json"], {"source": ("source-0.png",)}, "give --annotation"),
    "source that is no image": (["--pose", "target-0.json"], {"source": ("target-1.json",)}, "cannot be read"),
    "several poses of the source": (
        ["--pose", "target-0.json"], {"source": ("source-0.png", "--source-pose", "table.csv")}, "3 poses; expected",
    ),
    "no such pose": (["--pose", "nothing.json"], {}, "nothing.json: there is no such file; accepted is"),
    "not a pose": (["--pose", "walk.gif"], {}, "accepted is a .json file"),
    "unknown row": (["--pose", "table.csv:c.png"], {}, "no row is named 'c.png'; it has 3 rows, such as "),
    "bad row": (["--pose", "table.csv:bad.png"], {}, "table.csv, row 4: bad.png: 2 values of y; expected 18"),
    "table without rows": (["--pose", "bare.csv"], {}, "bare.csv: the table has no row below its header"),
    "row that is there twice": (["--pose", "table.csv:twice.png"], {}, "row 6: twice.png is annotated already"),
    "bad row among all": (["--pose", "table.csv"], {}, "table.csv, row 4: bad.png"),
    "joint outside": (["--pose", "table.csv:b.png"], {}, "the nose at x 40, y 5 lies outside the image of 16 x 32"),
    "nothing visible": (["--pose", "empty.json"], {}, "no joint lies inside the image of 16 x 32"),
    "broken JSON": (["--pose", "broken.json"], {}, "broken.json: the file cannot be read as JSON"),
    "photograph without a row": (
        ["--pose", "source-1.png", "--annotation", "table.csv"], {}, "no row is named 'source-1.png'",
    ),
    "empty folder": (["--pose", "no-poses"], {}, "the folder holds neither .json files nor photographs"),
    "suffix": (["--pose", "target-0.json"], {"out": "out.jpg"}, "accepted are .png"),
    "output is an input": (["--pose", "target-0.json"], {"out": "source-0.png"}, "would be overwritten"),
    "output below a file": (["--pose", "target-0.json"], {"out": "table.csv/x.png"}, "is a file, not a folder"),
    "output is a folder": (["--pose", "target-0.json"], {"out": "folder.png"}, "is a folder"),
    "one frame": (["--pose", "target-0.json"], {"out": "one.gif"}, "an animation needs two poses or more"),
    "speed": (["--pose", "target-0.json", "target-1.json", "--fps", "0"], {"out": "o.gif"}, "--fps 0: accepted is"),
    "speed of an image": (["--pose", "target-0.json", "--fps", "5"], {}, "--fps: belongs to --out *.gif"),
    "seed": (["--pose", "target-0.json", "--seed", "-1"], {}, "--seed -1: accepted is 0 or more"),
    "batch": (["--pose", "target-0.json", "--batch", "0"], {}, "--batch 0: accepted is 1 or more"),
    "method of a run": (["--pose", "target-0.json", "--method", "xinggan"], {}, "belongs to --published"),
    "estimator": (["--pose", "target-0.json", "--estimator", "tarot"], {}, "estimator 'tarot' is not known; accepted"),
    "weights of nothing": (["--pose", "target-0.json", "--weights", "w.tflite"], {}, "--weights: belongs to"),
    "proportions of nothing": (["--pose", "target-0.json", "--proportions", "1:2"], {}, "--proportions: belongs to"),
    "output is in the folder of poses": (["--pose", "poses"], {"out": "poses/b.png"}, "would be overwritten"),
    "device": (["--pose", "target-0.json", "--device", "cuda:9"], {}, "device=cuda:9 is not usable"),
    "no run": (["--pose", "target-0.json"], {"run": Path("nowhere")}, "nowhere is no run: it has no config.yaml"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_used_is_refused_with_nothing_written(case, generate, files, capsys):
    inside = [[5] * 18, [5] * 18]
    outside = [[5] * 18, [40] + [5] * 17]
    rows = [f"{name}: {y}: {x}" for name, (y, x) in (("a.png", inside), ("b.png", outside))]
    twice = [rows[0].replace("a.png", "twice.png")] * 2
    (files / "table.csv").write_text(
        "\n".join(["name:keypoints_y:keypoints_x", *rows, "bad.png: [1, 2]: [1, 2]", *twice])
    )
    (files / "bare.csv").write_text("name:keypoints_y:keypoints_x\n")
    (files / "walk.gif").write_bytes(b"")
    (files / "empty.json").write_text(json.dumps({"joints": [None] * 18, "height": HEIGHT, "width": WIDTH}))
    (files / "broken.json").write_text('{"joints": [')
    (files / "no-poses").mkdir()
    (files / "poses").mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(files / "poses" / "b.png")
    (files / "folder.png").mkdir()
    before = {path: path.read_bytes() for path in files.rglob("*") if path.is_file()}
    words, changes, message = REFUSALS[case]
    assert generate(*words, **changes) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    assert {path: path.read_bytes() for path in files.rglob("*") if path.is_file()} == before


def test_everything_that_is_wrong_is_said_at_once(generate, tmp_path, capsys):
    words = ["--pose", "nothing.json", "target-0.json", "--fps", "5", "--seed", "-1"]
    assert generate(*words, run=tmp_path / "nowhere", source=("nobody.png",), out="out.jpg") == 2
    said = capsys.readouterr().err
    assert said.startswith("xinggan.generate: 6 problems, nothing was written\n")
    for part in ("--out", "--fps", "--seed", "nowhere is no run", "nobody.png", "nothing.json"):
        assert part in said


def test_a_failed_writing_leaves_the_old_file(generate, files, monkeypatch, capsys):
    (files / "out.png").write_bytes(b"old")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    assert generate("--pose", "target-0.json") == 2
    assert "cannot be written: No space left on device" in capsys.readouterr().err
    assert (files / "out.png").read_bytes() == b"old"
    assert not list(files.glob("*.part"))
    assert not list(files.glob(".*.part"))


@pytest.mark.parametrize("stage", ["xinggan.training.generation.generate_poses", "PIL.Image.Image.save"])
def test_an_interruption_is_one_line_and_leaves_nothing(generate, files, monkeypatch, capsys, stage):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, interrupt)
    before = set(files.iterdir())
    assert generate("--pose", "target-0.json") == 130
    assert capsys.readouterr().err == "xinggan.generate: interrupted; nothing is left half-written\n"
    assert set(files.iterdir()) == before


def test_help_and_refusals_of_words_import_nothing_heavy():
    program = (
        "import sys; from xinggan.generate import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print([name for name in ('torch', 'numpy', 'pandas', 'PIL') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"


class Noise(Method):
    """Draws every image from its seed."""

    def generate(self, source, source_pose, target_pose, seeds):
        images = [torch.rand(3, *source.shape[-2:], generator=torch.Generator().manual_seed(int(s))) for s in seeds]
        return torch.stack(images) * 2 - 1


def test_a_poses_image_depends_on_the_seed_and_not_on_the_poses_beside_it(trained_on):
    split = trained_on.test
    source, poses = split.pairs[0][0], np.array(split.poses[:3])
    several = generate_poses(Noise(), split.images[source], split.poses[source], poses, seed=4, batch=2)
    alone = generate_poses(Noise(), split.images[source], split.poses[source], poses[2:], seed=4)
    assert np.array_equal(several[2], alone[0])
    assert np.array_equal(alone, generate_pairs(Noise(), split, [0], seed=4))
    assert not np.array_equal(alone, generate_poses(Noise(), split.images[source], split.poses[source], poses[2:]))
