"""Rebuilding a trained method: the weights that are scored, and nothing that a foreign configuration would call."""

import json
import shutil

import pytest
import torch
import yaml

from ablations.config import build_method, compose, plain_values
from baselines.gan import patn
from xinggan.data.batch import images_to_float
from xinggan.data.poses import heatmaps
from xinggan.model import published
from xinggan.trained import load_published_method, load_trained, read_run
from xinggan.training.checkpoint import load_checkpoint, save_checkpoint
from xinggan.training.ema import MovingAverage


@pytest.fixture
def copied(trained_run, tmp_path):
    """A copy of a run to change."""
    return shutil.copytree(trained_run, tmp_path / trained_run.name)


def configure(run, change):
    """Rewrite config.yaml with what `change` does to it."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    change(config)
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def test_loaded_weights_are_the_averaged_ones_of_the_last_checkpoint(trained_run):
    trained = load_trained(read_run(trained_run), "cpu")
    step, state = load_checkpoint(trained_run / "checkpoint")
    assert (trained.step, trained.height, trained.width) == (step, 32, 16) == (6, 32, 16)
    assert not trained.method.training
    own = MovingAverage([trained.method.generator], 0.5)
    assert all(torch.equal(a, b) for a, b in zip(own.live, state["average"], strict=True))
    live = {name.removeprefix("generator."): value for name, value in state["method"].items()}
    weight = "blocks.0.shape.1.weight"
    assert not torch.equal(trained.method.generator.state_dict()[weight], live[weight])


def test_the_rebuilt_method_has_the_types_of_the_experiments_own(trained_run):
    """What is read back from YAML is words; what the method is made of are the choices they stand for."""
    method = load_trained(read_run(trained_run), "cpu").method
    same = build_method(compose(["preset=smoke", "scale=single", "dataset.height=32", "dataset.width=16"]), "cpu")
    mine, theirs = method.generator.settings, same.generator.settings
    assert mine == theirs
    assert [type(getattr(mine, key)) for key in vars(mine)] == [type(getattr(theirs, key)) for key in vars(theirs)]


def test_a_run_trained_elsewhere_needs_none_of_the_weights_that_only_training_uses(copied, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    configure(copied, lambda config: config["method"]["losses"].update(perceptual_network="vgg19"))
    assert load_trained(read_run(copied), "cpu").step == 6


def test_an_unfinished_run_is_loaded_at_the_step_it_has_come_to(copied):
    configure(copied, lambda config: config["training"].update(steps=100))
    (copied / "status.json").write_text(json.dumps({"state": "preempted", "height": 32, "width": 16}))
    trained = load_trained(read_run(copied), "cpu")
    assert trained.step == 6
    assert trained.note.endswith("the run is not trained to its end (preempted): weights of step 6 of 100")


def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(copied, capsys):
    newest = max((copied / "checkpoint").iterdir())
    newest.write_bytes(newest.read_bytes()[:-1])
    assert load_trained(read_run(copied), "cpu").step == 3
    assert "is damaged" in capsys.readouterr().out


@pytest.mark.parametrize("left", ["nothing", "empty files"])
def test_a_run_without_an_intact_checkpoint_says_so(copied, left):
    for file in (copied / "checkpoint").iterdir():
        file.unlink() if left == "nothing" else file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"no intact checkpoint in .*status: finished.*repeat the command"):
        load_trained(read_run(copied), "cpu")


def test_a_checkpoint_with_code_in_it_is_refused_even_under_its_right_name(copied):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("was run",))

    shutil.rmtree(copied / "checkpoint")
    save_checkpoint(copied / "checkpoint", 6, {"method": Trap()})
    with pytest.raises(ValueError, match=r"not plain data that can be loaded \(UnpicklingError\)"):
        load_trained(read_run(copied), "cpu")


def test_a_folder_of_runs_names_those_in_it(trained_run):
    with pytest.raises(ValueError, match=f"name one of them: {trained_run.name}"):
        read_run(trained_run.parent)


@pytest.mark.parametrize("content", ["", "[]", "{", "method: xinggan", "!!python/object/apply:os.getcwd []"])
def test_a_file_that_is_no_configuration_is_refused(copied, content):
    (copied / "config.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"config\.yaml"):
        read_run(copied)


HOSTILE = {
    "another package": lambda method: method.update(_target_="os.system"),
    "a nested one": lambda method: method["losses"].update(_target_="builtins.eval"),
    "a module behind ours": lambda method: method.update(_target_="xinggan.files.os.mkdir"),
    "a function of ours": lambda method: method.update(_target_="xinggan.files.write_atomically"),
    "a class that is imported": lambda method: method.update(_target_="xinggan.files.Path"),
    "settings elsewhere": lambda method: method.update(_settings_="os.system"),
    "settings that are a function": lambda method: method.update(_settings_="xinggan.files.write_atomically"),
    "settings that are a method": lambda method: method.update(_settings_="xinggan.model.generator.XingGAN"),
    "a reference": lambda method: method.update(width="${oc.env:HOME}"),
    "no module": lambda method: method.update(_target_="xinggan"),
    "no name": lambda method: method.update(_target_=7),
    "positional arguments": lambda method: method.update(_args_=["/tmp/x"]),
    "nothing there": lambda method: method.update(_target_="baselines.gan.nowhere.Nobody"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_configuration_cannot_name_what_is_not_a_method(case, copied, monkeypatch):
    for called in ("system", "mkdir"):
        monkeypatch.setattr(f"os.{called}", lambda *_, **__: pytest.fail("was called"))
    configure(copied, lambda config: HOSTILE[case](config["method"]))
    with pytest.raises(ValueError, match=r"config\.yaml: method.*(_target_|_settings_|_args_|references)"):
        load_trained(read_run(copied), "cpu")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scale": "other"}, r"method\.scale does not fit .*'other', expected one of \[multi, single\]"),
        ({"colour": "red"}, r"method\.colour does not fit this version of XingGANSettings"),
        ({"blocks": 3}, r"the checkpoint of step 6 does not fit config\.yaml"),
    ],
)
def test_settings_that_do_not_fit_are_refused(copied, changes, said):
    configure(copied, lambda config: config["method"].update(changes))
    with pytest.raises(ValueError, match=said):
        load_trained(read_run(copied), "cpu")


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("ground_truth", "GroundTruth cannot generate"),
        ("mean_image", "MeanImage is made from the training images"),
        ("copy_source", None),
    ],
)
def test_a_reference_is_a_method_like_any_other_unless_it_needs_the_data_set(name, refused, tmp_path):
    config = plain_values(compose([f"method={name}", "dataset.height=32", "dataset.width=16"]))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    if refused is None:
        assert load_trained(read_run(tmp_path), "cpu").step is None
    else:
        with pytest.raises(ValueError, match=refused):
            load_trained(read_run(tmp_path), "cpu")


@pytest.mark.parametrize(
    ("method", "name", "size", "kind"),
    [("xinggan", "market", (128, 64), "gaussian"), ("patn", "fashion", (256, 176), "onehot")],
)
def test_a_published_checkpoint_is_a_method_of_its_data_sets_size(shared, tmp_path, method, name, size, kind):
    shapes = json.loads((shared / "golden" / f"{method.removesuffix('gan')}_{name}_state.json").read_text())
    random = torch.Generator().manual_seed(0)
    state = {key: torch.rand(shape, generator=random) * 0.02 for key, shape in dict(shapes).items()}
    torch.save(state, tmp_path / "net.pth")
    trained = load_published_method(tmp_path / "net.pth", method)
    assert (trained.height, trained.width) == size
    assert trained.step is None
    source = torch.randint(0, 256, (1, 3, 32, 16), generator=random, dtype=torch.uint8)
    poses = torch.cat([torch.rand(2, 18, 2, generator=random) * 15, torch.ones(2, 18, 1)], dim=2)
    maps = heatmaps(poses, 32, 16, 6.0, kind)
    with torch.no_grad():
        generator = {"xinggan": published, "patn": patn}[method].from_published(state)
        expected = generator(images_to_float(source), maps[:1], maps[1:])
    image = trained.method.generate(source, poses[:1], poses[1:], torch.zeros(1, dtype=torch.int64))
    torch.testing.assert_close(image, expected, atol=1e-5, rtol=0)


def test_a_run_of_a_published_checkpoint_is_loaded_like_any_other(shared, tmp_path):
    """What is not trained is complete as it is built; null in the configuration stays the default."""
    shapes = json.loads((shared / "golden" / "patn_market_state.json").read_text())
    torch.save({key: torch.zeros(shape) for key, shape in dict(shapes).items()}, tmp_path / "net.pth")
    settings = compose(["method=patn", f"published={tmp_path / 'net.pth'}"]).method
    dataset = {"height": 32, "width": 16}
    for pose_map in (None, "onehot"):
        config = {"method": dict(settings) | {"pose_map": pose_map}, "dataset": dataset, "training": None}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        trained = load_trained(read_run(tmp_path), "cpu")
        assert (trained.step, trained.method.settings.pose_map.value) == (None, pose_map or "gaussian")


def test_a_published_checkpoint_that_is_none_is_refused(tmp_path):
    (tmp_path / "net.pth").write_bytes(b"no checkpoint")
    with pytest.raises(published.PublishedMismatch, match=r"net\.pth"):
        load_published_method(tmp_path / "net.pth", "xinggan")
