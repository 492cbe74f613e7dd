"""Studies: the rows of each, their one table, and what a study refuses because it varies it itself."""

import json
import re
import shutil

import pytest
import yaml
from test_run import TINY

from ablations.config import compose, plain_values
from ablations.record import list_rows, run_id
from ablations.study import STUDIES, main, merged, model, study_rows
from baselines import REFERENCES


def test_components_study_is_the_table_of_the_papers():
    titles = [title for title, _ in STUDIES["components"]]
    assert titles[3] == "+ co-attention fusion (= XingGAN)"
    assert titles[-2:] == ["+ dense fusion (= XingGAN++)", "XingGAN++ with AiATrack's attention"]
    previous, changes = None, []
    for _, overrides in study_rows("components", []):
        method = compose(overrides).method
        switches = {key: method[key] for key in ("scale", "attention", "fusion", "branches")}
        if previous:
            changes.append({key for key in switches if switches[key] != previous[key]})
        previous = switches
    assert changes == [{"branches"}, {"branches"}, {"fusion"}, {"scale"}, {"attention"}, {"fusion"}, {"attention"}]


def test_every_row_of_every_study_is_a_valid_experiment_of_its_own():
    for study in STUDIES.keys() - {"tuning"}:  # whose rows are grids
        rows = study_rows(study, ["preset=smoke", "seed=0,1"])
        ids = [run_id(compose(overrides), "x") for _, overrides in rows]
        assert len(set(ids)) == len(ids) == 2 * len(STUDIES[study]), study


def test_a_study_runs_its_rows_once_also_where_records_lost_their_pictures_and_weights(tmp_path, place, capfd):
    words = ["projections", *TINY, f"runs={tmp_path}", place[1], "--no-report"]
    assert main(words) == 0
    first = capfd.readouterr().out
    assert re.search(r"^tied +0\.\d+", first, re.MULTILINE)
    assert re.search(r"^ground_truth +1\.0000", first, re.MULTILINE)
    listing = json.loads((tmp_path / "studies" / "projections.json").read_text())
    assert [entry["title"] for entry in listing[:2]] == ["tied", "untied"]
    assert all((tmp_path / entry["run"] / "metrics.json").exists() for entry in listing)
    for folder in [*tmp_path.glob("*/generated"), *tmp_path.glob("*/checkpoint"), *tmp_path.glob("*/samples")]:
        shutil.rmtree(folder)
    assert main(words) == 0
    assert capfd.readouterr().out.count("was finished before") == 2
    assert not list(tmp_path.rglob("*.png"))


def listed(folder, *words):
    """Rows of `projections` as a study of these words would list them, of which nothing is run."""
    rows = study_rows("projections", [*words, "preset=smoke", "dataset.root=."])
    configs = [compose(overrides) for _, overrides in rows]
    told = [(title, run_id(config, "x"), model(config)) for (title, _), config in zip(rows, configs, strict=True)]
    references = [(name, f"{name}-1", {}) for name in REFERENCES]
    found = merged(folder, "projections", [*told, *references])
    list_rows(folder, "projections", found)
    for (_, run, _), config in zip(told, configs, strict=True):
        (folder / run).mkdir(exist_ok=True)
        (folder / run / "config.yaml").write_text(yaml.safe_dump(plain_values(config)))
    return [title for title, _ in found if title not in REFERENCES]


def test_rows_and_seeds_of_a_study_add_up_until_another_model_is_trained_under_their_titles(tmp_path):
    assert listed(tmp_path, "seed=0") == ["tied", "untied"]
    assert listed(tmp_path, "seed=0") == ["tied", "untied"]
    assert listed(tmp_path, "seed=1", "only=tied") == ["tied seed=0", "tied seed=1", "untied"]
    assert listed(tmp_path, "seed=1,2", "training.log_every=7") == [
        *(f"{row} seed={seed}" for row in ("tied", "untied") for seed in (0, 1, 2)),
    ]
    assert listed(tmp_path, "seed=3", "training.steps=9", "only=tied") == [
        *("tied", "untied seed=0", "untied seed=1", "untied seed=2"),
    ]


@pytest.mark.parametrize(
    ("study", "word", "said"),
    [
        ("blocks", "blocks=3", "the study blocks sets"),
        ("components", "scale=single", "the study components sets"),
        ("losses", "losses={l1: 1}", "the study losses sets"),
        ("scales", "+pyramid=[1]", "the study scales sets"),
        ("projections", "dataset=synthetic,market1501", "once for each data set"),
        ("projections", "dataset.seed=0,1", "once for each data set"),
        ("components", "only=XingGAN+", "accepted are appearance branch only; "),
        ("everything", "seed=1", "components"),
    ],
)
def test_a_study_refuses_what_it_varies_itself_a_list_of_data_sets_and_a_name_that_is_none(study, word, said, capsys):
    try:
        status = main([study, "seed=1", word])
    except SystemExit as left:
        status = left.code
    assert status == 2
    assert said in capsys.readouterr().err
