"""Cluster settings: what the examples hold, what words change, and that nothing unsafe comes into a script."""

import subprocess

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from slurm.cluster import CONF, KEYS, Cluster, checked, read_cluster
from slurm.submission import JobArray, Request, Submission, array_script, plan_arrays


def submission(tmp_path, cluster, rows=3, trained=3):
    listed = [
        {"run": f"r{i}", "title": "", "words": ["seed=0"], "trained": i < trained, "action": "start"}
        for i in range(rows)
    ]
    return Submission(tmp_path, "name", Request(None, None, "/", []), cluster, listed)


@pytest.mark.parametrize("name", [path.stem for path in CONF.glob("*.yaml")])
def test_the_examples_name_every_setting_and_are_accepted(name):
    assert set(yaml.safe_load((CONF / f"{name}.yaml").read_text())) == set(KEYS)
    cluster, others = read_cluster([f"cluster={name}"])
    assert others == []
    assert cluster.for_report.processes == 1


def test_words_change_settings_and_the_others_remain():
    cluster, others = read_cluster(
        ["cluster=local", "gpus=4", "nodes=2", "seed=0,1", "sbatch.mail-type=END", "mem_gb=null", "scale=single"]
    )
    assert others == ["seed=0,1", "scale=single"]
    options = cluster.options()
    assert (options["nodes"], options["ntasks-per-node"], options["gpus-per-node"]) == ("2", "2", "2")
    assert options["mail-type"] == "END"
    assert "mem" not in options
    assert cluster.alone.options()["gpus-per-node"] == "1"


def test_a_file_of_ones_own_is_taken(tmp_path):
    (tmp_path / "mine.yaml").write_text("partition: long\nreport: {partition: short}\n")
    cluster, _ = read_cluster([f"cluster={tmp_path / 'mine.yaml'}"])
    assert (cluster.partition, cluster.for_report.partition) == ("long", "short")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["cluster=nowhere"], "accepted are gpu, local"),
        (["gpus=many"], "whole number from 0"),
        (["timeout_min=0"], "whole number from 1"),
        (["gpus=3", "nodes=2"], "do not divide"),
        (["partition=a b"], "without blanks"),
        (["qos=x\n#SBATCH --uid=0"], "without blanks"),
        (["sbatch.wrap=x;y"], "neither blanks nor quotes"),
        (["sbatch.array=0-9"], "set by the sweep itself"),
        (["sbatch.=1"], "long name"),
        (["cluster=local", "timeout_min=1", "signal_s=60"], "must be less than"),
    ],
)
def test_what_is_not_accepted_is_refused_with_what_is(words, told):
    with pytest.raises(ValueError, match=told):
        read_cluster(words)


@given(st.text())
def test_no_text_breaks_out_of_its_line_in_the_script(text):
    try:
        cluster = checked({"constraint": text, "sbatch": {"comment": text}}, Cluster(), "test")
    except ValueError:
        return
    assert text.split() == [text]
    assert not set(text) & set("'\"`$;#\\<>\n")
    assert cluster.options()["constraint"] == text


def test_the_script_is_a_shell_script_that_starts_the_supervisor(tmp_path):
    place = tmp_path / "a place; with 'signs'"
    made = submission(place, checked({"setup": ["module() { :; }", "module load cuda"]}, Cluster(), "test"))
    script = array_script(made, JobArray("xg-name-0", 0, 3, made.cluster))
    assert "#SBATCH --array=0-2" in script
    assert "#SBATCH --requeue" in script
    assert "#SBATCH --signal=USR2@60" in script
    echoed = script.replace("exec ", "printf '%s\\n' ")
    said = subprocess.run(["bash", "-eu"], input=echoed, capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[1:] == ["-m", "slurm.job", str(place / "slurm" / "name"), "0"]


def test_large_sweeps_are_divided_and_untrained_runs_get_one_process(tmp_path):
    made = submission(tmp_path, checked({"gpus": 4, "array_parallelism": 5}, Cluster(), "test"), rows=25, trained=22)
    plan_arrays(made, 10)
    assert [(array.first, array.count, array.cluster.gpus) for array in made.arrays] == [
        (0, 10, 4), (10, 10, 4), (20, 2, 4), (22, 3, 1),
    ]  # fmt: skip
    assert {made.array_of(row).first for row in range(22, 25)} == {22}
    assert "--array=0-9%5" in array_script(made, made.arrays[0])
