"""The loop's promises: resuming, stopping, refusing to go on with broken numbers, several processes as one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from xinggan.model.generator import XingGAN
from xinggan.model.switches import Norm, XingGANSettings
from xinggan.training.checkpoint import load_checkpoint
from xinggan.training.loop import Divergence, train
from xinggan.training.settings import TrainingSettings
from xinggan.training.stop import Preempted, StopRequest

SETTINGS = TrainingSettings(
    steps=6, decay_steps=3, batch=4, ema=0.9, log_every=1, sample_every=3, checkpoint_every=2
)  # fmt: skip


def xing(**changes):
    small = {"blocks": 1, "width": 4, "candidates": 2, "pyramid": (1, 2), "norm": Norm.instance, "history": 3}
    return XingGAN(XingGANSettings(**small | changes))


def weights(method):
    return {name: tensor.clone() for name, tensor in method.state_dict().items()}


def history(folder):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class StopAt(StopRequest):
    """Asks to stop once the loop has looked `steps` times."""

    def __init__(self, steps):
        self.left = steps

    @property
    def signal_name(self):
        self.left -= 1
        return "SIGTERM" if self.left < 0 else None


@pytest.fixture(scope="module")
def uninterrupted(people, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    method = xing()
    result = train(method, people, SETTINGS, folder)
    return folder, weights(method), [tensor.clone() for tensor in result.average.state()]


def test_training_leaves_history_samples_and_two_checkpoints(uninterrupted):
    folder, _, _ = uninterrupted
    lines = history(folder)
    assert [line["step"] for line in lines if "losses" in line] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in lines if "evaluation" in line] == [3, 6]
    names = {"l1", "perceptual", "adversarial_appearance", "adversarial_shape", "discriminator_appearance"}
    assert names < lines[0]["losses"].keys()
    assert sorted(file.name for file in (folder / "samples").iterdir()) == ["step-000003.png", "step-000006.png"]
    assert len(list((folder / "checkpoint").iterdir())) == 2


def test_an_evaluation_that_was_interrupted_is_done_when_the_training_goes_on_and_is_no_training_time(
    people, tmp_path, uninterrupted
):
    seen = []

    def evaluate(step, seconds):
        seen.append((step, seconds))
        time.sleep(1)
        if len(seen) == 1:
            raise Preempted

    method, points = xing(), {"evaluate": evaluate, "evaluate_at": {3, 5}}
    with pytest.raises(Preempted):
        train(xing(), people, SETTINGS, tmp_path, **points)
    train(method, people, SETTINGS, tmp_path, **points)
    assert [step for step, _ in seen] == [3, 3, 5]
    lines = {line["step"]: line["seconds"] for line in history(tmp_path) if "losses" in line}
    assert seen[2][1] == pytest.approx(lines[5], abs=0.2)
    assert same(uninterrupted[1], weights(method))


@pytest.mark.parametrize("stop_after", [1, 3, 4])
def test_resumed_run_equals_uninterrupted_run(people, tmp_path, uninterrupted, stop_after):
    first = train(xing(), people, SETTINGS, tmp_path, stop=StopAt(stop_after))
    assert not first.finished
    assert first.step == stop_after + 1
    method = xing(seed=99)  # whatever it starts from, the checkpoint decides
    result = train(method, people, SETTINGS, tmp_path)
    folder, expected, average = uninterrupted
    assert same(weights(method), expected)
    assert all(torch.equal(a, b) for a, b in zip(result.average.state(), average, strict=True))
    assert [line.get("losses") for line in history(tmp_path)] == [line.get("losses") for line in history(folder)]


@pytest.mark.parametrize("damage", ["history beyond the checkpoint", "newest checkpoint"])
def test_what_a_killed_run_leaves_behind_costs_steps_but_not_the_result(people, tmp_path, uninterrupted, damage):
    train(xing(), people, SETTINGS, tmp_path, stop=StopAt(4))
    if damage == "newest checkpoint":
        newest = max((tmp_path / "checkpoint").iterdir())
        newest.write_bytes(newest.read_bytes()[:1000])
    else:
        with (tmp_path / "history.jsonl").open("a") as file:
            file.write('{"step": 6, "losses": {"l1": 123}}\n{"step": 6, "los')
    method = xing()
    train(method, people, SETTINGS, tmp_path)
    assert same(weights(method), uninterrupted[1])
    assert [line.get("losses") for line in history(tmp_path)] == [
        line.get("losses") for line in history(uninterrupted[0])
    ]


def test_a_finished_training_is_not_repeated(people, tmp_path):
    train(xing(), people, SETTINGS, tmp_path)
    before = history(tmp_path)
    again = train(xing(), people, SETTINGS, tmp_path)
    assert again.finished
    assert again.step == SETTINGS.steps
    assert history(tmp_path) == before


def test_non_finite_loss_stops_with_step_name_and_pairs_and_saves_nothing_of_it(people, tmp_path):
    class Broken(XingGAN):
        def training_step(self, batch, step):
            losses = super().training_step(batch, step)
            return losses | {"l1": losses["l1"] / 0} if step == 3 else losses

    settings = TrainingSettings(steps=6, decay_steps=0, batch=2, log_every=2, sample_every=0, checkpoint_every=2)
    method = Broken(XingGANSettings(blocks=1, width=4))
    with pytest.raises(Divergence, match=r"step 3: l1 is inf.*pairs: \S+___\S+, \S+___\S+"):
        train(method, people, settings, tmp_path)
    (checkpoint,) = (tmp_path / "checkpoint").iterdir()
    assert checkpoint.name.startswith("step-00000002-")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_signals_ask_to_stop_and_handlers_are_put_back(number):
    before = signal.getsignal(number)
    with StopRequest() as stop:
        os.kill(os.getpid(), number)
        assert stop.signal_name == number.name
    assert signal.getsignal(number) == before


def test_a_second_interrupt_does_not_wait():
    with StopRequest() as stop, pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal_name == "SIGINT"
        os.kill(os.getpid(), signal.SIGINT)


def test_mixed_precision_trains_and_keeps_weights_in_float32(people, tmp_path):
    method = xing()
    method.precision = "bf16"
    settings = TrainingSettings(steps=2, decay_steps=0, batch=2, sample_every=0)
    assert train(method, people, settings, tmp_path).finished
    assert all(p.dtype == torch.float32 for p in method.parameters())


WORKER = """
import sys
import time
from pathlib import Path
tests, packed, folder = sys.argv[1:]
sys.path.insert(0, tests)
import torch
from test_loop import SETTINGS, xing
from xinggan.data.packed import open_packed
from xinggan.distributed import connect
from xinggan.training.loop import train
torch.set_num_threads(1)
processes, device = connect("cpu")
train(xing(), open_packed(Path(packed)), SETTINGS, Path(folder), device=device, processes=processes)
"""


def test_two_processes_give_the_single_process_result(people, tmp_path, uninterrupted):
    """Same global batch, InstanceNorm, dropout and history pool included; sums are taken in another order."""
    (tmp_path / "worker.py").write_text(WORKER)
    folder, alone = tmp_path / "run", uninterrupted[0]
    words = [tmp_path / "worker.py", Path(__file__).parent, people.directory, folder]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *map(str, words)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(launch, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    losses = [[line["losses"] for line in history(run) if "losses" in line] for run in (alone, folder)]
    for one, two in zip(*losses, strict=True):
        assert one == pytest.approx(two, rel=2e-3, abs=2e-4)
    _, state = load_checkpoint(folder / "checkpoint")
    for name, tensor in uninterrupted[1].items():
        torch.testing.assert_close(state["method"][name], tensor, rtol=5e-2, atol=2e-3)
