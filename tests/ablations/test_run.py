"""The main command, end to end: its record, doing nothing twice, surviving kills, failing in an orderly way."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas
import pytest
import yaml
from PIL import Image

from ablations.run import main
from ablations.study import STUDIES, study_rows
from ablations.study import main as study_main

ROOT = Path(__file__).resolve().parents[2]
TINY = ["preset=smoke", "device=cpu", "dataset.height=32", "dataset.width=16", "dataset.mask_radius=1"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders for run records and packed data that the tests of this module share."""
    folder = tmp_path_factory.mktemp("ablations")
    return [f"runs={folder / 'runs'}", f"cache={folder / 'data'}"]


def runs_of(place):
    return Path(place[0].removeprefix("runs="))


def only(folder, pattern):
    (found,) = folder.glob(pattern)
    return found


@pytest.fixture(scope="module")
def finished(place):
    """The record of one uninterrupted run."""
    assert main([*TINY, *place, "scale=single"]) == 0
    return only(runs_of(place), "xinggan-single-synthetic-smoke-s0-*")


def test_a_run_leaves_the_whole_record(finished, place):
    names = {path.name for path in finished.iterdir()} - {".lock"}
    assert names == {
        "config.yaml", "environment.json", "status.json", "history.jsonl", "checkpoint", "samples",
        "metrics.json", "per_image.parquet", "timing.json", "generated",
    }  # fmt: skip
    status = json.loads((finished / "status.json").read_text())
    assert (status["state"], status["attempts"], status["steps"]) == ("finished", 1, 6)
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert (config["name"], config["scale"], config["method"]["architecture"]["scale"]) == (
        "xinggan scale=single", "single", "single",
    )  # fmt: skip
    manifest = json.loads((finished / "generated" / "manifest.json").read_text())
    assert len(manifest) == 12
    assert all((finished / "generated" / entry["file"]).exists() for entry in manifest)
    assert Image.open(finished / "generated" / "000000.png").size == (16, 32)
    assert len(list((finished / "generated" / "examples").glob("*_generated.png"))) == 12
    timing = json.loads((finished / "timing.json").read_text())
    assert {(s["kind"], s["batch"]) for s in timing["scenarios"]} == {
        ("inference", 1),
        ("inference", 16),
        ("training", 4),
    }
    assert all(s["samples_ms"] for s in timing["scenarios"])
    assert timing["parameters"] > 1000


def test_every_metric_has_a_value_with_its_protocol_or_a_reason(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    for entry in metrics:
        assert entry["protocol"]["name"] == "clean"
        assert (entry["value"] is None) == (entry["unavailable_because"] is not None), entry
    available = {entry["metric"] for entry in metrics if entry["value"] is not None}
    assert {"ssim", "mask_ssim", "l1", "psnr", "perceptual_embedded", "pckh_embedded", "fd_embedded"} <= available
    table = pandas.read_parquet(finished / "per_image.parquet")
    means = table.groupby("metric")["value"].mean()
    ssim = next(entry for entry in metrics if entry["metric"] == "ssim")
    assert means["ssim"] == pytest.approx(ssim["value"])


def test_references_are_scored_on_the_same_test_set(finished, place):
    expected = {"ground_truth": 1.0, "copy_source": None, "mean_image": None}
    for name, ssim in expected.items():
        folder = only(runs_of(place), f"{name}-synthetic-*")
        metrics = json.loads((folder / "metrics.json").read_text())
        value = next(entry["value"] for entry in metrics if entry["metric"] == "ssim")
        assert value == pytest.approx(ssim) if ssim else 0 < value < 1
        status = json.loads((folder / "status.json").read_text())
        assert status["dataset_digest"] == json.loads((finished / "status.json").read_text())["dataset_digest"]


def test_the_same_command_again_says_so_and_does_nothing(finished, place, capsys):
    before = {path: path.stat().st_mtime_ns for path in runs_of(place).rglob("*") if path.is_file()}
    assert main([*TINY, *place, "scale=single", "training.log_every=1"]) == 0
    said = capsys.readouterr().out
    assert "was finished before, nothing to do" in said
    assert re.search(r"report: .*index\.html", said)
    after = {path: path.stat().st_mtime_ns for path in runs_of(place).rglob("*") if path.is_file()}
    assert after == before


def launch(place, *overrides):
    command = [sys.executable, "-m", "ablations.run", "--no-report", *TINY, *place, *overrides]
    environment = os.environ | {"OMP_NUM_THREADS": str(min(2, os.cpu_count() or 1))}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def results(folder):
    metrics = json.loads((folder / "metrics.json").read_text())
    manifest = json.loads((folder / "generated" / "manifest.json").read_text())
    return metrics, manifest


def test_a_run_killed_at_random_moments_ends_with_the_same_bits(tmp_path, place):
    whole, killed = [f"runs={tmp_path / 'whole'}", place[1]], [f"runs={tmp_path / 'killed'}", place[1]]
    longer = ["training.steps=40", "training.checkpoint_every=5", "training.sample_every=0", "scale=single"]
    undisturbed = launch(whole, *longer)
    assert undisturbed.wait(timeout=300) == 0
    kills, moment = 0, random.Random()
    for _ in range(12):
        process = launch(killed, *longer)
        while process.poll() is None and not list((tmp_path / "killed").glob("xinggan-*/history.jsonl")):
            time.sleep(0.05)
        time.sleep(moment.uniform(0, 2.5))
        if process.poll() is None and kills < 3:
            process.send_signal(signal.SIGKILL)
            kills += 1
        if process.wait(timeout=300) == 0:
            break
    assert kills, "the run was over before it could be killed"
    same = [results(only(tmp_path / folder, "xinggan-*")) for folder in ("whole", "killed")]
    assert same[0] == same[1]


def test_a_signal_saves_and_leaves_with_state_preempted_and_the_same_command_continues(tmp_path, place):
    own = [f"runs={tmp_path}", place[1]]
    long = ["training.steps=400", "training.sample_every=0", "training.checkpoint_every=400", "training.log_every=1"]
    process = launch(own, *long)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("xinggan-*/history.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 75, process.stdout.read()
    assert "The same command continues" in process.stdout.read()
    folder = only(tmp_path, "xinggan-*")
    assert json.loads((folder / "status.json").read_text())["state"] == "preempted"
    assert len(list((folder / "checkpoint").iterdir())) == 1


def test_a_failure_in_a_grid_is_recorded_and_does_not_stop_the_rest(tmp_path, place, monkeypatch, capfd):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    own = [f"runs={tmp_path}", place[1]]
    code = main(["-m", *TINY, *own, "losses.perceptual_network=vgg19,embedded", "method=xinggan"])
    assert code == 1
    said = capfd.readouterr()
    assert re.search(r"FAILED .*vgg19", said.out)
    assert re.search(r"done .*embedded", said.out)
    states = {f.parent.name: json.loads(f.read_text()) for f in tmp_path.glob("xinggan-*/status.json")}
    assert sorted(status["state"] for status in states.values()) == ["failed", "finished"]
    error = next(status["error"] for status in states.values() if status["state"] == "failed")
    assert "vgg19-dcbb9e9d.pth" in error
    assert "Traceback" in error


def test_bad_input_is_refused_before_any_work(tmp_path, capsys):
    own = [f"runs={tmp_path / 'runs'}", f"cache={tmp_path / 'data'}"]
    assert main(["dataset=folder", f"dataset.root={tmp_path / 'nothing'}", *own]) == 2
    assert main(["scale=other", *own]) == 2
    assert main(["-m", "scale=single,other", *own]) == 2
    assert "nothing" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_device_that_is_not_there_is_refused_with_its_name(tmp_path, place, capsys):
    assert main([*TINY, f"runs={tmp_path}", place[1], "device=cuda:7"]) == 2
    assert "device=cuda:7 is not usable on this machine" in capsys.readouterr().err


def test_real_photographs_train_from_their_folder(shared, tmp_path):
    root = shared / "data" / "pku_reid"
    words = ["preset=smoke", "dataset=folder", f"dataset.root={root}", f"runs={tmp_path / 'runs'}"]
    assert main([*words, f"cache={tmp_path / 'data'}", "--no-report"]) == 0
    metrics = json.loads((only(tmp_path / "runs", "xinggan-folder-*") / "metrics.json").read_text())
    reasons = {entry["metric"]: entry["unavailable_because"] for entry in metrics}
    assert reasons["ssim"] is None
    assert "synthetic people" in reasons["pckh_embedded"]


def test_components_study_is_the_table_of_the_papers():
    titles = [title for title, _ in STUDIES["components"]]
    assert titles[3] == "+ co-attention fusion (= XingGAN)"
    assert titles[-1] == "+ dense fusion (= XingGAN++)"
    from ablations.config import compose

    previous, changes = None, []
    for _, overrides in study_rows("components", []):
        config = compose(overrides)
        switches = {key: str(config[key]) for key in ("scale", "attention", "fusion", "branches")}
        if previous:
            changes.append({key for key in switches if switches[key] != previous[key]})
        previous = switches
    assert changes == [{"branches"}, {"branches"}, {"fusion"}, {"scale"}, {"attention"}, {"fusion"}]


def test_every_row_of_every_study_is_a_valid_experiment_of_its_own():
    from ablations.config import compose, run_id

    for study in STUDIES:
        rows = study_rows(study, ["preset=smoke", "seed=0,1"])
        ids = [run_id(compose(overrides), "x") for _, overrides in rows]
        assert len(set(ids)) == len(ids) == 2 * len(STUDIES[study]), study


def test_a_study_runs_its_rows_once_and_ends_with_one_table(tmp_path, place, capfd):
    words = ["projections", *TINY, f"runs={tmp_path}", place[1], "--no-report"]
    assert study_main(words) == 0
    first = capfd.readouterr().out
    assert re.search(r"^tied +0\.\d+", first, re.MULTILINE)
    assert re.search(r"^ground_truth +1\.0000", first, re.MULTILINE)
    listing = json.loads((tmp_path / "studies" / "projections.json").read_text())
    assert [entry["title"] for entry in listing[:2]] == ["tied", "untied"]
    assert all((tmp_path / entry["run"] / "metrics.json").exists() for entry in listing)
    assert study_main(words) == 0
    assert capfd.readouterr().out.count("was finished before") == 2


def test_an_unknown_study_is_refused_with_the_choices(capsys):
    with pytest.raises(SystemExit):
        study_main(["everything"])
    assert "components" in capsys.readouterr().err
    assert study_main(["projections", "seed=x"]) == 2
