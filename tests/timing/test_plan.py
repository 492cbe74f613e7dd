"""A plan becomes groups of scenarios that differ in the method alone, and batches grow until they do not fit."""

import pytest

from xinggan.timing.plan import PLANS, Ladders, Plan, Subject, grid, plan_of

GAN = Subject("a GAN", {"_target_": "x"}, "data", "cpu", 32, 16, 60, 30, 4)
DIFFUSION = Subject("diffusion", {"_target_": "y", "sampler": "ddim", "steps": 50}, "data", "cpu", 32, 16, 90, 0, 8)
REFERENCE = Subject("copy", {"_target_": "z"}, "data", "cpu", 32, 16)


def test_every_method_is_measured_under_every_precision_mode_and_batch():
    plan = Plan(batches=(1, 8), samplers=("ddim", "unipc"), steps=(1, 4))
    groups = grid([GAN, DIFFUSION, REFERENCE], plan)
    own = [task for group in groups for task in group if task.kind == "inference" and task.sampling_steps is None]
    places = {(task.method, task.precision, task.mode, task.batch) for task in own}
    assert len(own) == len(places) == 3 * 2 * 3 * 2
    sweep = {(t.method, t.sampler, t.sampling_steps) for group in groups for t in group if t.sampling_steps}
    assert sweep == {("diffusion", sampler, steps) for sampler in ("ddim", "unipc") for steps in (1, 4)}
    trained = [task for group in groups for task in group if task.kind == "training"]
    assert {(task.method, task.batch, task.training_steps) for task in trained} == {
        ("a GAN", 4, 60),
        ("diffusion", 8, 90),
    }


def test_methods_stand_side_by_side_and_batches_grow():
    groups = grid([GAN, DIFFUSION], Plan(batches=(1, 2), samplers=()))
    inference = [group for group in groups if group and group[0].kind == "inference"]
    assert all([task.method for task in group] == ["a GAN", "diffusion"] for group in inference)
    assert all(len({task.circumstances for task in group}) == 1 for group in inference)
    batches = [group[0].batch for group in inference]
    assert batches == sorted(batches)


def test_no_more_processes_than_allowed_are_alive_together():
    assert max(map(len, grid([GAN, DIFFUSION, REFERENCE], Plan(together=2)))) == 2


def test_compiled_modes_can_have_batches_and_precisions_of_their_own():
    tasks = [task for group in grid([GAN], Plan(batches=(1, 4), compiled_batches=(1,))) for task in group]
    batches = {mode: {t.batch for t in tasks if t.kind == "inference" and t.mode == mode} for mode in Plan.modes}
    assert batches == {"eager": {1, 4}, "compiled": {1}, "cudagraph": {1}}
    tasks = [task for group in grid([GAN], Plan(compiled_precisions=("fp32",))) for task in group]
    found = {(task.mode, task.precision) for task in tasks if task.kind == "inference"}
    assert found == {("eager", "fp32"), ("eager", "bf16"), ("compiled", "fp32"), ("cudagraph", "fp32")}


def test_a_sweep_s_sampler_and_steps_take_the_place_of_the_method_s():
    task = DIFFUSION.task("inference", sampler="unipc", sampling_steps=4)
    assert task.method_settings == {"_target_": "y", "sampler": "unipc", "steps": 4}
    assert DIFFUSION.task("inference").method_settings == DIFFUSION.settings


def scenario(batch, because=None, median_ms=5.0, **others):
    place = {"kind": "inference", "precision": "fp32", "mode": "eager", "sampler": None, "sampling_steps": None}
    return {**place, "batch": batch, "unavailable_because": because, "median_ms": median_ms, **others}


def test_after_a_batch_that_does_not_fit_larger_ones_are_left_out_with_the_reason():
    ladders = Ladders(slow_s=60)
    ladders.note("a GAN", scenario(4))
    assert ladders.left_out(GAN.task("inference", batch=8)) is None
    ladders.note("a GAN", scenario(8, because="out of memory: 3 GB"))
    assert ladders.left_out(GAN.task("inference", batch=16)) == "left out: at batch 8, out of memory: 3 GB"
    assert ladders.left_out(GAN.task("inference", batch=16, precision="bf16")) is None
    assert ladders.left_out(DIFFUSION.task("inference", batch=16)) is None


def test_a_call_that_takes_too_long_ends_the_ladder_too():
    ladders = Ladders(slow_s=2)
    ladders.note("a GAN", scenario(8, median_ms=2500.0))
    assert "at batch 8 a call took" in ladders.left_out(GAN.task("inference", batch=16))


def test_words_change_the_preset_s_plan():
    plan = plan_of("smoke", ["timing.batches=4,1,2", "timing.modes=eager", "timing.samplers=", "timing.slow_s=2.5"])
    assert (plan.batches, plan.modes, plan.samplers, plan.slow_s) == ((1, 2, 4), ("eager",), (), 2.5)
    assert plan.rounds == PLANS["smoke"].rounds


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("timing.colour=red", "accepted are timing.methods="),
        ("timing.modes=fast", "accepted are eager, compiled, cudagraph"),
        ("timing.batches=0", "numbers above 0"),
        ("timing.batches=many", "whole numbers"),
        ("timing.rounds=1,2", "one number"),
    ],
)
def test_a_word_that_is_not_accepted_is_refused_with_what_is(word, said):
    with pytest.raises(ValueError, match=said):
        plan_of("smoke", [word])
