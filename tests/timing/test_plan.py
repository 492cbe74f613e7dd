"""A plan becomes groups of scenarios that differ in the method alone, and batches grow until they do not fit."""

from dataclasses import asdict, replace

import pytest

from xinggan.timing.plan import PLANS, Plan, grid, left_out, plan_of
from xinggan.timing.scenario import Task, circumstances

SAMPLERS = ("ddim", "unipc")


def trained(name, settings, **training):
    return Task("training", name, settings, "data", "cpu", height=32, width=16, **training)


GAN = trained("a GAN", {"_target_": "x"}, batch=4, training_steps=60, decay_steps=30)
DIFFUSION = trained("diffusion", {"_target_": "y", "sampler": "ddim", "steps": 50}, batch=8, training_steps=90)
REFERENCE = trained("copy", {"_target_": "z"})


def test_every_method_is_measured_under_every_precision_mode_and_batch():
    plan = Plan(batches=(1, 8), samplers=("ddim", "unipc"), steps=(1, 4))
    groups = grid([GAN, DIFFUSION, REFERENCE], plan)
    own = [task for group in groups for task in group if task.kind == "inference" and task.sampling_steps is None]
    places = {(task.method, task.precision, task.mode, task.batch) for task in own}
    assert len(own) == len(places) == 3 * 2 * 3 * 2
    sweep = {(t.method, t.sampler, t.sampling_steps) for group in groups for t in group if t.sampling_steps}
    assert sweep == {("diffusion", sampler, steps) for sampler in ("ddim", "unipc") for steps in (1, 4)}
    training = [task for group in groups for task in group if task.kind == "training"]
    assert {(task.method, task.batch, task.training_steps) for task in training} == {
        ("a GAN", 4, 60),
        ("diffusion", 8, 90),
    }


def test_methods_stand_side_by_side_no_more_than_allowed_and_batches_grow():
    groups = grid([GAN, DIFFUSION], Plan(batches=(1, 2), samplers=()))
    inference = [group for group in groups if group and group[0].kind == "inference"]
    assert all([task.method for task in group] == ["a GAN", "diffusion"] for group in inference)
    assert all(len({circumstances(asdict(task)) for task in group}) == 1 for group in inference)
    batches = [group[0].batch for group in inference]
    assert batches == sorted(batches)
    assert max(map(len, grid([GAN, DIFFUSION, REFERENCE], Plan(together=2)))) == 2


def test_compiled_modes_can_have_batches_and_precisions_of_their_own():
    tasks = [task for group in grid([GAN], Plan(batches=(1, 4), compiled_batches=(1,))) for task in group]
    batches = {mode: {t.batch for t in tasks if t.kind == "inference" and t.mode == mode} for mode in Plan.modes}
    assert batches == {"eager": {1, 4}, "compiled": {1}, "cudagraph": {1}}
    tasks = [task for group in grid([GAN], Plan(compiled_precisions=("fp32",))) for task in group]
    found = {(task.mode, task.precision) for task in tasks if task.kind == "inference"}
    assert found == {("eager", "fp32"), ("eager", "bf16"), ("compiled", "fp32"), ("cudagraph", "fp32")}


def test_kinds_that_are_not_asked_for_are_left_out():
    kinds = [{task.kind for group in grid([GAN], Plan(kinds=(kind,))) for task in group} for kind in Plan.kinds]
    assert kinds == [{"counts", "inference"}, {"counts", "training"}]


def measured(batch, because=None, median_ms=5.0):
    place = {"kind": "inference", "precision": "fp32", "mode": "eager", "sampler": None, "sampling_steps": None}
    return {**place, "batch": batch, "unavailable_because": because, "median_ms": median_ms}


def test_after_a_batch_that_does_not_fit_or_takes_too_long_larger_ones_are_left_out_with_the_reason():
    larger = replace(GAN, kind="inference", batch=16)
    assert left_out(larger, [measured(4), measured(8)], slow_s=60) is None
    full = [measured(4), measured(8, because="out of memory: 3 GB", median_ms=None)]
    assert left_out(larger, full, slow_s=60) == "left out: at batch 8, out of memory: 3 GB"
    assert left_out(replace(larger, batch=4), full, slow_s=60) is None
    assert left_out(replace(larger, precision="bf16"), full, slow_s=60) is None
    assert "at batch 8 a call took 2 s" in left_out(larger, [measured(8, median_ms=2500.0)], slow_s=2)


def test_words_change_the_preset_s_plan_or_that_of_timing_plan():
    words = ["timing.batches=4,1,2", "timing.modes=eager", "timing.samplers=", "timing.slow_s=2.5"]
    plan = plan_of("smoke", words, SAMPLERS)
    assert (plan.batches, plan.modes, plan.samplers, plan.slow_s) == ((1, 2, 4), ("eager",), (), 2.5)
    assert plan.rounds == PLANS["smoke"].rounds
    quick = plan_of("smoke", ["timing.plan=quick", "timing.rounds=3"], SAMPLERS)
    assert quick == replace(PLANS["quick"], rounds=3, samplers=SAMPLERS)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("timing.colour=red", "timing.colour=red: accepted are timing.plan=, timing.kinds="),
        ("timing.plan=fast", "accepted are quick, smoke, small, paper"),
        ("timing.samplers=euler", "timing.samplers=euler: accepted are ddim, unipc"),
        ("timing.modes=fast", "accepted are eager, compiled, cudagraph"),
        ("timing.batches=0", "numbers above 0"),
        ("timing.batches=many", "whole numbers"),
        ("timing.rounds=1,2", "one number"),
    ],
)
def test_a_word_that_is_not_accepted_is_refused_with_what_is(word, said):
    with pytest.raises(ValueError, match=said):
        plan_of("paper", [word], SAMPLERS)
