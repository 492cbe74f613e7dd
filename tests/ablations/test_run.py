"""The main command, end to end: its record, doing nothing twice, surviving kills, failing in an orderly way."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas
import pytest
import yaml
from PIL import Image

from ablations.config import choices_of
from ablations.record import RunRecord
from ablations.run import choices_table, main, print_table
from ablations.study import main as study_main
from reports.records import load_records
from xinggan.files import sha256_of
from xinggan.model.attention_maps import read_attention

ROOT = Path(__file__).resolve().parents[2]
TINY = ["preset=smoke", "device=cpu", "dataset.height=32", "dataset.width=16", "dataset.mask_radius=1"]


def runs_of(place):
    return Path(place[0].removeprefix("runs="))


def only(folder, pattern):
    (found,) = folder.glob(pattern)
    return found


@pytest.fixture(scope="module")
def finished(place):
    """The record of one uninterrupted run."""
    assert main([*TINY, *place, "scale=single", "--no-report"]) == 0
    return only(runs_of(place), "xinggan-single-synthetic-smoke-s0-*")


def test_a_run_leaves_the_whole_record(finished, place):
    names = {path.name for path in finished.iterdir()} - {".lock"}
    assert names == {
        "config.yaml", "environment.json", "status.json", "history.jsonl", "checkpoint", "samples",
        "metrics.json", "per_image.parquet", "timing.json", "generated",
    }  # fmt: skip
    status = json.loads((finished / "status.json").read_text())
    assert (status["state"], status["attempts"], status["steps"]) == ("finished", 1, 6)
    weights = ROOT / "xinggan" / "metrics" / "embedded" / "weights" / "perceptual.safetensors"
    assert status["networks"] == {"embedded": sha256_of(weights)}
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert (config["name"], config["method"]["scale"]) == ("xinggan scale=single", "single")
    manifest = json.loads((finished / "generated" / "manifest.json").read_text())
    assert len(manifest) == 12
    assert all((finished / "generated" / entry["file"]).exists() for entry in manifest)
    assert Image.open(finished / "generated" / "000000.png").size == (16, 32)
    assert len(list((finished / "generated" / "examples").glob("*_generated.png"))) == 12
    assert {*read_attention(finished / "generated" / "examples" / "attention.npz").pair.tolist()} == {0, 1, 2}
    timing = json.loads((finished / "timing.json").read_text())
    measured = {(scenario["kind"], scenario["batch"]) for scenario in timing["scenarios"]}
    assert measured == {("inference", 1), ("inference", 16), ("training", 4)}
    assert all(s["samples_ms"] for s in timing["scenarios"])
    assert timing["parameters"] > 1000


def test_a_learning_curve_scores_all_pairs_on_the_way_and_changes_nothing_of_the_training(finished, place):
    assert main([*TINY, *place, "scale=single", "evaluation.halvings=2", "--no-report"]) == 0
    (curve,) = (run for run in runs_of(place).glob("xinggan-single-synthetic-smoke-s0-*") if run != finished)
    learning = json.loads((curve / "learning.json").read_text())
    assert [point["step"] for point in learning["points"]] == [2, 3, 6]
    seconds = [point["seconds"] for point in learning["points"]]
    assert 0 < seconds[0] < seconds[1] < seconds[2]
    assert learning["batch"] == 4
    flops = [point["flops"] / point["step"] for point in learning["points"]]
    assert flops == pytest.approx([learning["flops_of_parts"][0]] * 3, rel=1e-3)  # all steps of XingGAN cost the same
    assert flops[0] > 1e6
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics == json.loads((curve / "metrics.json").read_text())
    scored = {row["metric"]: row for row in metrics if row["value"] is not None}
    assert learning["points"][-1]["values"] == {metric: row["value"] for metric, row in scored.items()}
    assert learning["protocols"] == {metric: row["protocol"] for metric, row in scored.items()}
    assert all(point["values"].keys() == scored.keys() for point in learning["points"])
    ssim = [point["values"]["ssim"] for point in learning["points"]]
    assert ssim[0] != ssim[-1]


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


def test_scores_under_every_protocol_stand_in_one_record_and_one_report(finished, place, tmp_path):
    words = [f"runs={tmp_path / 'runs'}", *place[1:]]  # its references are scored so too
    assert main([*TINY, *words, "scale=single", "evaluation.protocols=all"]) == 0
    folder = only(tmp_path / "runs", "xinggan-single-*")
    metrics = json.loads((folder / "metrics.json").read_text())
    under = {row["protocol"]["name"]: row["value"] for row in metrics if row["metric"] == "ssim"}
    assert [*under] == ["clean", "pose-transfer", "gfla"] and len(set(under.values())) == 3
    alone = json.loads((finished / "metrics.json").read_text())
    assert [row for row in metrics if row["protocol"]["name"] == "clean"] == alone
    records = load_records(folder).methods
    assert set(records.metric("ssim").under_usual_protocol().scored["value"]) == {under["clean"]}
    for name, value in under.items():
        found = records.metric("ssim", protocol=name)
        assert found.per_image()["value"].mean() == pytest.approx(value)
        assert found.by("run", over="identities")["value"].item() == value
    with pytest.raises(ValueError, match="3 different protocols"):
        records.metric("ssim").by("run")


def test_references_are_scored_on_the_same_test_set(finished, place):
    expected = {"ground_truth": 1.0, "copy_source": None, "mean_image": None}
    for name, ssim in expected.items():
        folder = only(runs_of(place), f"{name}-synthetic-*")
        metrics = json.loads((folder / "metrics.json").read_text())
        value = next(entry["value"] for entry in metrics if entry["metric"] == "ssim")
        assert value == pytest.approx(ssim) if ssim else 0 < value < 1
        assert not list(folder.rglob("attention.npz"))
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
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_torchrun_joins_processes_without_cuda_whatever_accelerate_was_set_up_for(tmp_path, place):
    (tmp_path / "accelerate").mkdir()
    settings = (
        "compute_environment: LOCAL_MACHINE\ndistributed_type: DEEPSPEED\nmixed_precision: fp16\nnum_machines: 2\n"
    )
    (tmp_path / "accelerate" / "default_config.yaml").write_text(settings)
    environment = {"HF_HOME": str(tmp_path), "ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_MIXED_PRECISION": "fp16"}
    small = [word for word in TINY if word != "device=cpu"] + ["scale=single", "norm=instance", "--alone", place[1]]
    losses = []
    for count in (1, 2):
        runs = tmp_path / f"{count} processes"
        words = ["--nnodes=1", f"--nproc_per_node={count}", "--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0"]
        command = [sys.executable, "-m", "torch.distributed.run", *words, "-m", "ablations.run", *small, f"runs={runs}"]
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr
        record = RunRecord(only(runs, "xinggan-*"))
        assert (record.status["state"], record.status["attempts"]) == ("finished", 1)
        losses.append([line["losses"] for line in record.logged_losses()])
    for alone, joined in zip(*losses, strict=True):
        assert joined == pytest.approx(alone, rel=1e-3)


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
        time.sleep(moment.uniform(0, 1.0))
        if process.poll() is None and kills < 3:
            process.send_signal(signal.SIGKILL)
            kills += 1
        if process.wait(timeout=300) == 0:
            break
    assert kills, "the run was over before it could be killed"
    same = [results(only(tmp_path / folder, "xinggan-*")) for folder in ("whole", "killed")]
    assert same[0] == same[1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], [r"The same command continues"]),
        (["-m", "seed=0,1"], [r"^ *stopped .*seed=0", r"^ *not started .*seed=1"]),
    ],
    ids=["one run", "a grid"],
)
def test_a_signal_saves_and_leaves_with_state_preempted_and_the_same_command_continues(
    words, expected, tmp_path, place
):
    long = ["training.steps=400", "training.sample_every=0", "training.checkpoint_every=400", "training.log_every=1"]
    process = launch([f"runs={tmp_path}", place[1]], *words, *long)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("xinggan-*/history.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 75, said
    assert all(re.search(pattern, said, re.MULTILINE) for pattern in expected), said
    folder = only(tmp_path, "xinggan-*")
    assert json.loads((folder / "status.json").read_text())["state"] == "preempted"
    assert len(list((folder / "checkpoint").iterdir())) == 1


@pytest.fixture
def without_a_reference(finished, place, tmp_path):
    """A copy of the finished records in which copy_source has yet to be made, and the words that name the copy."""
    runs = shutil.copytree(runs_of(place), tmp_path / "runs")
    copy_source = only(runs, "copy_source-*")
    (copy_source / "status.json").unlink()
    return copy_source, [*TINY, f"runs={runs}", place[1], "scale=single"]


def test_a_reference_that_stays_busy_is_left_out_with_its_reason(without_a_reference, monkeypatch, capsys):
    copy_source, words = without_a_reference
    reported = []
    monkeypatch.setattr("ablations.run.build", lambda folders, out: reported.extend(folders) or 0)
    monkeypatch.setattr("ablations.run.PATIENCE_S", 0)
    with RunRecord(copy_source):
        assert main(words) == 0
    said = capsys.readouterr()
    assert re.search(r"^copy_source: left out.*worked on by another process", said.err, re.MULTILINE)
    assert re.search(r"^ground_truth +1\.0000", said.out, re.MULTILINE)
    assert not re.search(r"^copy_source ", said.out, re.MULTILINE)
    assert len(reported) == 3
    assert copy_source not in reported


def test_a_reference_in_the_making_is_waited_for_and_a_report_that_cannot_be_built_fails_nothing(
    without_a_reference, capfd
):
    copy_source, words = without_a_reference
    (copy_source.parents[1] / "report").write_text("a file where the reports' folder would be")
    other = RunRecord(copy_source).__enter__()
    threading.Timer(0.5, other.__exit__).start()
    assert main(words) == 0
    said = capfd.readouterr()
    assert re.search(r"^copy_source +0\.\d+", said.out, re.MULTILINE)
    assert "the report could not be built" in said.err
    assert main([*words, "--alone"]) == 0
    assert "report" not in capfd.readouterr().err


def test_images_that_are_not_finite_fail_the_run_and_are_not_scored(tmp_path, place, monkeypatch, capsys):
    code = "import torch\nfrom xinggan.model.method import Method\n\nclass Broken(Method):\n"
    code += "    def generate(self, source, source_pose, target_pose, seeds):\n        return source * torch.nan\n"
    (tmp_path / "broken.py").write_text(code)
    (tmp_path / "broken.yaml").write_text("_target_: broken.Broken\ntraining: null\n")
    monkeypatch.setenv("XINGGAN_METHODS", str(tmp_path))
    assert main([*TINY, "method=broken", f"runs={tmp_path / 'runs'}", place[1]]) == 1
    assert "not finite" in capsys.readouterr().err
    folder = only(tmp_path / "runs", "broken-*")
    status = json.loads((folder / "status.json").read_text())
    assert status["state"] == "failed" and "not finite" in status["error"] and "___" in status["error"]
    assert not (folder / "metrics.json").exists() and not (folder / "generated" / "manifest.json").exists()


def test_a_failure_in_a_grid_is_recorded_and_does_not_stop_the_rest(tmp_path, place, capfd):
    own = [f"runs={tmp_path}", place[1]]
    assert main(["-m", "--alone", *TINY, *own, "learning_rate=1e30,2e-4"]) == 1
    said = capfd.readouterr()
    assert re.search(r"FAILED .*learning_rate=1e\+30", said.out)
    assert re.search(r"done .*learning_rate=0.0002", said.out)
    states = [json.loads(file.read_text()) for file in tmp_path.glob("xinggan-*/status.json")]
    assert sorted(status["state"] for status in states) == ["failed", "finished"]
    error = next(status["error"] for status in states if status["state"] == "failed")
    assert len([*tmp_path.glob("*/status.json")]) == 2  # no references
    assert "Divergence" in error
    assert "Traceback" in error


def test_a_folder_of_any_name_holds_records_data_and_report_on_a_terminal_without_utf_8(tmp_path):
    odd = tmp_path / "Ü [1] #~'x'"
    words = ["method=copy_source", *TINY, f"runs={odd / 'runs'}", f"cache={odd / 'data'}"]
    variables = {"PYTHONIOENCODING": "iso8859-15"}
    command = [sys.executable, "-m", "ablations.run", "-m", "seed=0,1", *words]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True)
    said = done.stdout.decode("iso8859-15")
    assert done.returncode == 0, said + done.stderr.decode("iso8859-15")
    assert re.search(r"SSIM \?", said) and said.count("done ") == 2
    assert {path.name for path in odd.iterdir()} == {"runs", "data", "report"}
    assert (odd / "report" / "grid" / "index.html").is_file()


def test_bad_input_is_refused_before_any_work_in_one_line(tmp_path, place, capsys):
    (tmp_path / "file").write_text("")
    unpacked, there = (
        ["dataset=folder", f"dataset.root={tmp_path / 'nothing'}"],
        [f"runs={tmp_path / 'runs'}", place[1]],
    )
    unwritable = [*TINY, f"runs={tmp_path / 'file' / 'runs'}", place[1]]
    for command, words, said in (
        (main, [*unpacked, *there], "nothing"),
        (main, ["-m", *unpacked, "seed=0,1", *there], "nothing"),
        (study_main, ["projections", *unpacked, *there], "nothing"),
        (main, unwritable, "file"),
        (study_main, ["projections", *unwritable], "file"),
        (main, ["-m", "scale=single,other", *there], "other"),
        (main, ["scale=other", "--no-report", "seed=1", *there], "other"),  # options may stand between words
        (study_main, ["projections", "seed=1", "--no-report", "scale=other", *there], "other"),
    ):
        assert command(words) == 2
        printed = capsys.readouterr()
        (line,) = printed.err.splitlines()
        assert said in line and printed.out == ""
    assert not (tmp_path / "runs").exists()


def test_help_lists_every_method_preset_and_data_set_with_the_default_first():
    rows = {line.split()[0]: line.split()[1:] for line in choices_table().splitlines()}
    for group, default in {"method": "xinggan", "preset": "small", "dataset": "synthetic"}.items():
        names = choices_of(group)
        assert rows[group][0] == names[0] == default
        assert rows[group][: len(names)] == names
    for group in ("method", "preset"):
        assert {*choices_of(group)} == {file.stem for file in (ROOT / "ablations" / "conf" / group).glob("*.yaml")}


def test_show_prints_every_value_with_its_source_and_the_run_id_and_runs_nothing(finished, place, capsys):
    before = sorted(runs_of(place).rglob("*"))
    assert main([*TINY, *place, "scale=single", "--show"]) == 0
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in capsys.readouterr().out.splitlines()}
    assert rows["method.scale"] == ["single", "command line"]
    assert rows["method.candidates"] == ["2", "method/xinggan.yaml, presets: smoke"]
    assert rows["method.width"] == ["4", "preset/smoke.yaml"]
    assert rows["method.fusion"] == ["dense", "default of XingGANSettings"]
    assert rows["training.ema"][1] == "default"
    config = yaml.safe_load((finished / "config.yaml").read_text())
    assert {key.removeprefix("method.") for key in rows if key.startswith("method.")} >= config["method"].keys() - {
        "losses"
    }
    assert rows["run"] == ["id", finished.name]
    timing = json.loads((finished / "timing.json").read_text())
    assert rows["parameters"] == [f"{timing['parameters']:,}"]
    assert sorted(runs_of(place).rglob("*")) == before


def test_show_needs_no_weights_and_says_why_a_run_id_or_parameters_are_unavailable(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    assert main([*TINY, "losses.perceptual_network=vgg19", "--show"]) == 0
    assert re.search(r"^parameters +[\d,]+$", capsys.readouterr().out, re.MULTILINE)
    (tmp_path / "net.pth").write_bytes(b"no checkpoint")
    words = [*TINY, f"published={tmp_path / 'net.pth'}", "dataset=folder", f"dataset.root={tmp_path / 'nothing'}"]
    assert main([*words, "--show"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^parameters +unavailable: .*net\.pth", said, re.MULTILINE)
    assert re.search(r"^run id +unavailable: .*nothing", said, re.MULTILINE)
    assert main([*words, "--show", "scale=other"]) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("losses.perceptual_network=vgg19", "vgg19-dcbb9e9d.pth"),
        ("device=cuda:7", "device=cuda:7 is not usable on this machine"),
        ("published=README.md", "README.md: not a PyTorch state dict"),
        ("method=plain training.checkpoint_activations=true", "has no modules that allow it"),
    ],
)
def test_what_only_building_the_method_shows_is_refused_before_any_work(
    words, said, tmp_path, place, capsys, monkeypatch
):
    (tmp_path / "plain.py").write_text("from xinggan.model.method import Method\n\nclass Plain(Method):\n    pass\n")
    (tmp_path / "plain.yaml").write_text("_target_: plain.Plain\n")
    monkeypatch.setenv("XINGGAN_METHODS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    monkeypatch.chdir(ROOT)
    assert main([*TINY, f"runs={tmp_path / 'runs'}", place[1], *words.split()]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_real_photographs_train_from_their_folder(shared, tmp_path):
    root = shared / "data" / "pku_reid"
    words = ["preset=smoke", "dataset=folder", f"dataset.root={root}", f"runs={tmp_path / 'runs'}"]
    assert main([*words, f"cache={tmp_path / 'data'}", "--no-report"]) == 0
    metrics = json.loads((only(tmp_path / "runs", "xinggan-folder-*") / "metrics.json").read_text())
    reasons = {entry["metric"]: entry["unavailable_because"] for entry in metrics}
    assert reasons["ssim"] is None
    assert "synthetic people" in reasons["pckh_embedded"]


def test_the_table_shows_l1_exactly_if_a_row_lacks_lpips(tmp_path, capsys):
    def rows(*metrics):
        for number, names in enumerate(metrics):
            (tmp_path / str(number)).mkdir(exist_ok=True)
            content = json.dumps([{"metric": name, "value": 0.5} for name in names])
            (tmp_path / str(number) / "metrics.json").write_text(content)
            yield str(number), tmp_path / str(number)

    for metrics, shown in [((["l1", "lpips"],) * 2, False), ((["l1", "lpips"], ["l1"]), True), ((["l1"],), True)]:
        print_table(list(rows(*metrics)))
        assert ("L1" in capsys.readouterr().out) == shown
