"""Configuration: what is accepted, what is refused and how, and which run it is."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablations.config import ConfigurationError, compose, expand, reference
from ablations.identity import identity, name, run_id

XINGGAN = ["scale=single", "attention=plain", "fusion=coattention"]


def test_defaults_are_xinggan_plus_plus_at_the_small_preset():
    config = compose([])
    assert (config.scale, config.attention, config.fusion) == ("multi", "enhanced", "dense")
    assert config.preset == "small"
    assert config.method_name == name(config) == "xinggan"


def test_paper_preset_holds_the_published_settings_of_each_data_set():
    market = compose(["preset=paper", "dataset=market1501", "dataset.root=x"])
    fashion = compose(["preset=paper", "dataset=deepfashion", "dataset.root=x"])
    assert (market.norm, market.losses.adversarial_kind) == ("batch", "bce")
    assert (fashion.norm, fashion.losses.adversarial_kind) == ("instance", "lsgan")
    for config, weights, history, steps, decay in (
        (market, (5, 50, 50), 50, 62_500 + 25_000, 25_000),
        (fashion, (5, 50, 1), 0, 25_000 + 12_500, 12_500),
    ):
        assert (config.losses.adversarial, config.losses.l1, config.losses.perceptual) == weights
        assert (config.history, config.training.steps, config.training.decay_steps) == (history, steps, decay)
        assert (config.training.batch, config.learning_rate, config.width, config.blocks) == (32, 2e-4, 64, 9)
    assert (market.dataset.height, market.dataset.width) == (128, 64)
    assert (fashion.dataset.height, fashion.dataset.width) == (256, 176)


def test_a_methods_own_published_settings_come_with_the_data_set_they_are_for():
    market = compose(["method=patn", "preset=paper", "dataset=market1501", "dataset.root=x"])
    fashion = compose(["method=patn", "preset=paper", "dataset=deepfashion", "dataset.root=x"])
    assert (market.losses.adversarial, market.losses.l1, market.losses.perceptual) == (5, 10, 10)
    assert (fashion.losses.adversarial, fashion.losses.l1, fashion.losses.perceptual) == (5, 1, 1)
    assert (fashion.losses.adversarial_kind, fashion.norm, fashion.history) == ("lsgan", "instance", 0)


@pytest.mark.parametrize(("method", "epochs"), [("pidm", 300), ("cfld", 100)])
def test_diffusion_models_train_for_their_published_epochs_of_deepfashion(method, epochs):
    training = compose([f"method={method}", "preset=paper", "dataset=deepfashion", "dataset.root=x"]).training
    assert training.steps * training.batch == pytest.approx(epochs * 101_966, rel=1e-4)


REFUSED = [
    (["scale=double"], "multi, single"),
    (["attention=sharp"], "enhanced, plain, none"),
    (["preset=tiny"], "paper small smoke"),
    (["method=nothing"], "ground_truth mean_image"),
    (["dataset=imagenet"], "deepfashion folder market1501 synthetic"),
    (["scal=single"], "Did you mean scale"),
    (["training.stepz=3"], "Did you mean steps"),
    (["training.steps=many"], "could not be converted to Integer"),
    (["training.steps=0"], "training.steps=0: accepted is 1 or more"),
    (["training.decay_steps=10000"], "accepted is 0 to training.steps"),
    (["blocks=0"], "blocks=0: accepted are 1 to 64"),
    (["width=7"], "width=7: accepted are even numbers from 4"),
    (["dropout=1"], "dropout=1"),
    (["pyramid=[0]"], "bin counts from 1"),
    (["attention=none", "scale=single"], "nothing to act on"),
    (["attention=none", "branches=appearance"], "never reach the image"),
    (["losses.l1=-1"], "weights are 0 (term left out) or more"),
    (["losses.l1=0", "losses.perceptual=0", "discriminators=none"], "nothing to train for"),
    (["precision=fp8"], "fp32, bf16"),
    (["evaluation.lpips_net=resnet"], "alex, vgg, squeeze"),
    (["dataset=folder"], "needs dataset.root=FOLDER"),
    (["dataset.height=30"], "multiples of 4"),
    (["method=copy_source", "scale=single"], "scale: not a setting of method=copy_source, which takes no settings"),
    (["scale="], "scale"),
    (["seed=-1"], "seed=-1: accepted is 0 or more"),
    (["evaluation.batch=0"], "evaluation.batch=0: accepted is 1 or more"),
    (["losses.l1=nan"], "weights are 0 (term left out) or more"),
    (["pose_sigma=0"], "pose_sigma=0.0: accepted is more than 0"),
    (["method=copy_source", "training.steps=5"], "training.steps=5: method=copy_source is not trained"),
    (["preset=null"], "accepted are paper, small, smoke"),
    (["method._target_=os.system"], "accepted with method=xinggan are scale"),
    (["method_name=other"], "follows from method, preset and dataset"),
    (["schedule=small-folder"], "follows from method, preset and dataset"),
    (["+colour=red"], "neither added nor removed"),
    (["losses.l2=1"], "Known keys: adversarial, l1, perceptual"),
    (["scale=single=multi"], "scale=single=multi"),
    (["seed=0,1"], "seed"),
]


@pytest.mark.parametrize(("overrides", "said"), REFUSED, ids=[" ".join(o) for o, _ in REFUSED])
def test_wrong_overrides_are_refused_with_what_is_accepted(overrides, said):
    with pytest.raises(ConfigurationError) as refusal:
        compose(overrides)
    assert said in str(refusal.value)


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(ConfigurationError, match=r"blocks=0.*training.steps=0.*precision=x"):
        compose(["blocks=0", "training.steps=0", "training.decay_steps=0", "precision=x"])


def test_comma_lists_become_every_combination_in_order():
    grid = expand(["scale=multi,single", "preset=smoke", "seed=0,1", "pyramid=[1,3]"])
    assert grid[0] == ["scale=multi", "preset=smoke", "seed=0", "pyramid=[1,3]"]
    assert [(row[0], row[2]) for row in grid] == [
        ("scale=multi", "seed=0"),
        ("scale=multi", "seed=1"),
        ("scale=single", "seed=0"),
        ("scale=single", "seed=1"),
    ]
    assert expand([]) == [[]]


UNCHANGING = ["device=cpu", "runs=elsewhere", "cache=elsewhere", "training.log_every=7", "scale=multi"]
CHANGING = ["seed=1", "scale=single", "blocks=5", "losses.l1=49", "training.batch=3", "precision=bf16", "width=32"]


@settings(deadline=None, max_examples=6)
@given(st.sets(st.sampled_from(UNCHANGING)), st.sets(st.sampled_from(CHANGING), min_size=1))
def test_run_id_depends_on_what_is_computed_and_on_nothing_else(unchanging, changing):
    plain = run_id(compose([]), "digest")
    assert run_id(compose(sorted(unchanging)), "digest") == plain
    assert run_id(compose(sorted(changing | unchanging)), "digest").split("-")[-1] != plain.split("-")[-1]
    assert run_id(compose([]), "another digest") != plain


def test_the_same_photographs_in_another_place_are_the_same_run():
    ids = {run_id(compose(["dataset=folder", f"dataset.root={root}"]), "digest") for root in ("here", "there")}
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("active", "idle"),
    [
        (["scale=single"], "pyramid=[1,2]"),
        (["fusion=concat"], "candidates=3"),
        (["discriminators=none"], "history=7"),
        (["losses.perceptual=0"], "losses.perceptual_network=vgg19"),
        (["pose_map=onehot"], "pose_sigma=2"),
    ],
)
def test_a_setting_with_nothing_to_act_on_does_not_make_another_run(active, idle):
    hashes = {run_id(compose(words), "x").split("-")[-1] for words in (active, [*active, idle])}
    assert len(hashes) == 1
    assert run_id(compose([idle]), "x").split("-")[-1] != run_id(compose([]), "x").split("-")[-1]


def test_the_networks_that_train_and_score_are_part_of_what_is_computed(tmp_path, monkeypatch):
    import shutil

    import ablations.identity

    before = identity(compose([]), "x")
    assert set(before["networks"]) == {"attributes", "perceptual", "pose"}
    assert set(identity(compose(["dataset=folder", "dataset.root=x"]), "x")["networks"]) == {"perceptual"}
    copy = shutil.copytree(ablations.identity.EMBEDDED, tmp_path / "weights")
    (copy / "pose.safetensors").write_bytes(b"other")
    monkeypatch.setattr(ablations.identity, "EMBEDDED", copy)
    assert identity(compose([]), "x") != before


def test_names_say_what_was_switched():
    config = compose([*XINGGAN, "seed=3"])
    assert name(config) == "xinggan scale=single attention=plain fusion=coattention"
    assert run_id(config, "x").startswith("xinggan-single-plain-coattention-synthetic-small-s3-")
    assert name(compose(["method=copy_source"])) == "copy_source"
    config = compose(["blocks=3", "losses.l1=0", "tie_projections=false", "pyramid=[1,3]"])
    assert name(config) == "xinggan blocks=3 pyramid=[1,3] tie_projections=false losses.l1=0"
    assert run_id(config, "x").startswith("xinggan-blocks_3-pyramid__1_3_-tie_projections_false-l1_0-synthetic-")


def test_switches_of_another_method_do_not_change_a_reference():
    one, other = compose(["scale=single", "seed=5"]), compose(["training.steps=3", "training.decay_steps=0"])
    assert identity(reference(one, "mean_image"), "x") == identity(reference(other, "mean_image"), "x")
    assert reference(one, "mean_image").dataset == one.dataset


@pytest.mark.parametrize(
    "command", [["ablations.run", "--help"], ["ablations.study", "--help"], ["ablations.run", "scale=x"]]
)
def test_help_and_refusals_answer_without_loading_torch(command):
    code = f"import runpy, sys; sys.argv = {command!r}\ntry: runpy.run_module({command[0]!r}, run_name='__main__')\n"
    code += "except SystemExit as e: status = e.code\nprint('torch' in sys.modules, 'numpy' in sys.modules, status)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    status = 2 if command[1] == "scale=x" else 0
    assert done.stdout.splitlines()[-1] == f"False False {status}", done.stdout + done.stderr
    if status:
        assert "multi, single" in done.stderr


@pytest.fixture
def checkpoint(tmp_path):
    file = tmp_path / "generator.pth"
    file.write_bytes(b"weights")
    return file


def test_a_published_checkpoint_takes_the_place_of_training(checkpoint):
    config = compose(["method=patn", f"published={checkpoint}"])
    assert config.training is None
    assert config.method["_target_"] == "baselines.gan.patn.PublishedPATN"
    assert config.method_name == "patn"
    assert name(config) == "patn published=generator"
    assert run_id(config, "digest").startswith("patn-published_generator-synthetic-")


def test_a_published_checkpoints_name_says_what_it_is_run_with(checkpoint):
    words = [f"published={checkpoint}", "pose_map=onehot"]
    assert name(compose(words)) == "xinggan published=generator pose_map=onehot"
    assert name(compose([words[0], "pose_sigma=4"])) == "xinggan published=generator pose_sigma=4"


def test_a_method_is_called_as_it_was_asked_for_whatever_its_file_looks_like(tmp_path, monkeypatch):
    monkeypatch.setenv("XINGGAN_METHODS", str(tmp_path))
    (tmp_path / "one.yaml").write_text("_target_: mine.Mine  # my method\nkernel: 3\n")
    (tmp_path / "two.yaml").write_text("kernel: 5\n_target_: mine.Mine")
    assert [name(compose([f"method={method}"])) for method in ("one", "two")] == ["one", "two"]
    assert name(compose(["method=two", "method.kernel=7"])) == "two method.kernel=7"


def test_a_published_checkpoint_counts_by_its_content_and_by_what_it_is_run_with(checkpoint, tmp_path):
    def hashed(*words, file=checkpoint):
        return run_id(compose([f"published={file}", *words]), "digest").split("-")[-1]

    moved = tmp_path / "moved.pth"
    moved.write_bytes(checkpoint.read_bytes())
    plain = hashed()
    assert hashed(file=moved) == hashed("seed=3", "device=cpu") == plain
    changed = [hashed("precision=bf16"), hashed("pose_map=onehot"), hashed("method=patn")]
    checkpoint.write_bytes(b"other weights")
    assert len({plain, hashed(), *changed}) == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scale=single"], "scale: fixed by the published checkpoint"),
        (["training.steps=5"], "training.steps|training: fixed by the published checkpoint"),
        (["method=copy_source"], "accepted with method=xinggan or method=patn"),
        (["published=absent.pth"], "no such file"),
    ],
)
def test_what_a_published_checkpoint_fixes_is_not_set(words, said, checkpoint):
    with pytest.raises(ConfigurationError, match=said):
        compose([f"published={checkpoint}", *words])


def test_an_autoencoder_from_a_file_counts_by_its_content(tmp_path):
    def hashed(folder):
        return run_id(compose(["method=vae_roundtrip", f"method.vae={folder}"]), "digest").split("-")[-1]

    folders = [tmp_path / name for name in ("here", "there")]
    for folder in folders:
        folder.mkdir()
        (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    assert hashed(folders[0]) == hashed(folders[1])
    (folders[1] / "diffusion_pytorch_model.safetensors").write_bytes(b"others")
    assert hashed(folders[0]) != hashed(folders[1])
