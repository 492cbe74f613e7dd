"""The command that scores anybody's folder: the published numbers from files, every protocol, and its refusals."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xinggan.evaluate import main
from xinggan.files import sha256_of

SYNTHETIC = ["--people-train=3", "--people-test=2", "--views=3", "--test-pairs=6", "--height=64", "--width=32"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def synthetic(cache):
    """The data set that the words SYNTHETIC describe."""
    from xinggan.data.prepare import prepare
    from xinggan.data.settings import DatasetSettings

    settings = DatasetSettings(people_train=3, people_test=2, views=3, test_pairs=6, height=64, width=32)
    return prepare(settings, cache, progress=False)


@pytest.fixture
def targets(synthetic, tmp_path):
    """A folder with the true target of every test pair."""
    folder = tmp_path / "results"
    folder.mkdir()
    for row, (_, target) in enumerate(synthetic.test.pairs):
        Image.fromarray(synthetic.test.images[target]).save(folder / f"{synthetic.test.pair_id(row)}.png")
    return folder


@pytest.fixture
def run(targets, cache):
    """run("--json", "-", ...) -> exit status of scoring the folder of targets."""
    return lambda *words: main([str(targets), "synthetic", *SYNTHETIC, "--cache", str(cache), *words])


@pytest.fixture(autouse=True)
def without_downloaded_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch_home"))


def test_the_filter_that_resized_images_is_part_of_every_value_s_protocol(run, targets, capsys):
    for file in targets.glob("*.png"):
        Image.open(file).resize((64, 128), Image.Resampling.NEAREST).save(file)
    assert run("--fit", "resize", "--json", "-", "--protocol", "clean") == 0
    told = json.loads(capsys.readouterr().out)["metrics"]["clean"]
    assert {value["protocol"]["resized_by"] for value in told} == {"area where neither side grows, else bicubic"}
    assert next(value["value"] for value in told if value["metric"] == "ssim") == 1  # the pixels that were doubled


def test_strips_of_the_golden_pairs_give_the_published_evaluations_numbers(shared, tmp_path, capsys):
    golden = json.loads((shared / "golden" / "pose_transfer_metrics.json").read_text())["pairs"]
    root = tmp_path / "people"
    shutil.copytree(shared / "data" / "pku_reid", root)
    for path in [root, *root.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    with (root / "pku-pairs-test.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("from", "to"), *((pair["source"], pair["target"]) for pair in golden)])
    folder = tmp_path / "strips"
    folder.mkdir()
    for pair in golden:
        source, target = (np.asarray(Image.open(root / "test" / pair[role])) for role in ("source", "target"))
        panels = np.concatenate([source, source * 0, target, target * 0, source], axis=1)
        Image.fromarray(panels).save(folder / f"{pair['source']}___{pair['target']}_vis.png")

    table = tmp_path / "scores.parquet"
    arguments = [str(folder), "folder", "--root", str(root), "--cache", str(tmp_path / "cache")]
    assert main([*arguments, "--per-image", str(table)]) == 0
    assert "the last of the 5 panels" in capsys.readouterr().out
    values = pd.read_parquet(table).set_index(["protocol", "metric", "pair"])["value"].sort_index()
    for protocol, metric, published in [
        ("pose-transfer", "ssim", "ssim"),
        ("pose-transfer", "mask_ssim", "mask_ssim"),
        ("pose-transfer", "l1", "l1"),
        ("gfla", "ssim", "ssim_sigma1_2"),
    ]:
        expected = [pair[published] for pair in golden]
        np.testing.assert_allclose(values[protocol, metric], expected, rtol=0, atol=1e-6)


def test_pckh_is_of_the_named_estimator_with_its_own_on_real_images_beside_it(shared, run, tmp_path, capsys):
    pytest.importorskip("ai_edge_litert")
    weights = next((shared / "weights" / "movenet").glob("*.tflite"))
    out = tmp_path / "scores.json"
    words = ["--estimator", "movenet", "--weights", str(weights), "--proportions", "48:128"]
    assert run(*words, "--protocol", "clean", "--json", str(out)) == 0
    values = {value["metric"]: value for value in json.loads(out.read_text())["metrics"]["clean"]}
    assert values["pckh"]["value"] == values["pckh_real"]["value"] is not None  # the results are the real targets
    assert values["pckh"]["protocol"]["network"] == "movenet"
    assert values["pckh"]["protocol"]["weights_sha256"] == sha256_of(weights)
    assert values["pckh"]["protocol"]["proportions"].startswith("48:128")
    assert "PCKh of real images" in capsys.readouterr().out


def test_table_json_and_per_image_values_agree(run, tmp_path, capsys):
    files = {"--json": tmp_path / "scores.json", "--per-image": tmp_path / "scores.parquet"}
    assert run(*(str(word) for option in files.items() for word in option)) == 0
    printed = capsys.readouterr().out
    assert "nothing was cropped or resized" in printed
    assert re.search(r"note: FD \(embedded\).*\n  from 6 images, fewer than the network's", printed)
    assert any(line.split()[-3:] == ["1.0000", "1.0000", "1.0000"] for line in printed.splitlines() if "SSIM ↑" in line)
    report = json.loads(files["--json"].read_text())
    assert list(report["metrics"]) == list(report["protocols"]) == ["clean", "pose-transfer", "gfla"]
    per_image = pd.read_parquet(files["--per-image"])
    assert list(per_image) == ["pair", "pair_id", "identity", "protocol", "metric", "value"]
    for protocol, values in report["metrics"].items():
        for value in values:
            mine = per_image[(per_image.protocol == protocol) & (per_image.metric == value["metric"])]
            if len(mine) and not value["metric"].startswith("pckh"):  # pooled over joints
                assert mine.value.mean() == pytest.approx(value["value"])
            assert value["value"] is not None or value["unavailable_because"] in " ".join(printed.split())


def test_a_terminal_without_utf_8_shows_the_table_with_replacement_characters(targets, cache):
    command = [sys.executable, "-m", "xinggan.evaluate", str(targets), "synthetic", *SYNTHETIC, "--cache", str(cache)]
    for variables in ({"PYTHONIOENCODING": "iso8859-15"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}):
        done = subprocess.run([*command, "--protocol", "clean"], env=os.environ | variables, capture_output=True)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        assert any(line.split()[:2] == [b"SSIM", b"?"] for line in done.stdout.splitlines())


def test_a_temporary_folder_that_is_too_small_is_refused_with_its_name_and_nothing_is_scored(targets, cache):
    limit = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
    limit += "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"  # six images take 37 kB
    limit += "runpy.run_module('xinggan.evaluate', run_name='__main__', alter_sys=True)"
    words = [str(targets), "synthetic", *SYNTHETIC, "--cache", str(cache)]
    done = subprocess.run([sys.executable, "-c", limit, *words], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"xinggan.evaluate: {tempfile.gettempdir()}: File too large; the images to score take"
    )
    assert "name another folder in TMPDIR" in done.stderr
    assert done.stdout == ""


def test_json_alone_is_printed_for_a_pipe(run, capsys):
    assert run("--json", "-", "--protocol", "gfla") == 0
    assert list(json.loads(capsys.readouterr().out)["metrics"]) == ["gfla"]


def test_an_incomplete_folder_scores_nothing_and_writes_nothing(run, targets, tmp_path, capsys):
    files = sorted(targets.iterdir())
    files[0].unlink()
    files[1].write_bytes(b"")
    before = sorted(tmp_path.rglob("*"))
    assert run("--json", str(tmp_path / "scores.json")) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "2 problems" in said.err
    assert files[0].stem in said.err
    assert files[1].name in said.err
    assert sorted(tmp_path.rglob("*")) == before


def test_every_missing_image_is_listed_however_many_they_are(synthetic, cache, tmp_path, capsys):
    words = [word for word in SYNTHETIC if not word.startswith("--test-pairs")] + ["--people-test=6"]
    Image.fromarray(synthetic.test.images[0]).save(tmp_path / f"{synthetic.test.pair_id(0)}.png")
    assert main([str(tmp_path), "synthetic", *words, "--cache", str(cache)]) == 2
    said = capsys.readouterr().err
    assert said.count("no image of this test pair") == 35
    assert "35 problems" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--json", "{absent}/scores.json"], "expected a file's name in a folder that is there"),
        (["--per-image", "{folder}"], "expected a file's name"),
        (["--per-image", "-"], "expected a file's name"),
        (["--json", "{folder}/a", "--per-image", "{folder}/a"], "is what --json writes too"),
        (["--json", "{folder}/results/new.png"], "would be one of the images"),
        (["--weights", "file"], "--weights: belongs to --estimator"),
        (["--proportions", "3:8"], "--proportions: belongs to --estimator"),
        (["--device", "quantum"], "device=quantum"),
        (["--height", "30"], "multiples of 4"),
        (["--estimator", "oracle"], "'oracle' is not known; accepted: movenet"),
        (["--estimator", "movenet"], "needs its file: --weights FILE.tflite"),
    ],
)
def test_what_could_not_work_is_refused_before_anything_is_scored(words, said, run, tmp_path, capsys):
    assert run(*(word.format(absent=tmp_path / "absent", folder=tmp_path) for word in words)) == 2
    assert said in capsys.readouterr().err


def test_help_answers_without_the_libraries_that_score():
    code = "import sys; from xinggan.evaluate import main\ntry: main(['--help'])\nfinally: print(sorted(sys.modules))"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert "RESULTS" in listed
    assert not {"'torch'", "'numpy'", "'pandas'", "'PIL'"} & set(listed.split("[")[-1].replace("]", "").split(", "))
