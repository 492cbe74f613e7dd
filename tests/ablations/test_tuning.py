"""Tuning: equal grids, the choice on hand-made records, and a real study of two methods from grid to comparison."""

import json
import re

import pytest
import yaml

from ablations.config import compose
from ablations.study import STUDIES, main, study_rows
from ablations.tuning import choose, read_grid, tuned_rows, write_choice

FAILED = {
    "diverged": "xinggan.training.loop.Divergence: step 3: l1 is nan. The batch's pairs: a___b",
    "crashed": "OSError: [Errno 28] No space left on device",
}
RATES = {"1/4": 1e-4, "1/2": 2e-4, "1": 4e-4, "2": 8e-4}


@pytest.fixture
def grid(tmp_path):
    """grid(row, results, ...) writes a row's records; results: (parametrisation, factor) -> a state, or scores."""
    listing = []

    def write(row, results, preset="small", caveat="", **method):
        for number, ((name, factor), result) in enumerate(results.items()):
            run = f"{row}-{number}".replace(" ", "_")
            title = ", ".join(filter(None, [row, name, f"rate x{factor}"])) + caveat
            listing.append({"title": title, "run": run})
            if result is None:
                continue
            (tmp_path / run).mkdir()
            scores = result if isinstance(result, dict) else {}
            status = {"state": "finished"} if scores else {"state": "failed"} if result in FAILED else {"state": result}
            status["error"] = FAILED.get(str(result))
            metrics = [{"metric": metric, "value": value} for metric, value in scores.items()]
            settings = {"learning_rate": RATES[factor], **method}
            config = {"preset": preset, "dataset": {"name": "synthetic"}, "method": settings}
            (tmp_path / run / "status.json").write_text(json.dumps(status))
            (tmp_path / run / "metrics.json").write_text(json.dumps(metrics))
            (tmp_path / run / "config.yaml").write_text(yaml.safe_dump(config))
        (tmp_path / "studies").mkdir(exist_ok=True)
        reference = {"title": "copy_source", "run": "copy_source-1"}
        (tmp_path / "studies" / "tuning.json").write_text(json.dumps([*listing, reference]))
        return read_grid(tmp_path)[row]

    return write


def embedded(*distances, name=""):
    """Results of a row whose runs have these perceptual distances, from the lowest rate to the highest."""
    found = [each if isinstance(each, str | None) else {"perceptual_embedded": each} for each in distances]
    return {(name, factor): each for factor, each in zip(RATES, found, strict=True)}


@pytest.mark.parametrize(
    ("distances", "factor", "at_edge"),
    [
        ((0.4, 0.3, 0.2, 0.5), "1", False),  # the lowest
        ((0.4, 0.2, 0.2, 0.5), "1/2", False),  # of two alike the lower rate
        ((0.4, 0.3, 0.2, 0.1), "2", True),
        ((0.1, 0.3, 0.2, 0.4), "1/4", True),
        ((0.4, 0.3, "diverged", "diverged"), "1/2", False),  # a training that diverged loses
    ],
)
def test_the_lowest_perceptual_distance_is_chosen_and_said_to_lie_at_the_edge(grid, distances, factor, at_edge):
    chosen = choose(grid("PATN", embedded(*distances)))
    assert (chosen.factor, chosen.at_edge) == (factor, at_edge)
    assert chosen.overrides == [f"learning_rate={RATES[factor]!r}"]


def test_lpips_decides_where_all_finished_runs_of_the_method_have_it(grid):
    both = [{"lpips": 0.5 - 0.1 * n, "perceptual_embedded": 0.1 * (n + 1)} for n in range(3)]
    results = dict(zip(embedded(0, 0, 0, 0), [*both, "diverged"], strict=True))
    assert choose(grid("PATN", results)).factor == "1"
    del both[1]["lpips"]
    assert choose(grid("GFLA", results)).factor == "1/4"


def test_both_parametrisations_of_a_diffusion_model_are_in_one_choice(grid):
    results = embedded(0.4, 0.3, 0.35, 0.5, name="epsilon") | embedded(0.4, 0.2, 0.3, 0.9, name="v and min-SNR")
    points = grid("X-MDPT", results, caveat=" (from scratch, trained encoder)", prediction="v", weighting="uniform")
    chosen = choose(points)
    assert chosen.overrides == ["prediction=v", "weighting=min_snr", "learning_rate=0.0002"]


@pytest.mark.parametrize(
    ("results", "said"),
    [
        (embedded(0.4, "running", 0.2, None), r"2 of 4 runs have no result \(x1/2, x2\)"),
        (embedded(0.4, "crashed", 0.2, 0.3), r"1 of 4 runs have no result \(x1/2\)"),
        (embedded(*["diverged"] * 4), "no run is finished"),
        ({("epsilon", "1"): {"perceptual_embedded": 0.1}}, r"3 of 4 .*epsilon x1/4, epsilon x1/2, epsilon x2"),
    ],
)
def test_no_choice_is_made_of_a_grid_that_is_not_complete(grid, results, said):
    with pytest.raises(ValueError, match=said):
        choose(grid("PIDM", results))


def test_a_comparison_takes_the_choice_and_names_every_row_that_has_none(grid, tmp_path, capsys):
    grid("PATN", embedded(0.4, 0.3, 0.2, 0.1))
    grid("DPTN", embedded(0.4, 0.3, 0.2, None))
    grid("GFLA", embedded(0.4, 0.3, 0.2, 0.3), preset="smoke")
    grid("PIDM", embedded(0.4, 0.3, 0.2, 0.3, name="epsilon"), prediction="epsilon", weighting="uniform")
    rows = study_rows("comparison", ["only=patn,vae_roundtrip", f"tuned={tmp_path}", "seed=0,1"])
    assert rows[0] == ("PATN seed=0", ["method=patn", "learning_rate=0.0008", "seed=0"])
    assert rows[-1] == ("autoencoder of the latent methods seed=1", ["method=vae_roundtrip", "seed=1"])
    assert "edge of the grid of learning rates: PATN (x2)" in capsys.readouterr().err
    with pytest.raises(ValueError) as refused:
        tuned_rows(STUDIES["comparison"], str(tmp_path), [])
    said = str(refused.value)
    assert "DPTN: 1 of 4 runs have no result (x2)" in said
    assert "GFLA: was tuned with preset=smoke" in said
    assert "PIDM: was not tuned with v and min-SNR" in said
    assert "NTED: was not tuned" in said
    assert "PATN" not in said and "autoencoder" not in said
    with pytest.raises(ValueError, match="learning_rate: the study comparison sets"):
        study_rows("comparison", ["only=patn", f"tuned={tmp_path}", "learning_rate=1e-3"])
    with pytest.raises(ValueError, match=r"no studies/tuning\.json"):
        study_rows("comparison", [f"tuned={tmp_path / 'elsewhere'}"])


def test_grid_and_choice_are_in_one_table_that_is_computed_again(grid, tmp_path):
    grid("PATN", embedded(0.4, 0.3, 0.2, 0.3))
    grid("DPTN", embedded("diverged", 0.3, 0.2, None))
    told, chosen = write_choice(tmp_path)
    assert chosen == {"PATN-2"}
    assert told["PATN"] == "learning_rate=0.0004 (perceptual_embedded 0.2000)"
    assert told["DPTN"].startswith("none: 1 of 4 runs")
    table = json.loads((tmp_path / "tuning.json").read_text())
    columns = [[row[key] for key in ("factor", "learning_rate", "state", "value", "chosen")] for row in table]
    assert columns[2] == ["1", 4e-4, "finished", 0.2, True]
    assert columns[4] == ["1/4", 1e-4, "failed", None, False]
    assert columns[7] == ["2", None, "missing", None, False]


def test_every_method_gets_as_many_pairs_four_rates_and_the_validation_split():
    rows = study_rows("tuning", [])
    configs = {title: compose(words) for title, words in rows}
    diffusion = ("PIDM", "PoCoLD", "CFLD", "X-MDPT")
    for title, _ in STUDIES["comparison"][:-1]:
        own = [config for name, config in configs.items() if re.match(rf"{re.escape(title)}, (\w[^,]*, )?rate x", name)]
        assert len(own) == (8 if title.startswith(diffusion) else 4), title
        assert len({config.method["learning_rate"] for config in own}) == 4
        for config in own:
            training = config.training
            assert training.steps * training.batch == 4000 and training.decay_steps == training.steps // 2
            assert config.evaluation.split == "validation" and config.seed == 0
    assert configs["PATN, rate x1/4"].method["learning_rate"] == compose(["method=patn"]).method["learning_rate"] / 4
    assert {config.method.get("weighting") for config in configs.values()} == {None, "uniform", "min_snr"}
    published, modern = (configs[f"CFLD, {name}, rate x1"].method for name in ("epsilon", "v and min-SNR"))
    assert [published[key] for key in ("prediction", "weighting")] == ["epsilon", "uniform"]
    assert [modern[key] for key in ("prediction", "weighting")] == ["v", "min_snr"]
    (short,) = {compose(words).training.steps for _, words in study_rows("tuning", ["only=pg2", "training.images=100"])}
    assert short == 13


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["training.steps=4"], "training.steps: the study tuning sets"),
        (["amount=4"], "amount: the study tuning sets"),
        (["evaluation.split=test"], "evaluation.split: the study tuning sets"),
        (["seed=0,1"], "a list of values"),
        (["only=copy_source"], "copy_source is not trained"),
        (["only=pidmm"], "Did you mean pidm"),
    ],
)
def test_words_that_would_make_grids_unequal_are_refused(words, said):
    with pytest.raises(ValueError, match=said):
        study_rows("tuning", words)


def test_two_methods_are_tuned_one_after_the_other_and_compared_with_what_was_chosen(tmp_path, capfd):
    small = ["preset=smoke", "dataset.height=32", "dataset.width=16", "dataset.mask_radius=1", "device=cpu"]
    place, runs = [f"runs={tmp_path / 'runs'}", f"cache={tmp_path / 'data'}", "--no-report"], tmp_path / "runs"
    for method in ("pix2pix", "patn"):
        assert main(["tuning", f"only={method}", *small, *place]) == 0
    said = capfd.readouterr().out
    listing = json.loads((runs / "studies" / "tuning.json").read_text())
    assert [row["title"].partition(",")[0] for row in listing[:8]] == ["PATN"] * 4 + ["pix2pix"] * 4
    assert len(listing) == 8 + 3  # the references on the validation people
    table = json.loads((runs / "tuning.json").read_text())
    for method in ("PATN", "pix2pix"):
        own = [row for row in table if row["row"] == method]
        (chosen,) = (row for row in own if row["chosen"])
        distances = {row["run"]: row["value"] for row in own}
        assert chosen["run"] == min(distances, key=distances.get) and len(distances) == 4
        assert re.search(rf"^{method}, rate x{chosen['factor']} \*", said, re.MULTILINE)
        assert f"  {method}: learning_rate={chosen['learning_rate']!r} (perceptual_embedded" in said
    digests = {json.loads((runs / row["run"] / "status.json").read_text())["dataset_digest"] for row in listing}
    assert len(digests) == 1
    (directory,) = (tmp_path / "data").glob(f"synthetic-{digests.pop()[:12]}")
    assert "validation_of" in json.loads((directory / "card.json").read_text())

    assert main(["comparison", "only=pix2pix", f"tuned={runs}", *small, *place]) == 0
    (row, *_) = json.loads((runs / "studies" / "comparison.json").read_text())
    config = yaml.safe_load((runs / row["run"] / "config.yaml").read_text())
    chosen = next(each for each in table if each["row"] == "pix2pix" and each["chosen"])
    assert config["method"]["learning_rate"] == chosen["learning_rate"]
    assert config["evaluation"]["split"] == "test"
