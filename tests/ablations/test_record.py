"""The run record: which run an experiment is, states, attempts, one process at a time, whole files."""

import json
import shutil
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ablations.record
from ablations.config import compose, reference
from ablations.record import RunBusy, RunRecord, identity, label, name, run_id, titled

UNCHANGING = ["device=cpu", "runs=elsewhere", "cache=elsewhere", "training.log_every=7", "scale=multi"]
UNCHANGING += ["training.checkpoint_activations=true"]
CHANGING = ["seed=1", "scale=single", "blocks=5", "losses.l1=49", "training.batch=3", "precision=bf16", "width=32"]
CHANGING += ["budget=flops", "amount=24"]


def hashed(*words):
    """The hash in the run id of these words."""
    return run_id(compose(list(words)), "digest").split("-")[-1]


@settings(deadline=None, max_examples=6)
@given(st.sets(st.sampled_from(UNCHANGING)), st.sets(st.sampled_from(CHANGING), min_size=1))
def test_run_id_depends_on_what_is_computed_and_on_nothing_else(unchanging, changing):
    plain = run_id(compose([]), "digest")
    assert run_id(compose(sorted(unchanging)), "digest") == plain
    assert hashed(*sorted(changing | unchanging)) != plain.split("-")[-1]
    assert run_id(compose([]), "another digest") != plain
    assert hashed("dataset=folder", "dataset.root=here") == hashed("dataset=folder", "dataset.root=there")


@pytest.mark.parametrize(
    ("active", "idle"),
    [
        (["scale=single"], "pyramid=[1,2]"),
        (["fusion=concat"], "candidates=3"),
        (["discriminators=none"], "history=7"),
        (["losses.adversarial=0"], "losses.adversarial_kind=lsgan"),
        (["losses.perceptual=0"], "losses.perceptual_network=vgg19"),
        (["pose_map=onehot"], "pose_sigma=2"),
    ],
)
def test_a_setting_with_nothing_to_act_on_does_not_make_another_run(active, idle):
    assert hashed(*active) == hashed(*active, idle)
    assert hashed(idle) != hashed()


def test_keys_that_came_later_leave_the_ids_of_earlier_runs_as_they_were():
    assert "weighting" not in identity(compose(["method=pidm"]), "x")["method"]
    assert "flip" not in identity(compose(["method=cfld"]), "x")["method"]  # 0.5, as it always was
    assert (
        hashed("method=pidm", "weighting=min_snr")
        != hashed("method=pidm")
        == hashed("method=pidm", "weighting=uniform")
    )
    held_out = compose(["evaluation.split=validation"])
    assert identity(held_out, "x") == identity(compose([]), "x")  # the data set's digest is another one
    assert label(held_out) == "xinggan-split_validation-synthetic-small-s0"
    assert name(held_out) == "xinggan evaluation.split=validation"


def test_the_networks_that_train_and_score_are_part_of_what_is_computed(tmp_path, monkeypatch):
    before = identity(compose([]), "x")
    assert set(before["networks"]) == {"attributes", "perceptual", "pose"}
    assert set(identity(compose(["dataset=folder", "dataset.root=x"]), "x")["networks"]) == {"perceptual"}
    copy = shutil.copytree(ablations.record.EMBEDDED, tmp_path / "weights")
    (copy / "pose.safetensors").write_bytes(b"other")
    monkeypatch.setattr(ablations.record, "EMBEDDED", copy)
    assert identity(compose([]), "x") != before


def test_switches_of_another_method_do_not_change_a_reference():
    one, other = compose(["scale=single", "seed=5"]), compose(["training.steps=3", "training.decay_steps=0"])
    assert identity(reference(one, "mean_image"), "x") == identity(reference(other, "mean_image"), "x")


@pytest.mark.parametrize(
    ("words", "called", "labelled"),
    [
        ("seed=3", "xinggan", "xinggan-synthetic-small-s3"),
        ("method=copy_source", "copy_source", "copy_source-synthetic"),
        (
            "scale=single attention=plain fusion=coattention preset=smoke",
            "xinggan scale=single attention=plain fusion=coattention",
            "xinggan-single-plain-coattention-synthetic-smoke-s0",
        ),
        (
            "blocks=3 losses.l1=0 tie_projections=false pyramid=[1,3]",
            "xinggan blocks=3 losses.l1=0 pyramid=[1,3] tie_projections=false",
            "xinggan-blocks_3-l1_0-pyramid__1_3_-tie_projections_false-synthetic-small-s0",
        ),
        ("method=pidm sampler=unipc", "pidm sampler=unipc", "pidm-sampler_unipc-synthetic-small-s0"),
        (
            "budget=seconds amount=24",
            "xinggan budget=seconds amount=24",
            "xinggan-seconds-amount_24-synthetic-small-s0",
        ),
    ],
)
def test_names_say_what_was_changed_in_the_words_that_change_it(words, called, labelled):
    experiment = compose(words.split())
    assert (name(experiment), label(experiment)) == (called, labelled)
    assert run_id(experiment, "x").startswith(f"{labelled}-")
    assert name(compose([f"method={called.split()[0]}", *called.split()[1:]])) == called


def test_what_makes_a_method_another_than_the_published_one_stands_behind_its_names():
    own = compose(["method=gfla", "learning_rate=1e-3"])
    assert name(own) == "gfla learning_rate=0.001 (embedded losses)"
    assert titled("GFLA", own) == "GFLA (embedded losses)"
    assert label(own) == "gfla-learning_rate_0.001-synthetic-small-s0"
    assert titled("XingGAN", compose(["scale=single"])) == "XingGAN"


@pytest.fixture
def checkpoint(tmp_path):
    file = tmp_path / "generator.pth"
    file.write_bytes(b"weights")
    return file


def test_a_published_checkpoint_counts_by_its_content_and_by_what_it_is_run_with(checkpoint, tmp_path):
    def published(*words, file=checkpoint):
        return hashed(f"published={file}", *words)

    moved = tmp_path / "moved.pth"
    moved.write_bytes(checkpoint.read_bytes())
    words = [f"published={checkpoint}", "pose_map=onehot"]
    assert name(compose(words)) == "xinggan published=generator pose_map=onehot"
    assert label(compose(["method=patn", words[0]])) == "patn-published_generator-synthetic"
    plain = published()
    assert published(file=moved) == published("seed=3", "device=cpu") == plain
    changed = [published("precision=bf16"), published("pose_map=onehot"), published("method=patn")]
    checkpoint.write_bytes(b"other weights")
    assert len({plain, published(), *changed}) == 5


def test_an_autoencoder_from_a_file_counts_by_its_content(tmp_path):
    folders = [tmp_path / name for name in ("here", "there")]
    for folder in folders:
        folder.mkdir()
        (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    here, there = (["method=vae_roundtrip", f"vae={folder}"] for folder in folders)
    assert hashed(*here) == hashed(*there)
    (folders[1] / "diffusion_pytorch_model.safetensors").write_bytes(b"others")
    assert hashed(*here) != hashed(*there)


def test_states_follow_the_attempts(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "status.json").write_text("{")  # no JSON: no attempt
    with RunRecord(tmp_path / "run") as record:
        assert record.status == {}
        assert record.begin("seed: 0\n", steps=5) == "new"
        assert record.status["state"] == "running"
        record.end("preempted")
        assert record.begin("seed: 0\n", steps=5) == "resumed"
        record.end("failed", error="no such joint")
        assert record.begin("seed: 0\n", steps=5) == "retried"
        assert record.status["error"] is None
        record.end("finished")
        assert not record.finished  # without its metrics it is taken up again
        (tmp_path / "run" / "metrics.json").write_text("[]")
        assert record.finished
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["state"], status["attempts"], status["steps"], status["run_id"]) == ("finished", 3, 5, "run")


def test_environments_of_earlier_attempts_elsewhere_are_kept(tmp_path, monkeypatch):
    for commit in ("a", "a", "b"):
        monkeypatch.setattr(ablations.record, "environment", lambda device, commit=commit: {"commit": commit})
        with RunRecord(tmp_path) as record:
            record.begin("")
    assert json.loads((tmp_path / "environment.json").read_text()) == {"commit": "b", "earlier": [{"commit": "a"}]}


def test_a_run_is_worked_on_by_one_process_and_a_dead_one_leaves_no_lock(tmp_path):
    hold = (
        "import sys, time; sys.path.insert(0, '.')\nfrom pathlib import Path\nfrom ablations.record import RunRecord\n"
    )
    hold += f"record = RunRecord(Path({str(tmp_path)!r})).__enter__()\nprint('held', flush=True)\ntime.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    (tmp_path / "checkpoint").mkdir()
    half = tmp_path / "checkpoint" / ".step-00000010-0123456789abcdef.pt.77.part"
    half.write_bytes(b"what a killed process had half written")
    with pytest.raises(RunBusy, match=f"another process .{holder.pid} on"), RunRecord(tmp_path):
        pass
    holder.kill()
    holder.wait()
    with RunRecord(tmp_path) as record:
        assert record.begin("") == "new"
    assert not half.exists()
