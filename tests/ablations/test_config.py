"""Configuration: what words mean, where each value comes from, what is refused and how."""

import subprocess
import sys
from pathlib import Path

import pytest

from ablations.config import build_method, check_processes, choices_of, compose, flat, plain_values, reference, resolve
from ablations.words import expand
from baselines import REFERENCES

LATENT = ("vae", "vae_share", "vae_steps", "vae_width", "vae_factor", "latent_channels", "vae_learning_rate", "seed")


def test_defaults_are_xinggan_plus_plus_at_the_small_preset():
    experiment = compose([])
    switches = {key: experiment.method[key] for key in ("scale", "attention", "fusion", "branches")}
    assert switches == {"scale": "multi", "attention": "enhanced", "fusion": "dense", "branches": "both"}
    assert (experiment.method_name, experiment.preset, experiment.dataset.name) == ("xinggan", "small", "synthetic")


@pytest.mark.parametrize("method", choices_of("method"))
def test_every_method_composes_at_every_preset_on_every_data_set_and_is_built(method):
    for preset in choices_of("preset"):
        for dataset in choices_of("dataset"):
            experiment = compose([f"method={method}", f"preset={preset}", f"dataset={dataset}", "dataset.root=x"])
            assert (experiment.training is None) == (method in REFERENCES)
    built = build_method(compose([f"method={method}", "preset=smoke"]), "cpu")
    assert f"{type(built).__module__}.{type(built).__name__}" == compose([f"method={method}"]).method["_target_"]


def test_the_latent_methods_and_their_reference_have_the_same_autoencoder_at_each_preset():
    for preset in choices_of("preset"):
        methods = [
            compose([f"method={m}", f"preset={preset}"]).method for m in ("vae_roundtrip", "pocold", "cfld", "xmdpt")
        ]
        assert len({tuple(method[key] for key in LATENT) for method in methods}) == 1


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        ("training.batch=32", 1_911_863),
        ("training.steps=7", 7),
        ("training.images=1000 training.batch=32", 32),
        ("training.steps=7 training.images=100", 2),
    ],
)
def test_a_schedule_in_images_takes_as_many_steps_as_the_batch_needs_unless_steps_are_given(words, steps):
    experiment, sources = resolve(["method=pidm", "preset=paper", *words.split()])
    assert experiment.training.steps == steps
    if "training.steps" not in words:
        assert "training.images=" in sources["training.steps"]


def test_a_bare_key_and_one_with_its_method_say_the_same():
    for bare in ("blocks=3", "losses.l1=0", "pyramid=[1,3]"):
        assert compose([bare]) == compose([f"method.{bare}"]) != compose([])
    assert compose(["method=pidm", "steps=8"]) == compose(["method=pidm", "method.steps=8"])


def test_where_each_value_comes_from_is_known():
    words = ["method=pidm", "preset=paper", "dataset=deepfashion", "dataset.root=x", "steps=20", "seed=3"]
    experiment, sources = resolve(words)
    assert {key: sources.get(key) for key in (
        "training.batch", "training.ema", "training.log_every", "dataset.test_pairs", "dataset.height",
        "method.steps", "method.seed", "method.guidance_pose", "method._target_", "evaluation.batch", "seed",
    )} == {
        "training.batch": "method/pidm.yaml, presets: paper",
        "training.ema": "method/pidm.yaml, presets: paper",
        "training.log_every": "preset/paper.yaml",
        "dataset.test_pairs": "preset/paper.yaml, datasets: deepfashion",
        "dataset.height": "dataset=deepfashion",
        "method.steps": "command line",
        "method.seed": "seed",
        "method.guidance_pose": "default of PIDMSettings",
        "method._target_": "method/pidm.yaml",
        "evaluation.batch": "default",
        "seed": "command line",
    }  # fmt: skip
    assert sources.keys() == dict(flat(plain_values(experiment))).keys()
    assert experiment.method["seed"] == 3
    assert (sources["method_name"], sources["preset"]) == ("command line", "command line")


REFUSED = [
    ("scale=double", "scale=double: .*multi, single"),
    ("budget=hours", "images, seconds, flops"),
    ("preset=tiny", "accepted are paper, small, smoke"),
    ("preset=null", "preset=null: accepted are paper, small, smoke"),
    ("method=pidmm", r"ground_truth, mean_image.* Did you mean pidm\?"),
    ("dataset=imagenet", "deepfashion, folder, market1501, synthetic"),
    ("scal=single", r"not a setting of method=xinggan, which takes scale, .*Did you mean scale\?"),
    ("sed=3", r"Did you mean seed\?"),
    ("training.stepz=3", r"training has no stepz; accepted are .*Did you mean steps\?"),
    ("losses.l2=1", "losses has no l2; accepted are adversarial, l1, perceptual"),
    ("training.steps=many", "training.steps=many: .*could not be converted to Integer"),
    ("training.steps=0", "training.steps=0: accepted is 1 or more"),
    ("training.decay_steps=10000", "accepted is 0 to training.steps"),
    ("training=5", "accepted are the keys of training"),
    ("training=null", "accepted are the keys of training"),
    ("blocks=0", "blocks=0: accepted are 1 to 64"),
    ("width=7", "width=7: accepted are even numbers from 4"),
    ("dropout=1", "dropout=1"),
    ("pyramid=[0]", "bin counts from 1"),
    ("pyramid=[a]", "could not be converted to Integer"),
    ("attention=none scale=single", "nothing to act on"),
    ("attention=none branches=appearance", "never reach the image"),
    ("losses.l1=-1", r"losses.l1=-1: accepted is 0 \(the term is left out\) or more"),
    ("losses.l1=nan", "losses.l1=nan"),
    ("losses.l1=0 losses.perceptual=0 discriminators=none", "nothing to train for"),
    ("precision=fp8", "fp32, bf16"),
    ("evaluation.lpips_net=resnet", "alex, vgg, squeeze"),
    ("evaluation.protocols=gfla", "evaluation.protocols=gfla: accepted are clean, all"),
    ("evaluation.estimator=oracle", "accepted are movenet, keypointrcnn"),
    ("evaluation.estimator=movenet", "evaluation.estimator=movenet needs evaluation.estimator_weights=FILE"),
    ("evaluation.proportions=48:128", "evaluation.proportions: accepted with evaluation.estimator=movenet"),
    ("evaluation.estimator_weights=nowhere.tflite", "nowhere.tflite: no such file; accepted is MoveNet"),
    ("evaluation.batch=0", "evaluation.batch=0: accepted is 1 or more"),
    ("dataset=folder", "needs dataset.root=FOLDER"),
    ("dataset.height=30", "multiples of 4"),
    ("dataset.seed=-1", "dataset.seed=-1: accepted is 0 to 9223372036854775807"),
    ("seed=-1", "seed=-1: accepted is 0 to 9223372036854775807"),
    (f"seed={2**64}", f"seed={2**64}: accepted is 0 to 9223372036854775807"),
    ("pose_sigma=0", "pose_sigma=0.*: accepted is more than 0"),
    ("method=copy_source scale=single", "scale=single: not a setting of method=copy_source, which takes no settings"),
    ("method=copy_source training.steps=5", "training.steps=5: method=copy_source is not trained"),
    ("method=copy_source budget=flops", "method=copy_source is not trained"),
    ("compile=true training.checkpoint_activations=true", "accepted is false with compile=true"),
    ("budget=seconds", "budget=seconds needs amount"),
    ("amount=0", "amount=0.0: accepted is more than 0"),
    ("method=pidm sampler=euler steps=0", "(?=.*sampler=euler: accepted are ddpm, ddim).*steps=0: accepted are 1 to"),
    ("method=pidm guidance_pose=2", "guidance_pose=2.0 has nothing to act on .* or choose guidance=paper"),
    ("training.images=0", r"training\.images=0: accepted are whole numbers from 1"),
    ("method=pidm stepps=3", r"not a setting of method=pidm, which takes steps, .*Did you mean steps\?"),
    ("method=pg2 losses.l1=5", "losses.l1=5: not a setting of method=pg2, which takes .*coarse_share"),
    ("method._target_=os.system", "_target_=os.system: not a setting of method=xinggan"),
    ("method.seed=3", "follows from seed"),
    ("method_name=other", "follows from method"),
    ("name=other", "not a setting"),
    ("+colour=red", "neither added nor removed"),
    ("~scale", "neither added nor removed"),
    ("scale=", "scale="),
    ("scale=single=multi", "cannot read 'scale=single=multi' as key=value"),
    ("scale", "cannot read 'scale' as key=value"),
    ("seed=0,1", "seed=0,1: one value is accepted here"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=[words for words, _ in REFUSED])
def test_wrong_words_are_refused_with_what_is_accepted(words, said):
    with pytest.raises(ValueError, match=said):
        compose(words.split())


def test_all_that_is_wrong_is_said_at_once():
    words = "scale=double colour=red losses.l1=-1 blocks=0 training.steps=0 training.decay_steps=0 precision=x seed=-1"
    with pytest.raises(ValueError) as refusal:
        compose(words.split())
    said = ("scale=double", "colour=red", "losses.l1=-1", "blocks=0", "training.steps=0", "precision=x", "seed=-1")
    assert all(word in str(refusal.value) for word in said), refusal.value
    with pytest.raises(ValueError, match=r"(?=.*method=no)(?=.*preset=no)(?=.*scale=a,b).*dataset=no"):
        compose(["method=no", "preset=no", "dataset=no", "scale=a,b"])


def test_comma_lists_become_every_combination_in_order():
    grid = expand(["scale=multi,single", "preset=smoke", "seed=0,1", "pyramid=[1,3]"])
    assert grid[0] == ["scale=multi", "preset=smoke", "seed=0", "pyramid=[1,3]"]
    assert [(row[0], row[2]) for row in grid] == [
        ("scale=multi", "seed=0"), ("scale=multi", "seed=1"), ("scale=single", "seed=0"), ("scale=single", "seed=1"),
    ]  # fmt: skip
    assert expand([]) == [[]]


PATHS = [
    "Münster/日本", "a[1](b)", "#1~'s \"x\"", "x=y", "a,b", "~nobody's", "{a: b}", "null.d", "1e3", "[1]", "${HOME}/$x",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_taken_as_it_is(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(path).mkdir(parents=True)
    for file in ("config.json", "diffusion_pytorch_model.safetensors"):
        Path(path, file).touch()
    words = [f"runs={path}", f"cache={path}", "dataset=folder", f"dataset.root={path}"]
    experiment = compose(words)
    assert (experiment.runs, experiment.cache, experiment.dataset.root) == (path, path, path)
    assert compose(["method=pocold", "preset=smoke", f"vae={path}"]).method["vae"] == path
    if "," not in path:
        assert expand([*words, "seed=0,1"]) == [[*words, "seed=0"], [*words, "seed=1"]]


def test_paths_may_be_quoted_begin_at_home_and_be_a_list_in_a_grid(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ü")
    assert compose(["runs='a,b'"]).runs == "a,b"
    assert compose(["runs=~/x"]).runs == "/home/ü/x"
    assert expand(["dataset.root='a,1','b 2'", "runs='c,d'"]) == [
        ["dataset.root=a,1", "runs='c,d'"], ["dataset.root=b 2", "runs='c,d'"],
    ]  # fmt: skip


def test_a_reference_has_the_data_of_the_run_and_nothing_of_its_method():
    one = compose(["scale=single", "seed=5", "dataset.people_test=7", "evaluation.batch=3", "runs=here"])
    other = reference(one, "mean_image")
    assert (other.dataset, other.evaluation, other.runs) == (one.dataset, one.evaluation, "here")
    assert other.method == {"_target_": "baselines.trivial.MeanImage"} and other.training is None


@pytest.mark.parametrize(
    "command", [["ablations.run", "--help"], ["ablations.study", "--help"], ["ablations.run", "scale=x"]], ids=" ".join
)
def test_help_and_refusals_answer_without_loading_torch(command):
    code = f"import runpy, sys; sys.argv = {command!r}\ntry: runpy.run_module({command[0]!r}, run_name='__main__')\n"
    code += "except SystemExit as e: status = e.code\nprint('torch' in sys.modules, 'numpy' in sys.modules, status)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    status = 2 if command[1] == "scale=x" else 0
    assert done.stdout.splitlines()[-1] == f"False False {status}", done.stdout + done.stderr
    if status:
        assert "multi, single" in done.stderr


def test_no_methods_settings_load_torch():
    code = "import sys; from ablations.config import choices_of, compose\nfor method in choices_of('method'):"
    code += " compose([f'method={method}']); assert 'torch' not in sys.modules, method"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.fixture
def checkpoint(tmp_path):
    file = tmp_path / "generator.pth"
    file.write_bytes(b"weights")
    return file


@pytest.mark.parametrize(
    ("words", "count", "told"),
    [
        ("training.batch=6 norm=instance", 4, "batch=6 does not divide among 4"),
        ("norm=batch", 2, "norm=instance"),
        ("method=bigraph norm=instance", 2, "method=bigraph has batch norms whatever norm= says"),
        ("method=nted training.batch=12", 2, "sees 4 images together, so 2 processes need a multiple of 8"),
    ],
)
def test_what_several_processes_would_compute_differently_from_one_is_refused(words, count, told):
    experiment = compose(["preset=smoke", *words.split()])
    method = build_method(experiment, "cpu")
    check_processes(experiment, 1, method)
    with pytest.raises(ValueError, match=told):
        check_processes(experiment, count, method)


def test_a_published_checkpoint_takes_the_place_of_training(checkpoint):
    experiment = compose(["method=patn", f"published={checkpoint}", "pose_map=onehot"])
    assert experiment.training is None
    assert experiment.method["_target_"] == "baselines.gan.patn.PublishedPATN"
    assert (experiment.method_name, experiment.method["pose_map"]) == ("patn", "onehot")
    assert compose([f"published={checkpoint}", "preset=paper"]).method["pose_map"] is None  # the file's own


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("scale=single", "scale=single: fixed by the published checkpoint, which takes pose_map, pose_sigma"),
        ("training.steps=5", "training.steps=5: a published checkpoint is not trained"),
        ("method=copy_source", "accepted with method=bigraph or .*method=xinggan"),
        ("published=absent.pth", "no such file"),
        ("pose_map=drawn", "gaussian, onehot"),
        ("pose_sigma=0", "accepted is more than 0"),
    ],
)
def test_what_a_published_checkpoint_fixes_is_not_set(word, said, checkpoint):
    with pytest.raises(ValueError, match=said):
        compose([f"published={checkpoint}", word])


def test_a_method_outside_the_suite_has_the_settings_of_its_file(tmp_path, monkeypatch):
    monkeypatch.setenv("XINGGAN_METHODS", str(tmp_path))
    (tmp_path / "one.yaml").write_text(
        "_target_: mine.Mine\nkernel: 3\nwidth: 8\nseed: 0\npresets:\n  small: {width: 12, training: {batch: 2}}\n"
    )
    (tmp_path / "two.yaml").write_text("kernel: 5\n_target_: mine.Mine")
    (tmp_path / "xinggan.yaml").write_text("_target_: mine.Mine")
    experiment = compose(["method=one", "kernel=7", "seed=4"])
    assert experiment.method == {"_target_": "mine.Mine", "kernel": 7, "width": 12, "seed": 4}
    assert (experiment.method_name, experiment.training.batch) == ("one", 2)
    assert compose(["method=two"]).method == {"_target_": "mine.Mine", "kernel": 5}
    assert compose(["method=xinggan"]).method["_target_"] != "mine.Mine"
    (tmp_path / "three.yaml").write_text("kernel: [")
    with pytest.raises(ValueError, match=r"three\.yaml: not readable as YAML"):
        compose(["method=three"])
    for word in ("colour=red", "width=3"):
        with pytest.raises(ValueError, match=f"{word}: not a setting of method=two, which takes kernel"):
            compose(["method=two", word])
