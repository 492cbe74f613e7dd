"""Cluster settings: what the examples hold, what words change, and that nothing unsafe comes into a script."""

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from submitit import AutoExecutor
from submitit.slurm.slurm import SlurmExecutor

from slurm.cluster import CONF, KINDS, Cluster, checked, read_cluster
from slurm.submit import DRY_RUN, own_sbatch


def script(folder, cluster, count=3):
    """What sbatch would be given."""
    with own_sbatch(DRY_RUN):
        cluster.jobs(folder, "xg-name-0").map_array(str, range(count))
    (path,) = folder.glob("*_submission.sh")
    return path.read_text()


@pytest.mark.parametrize("name", [path.stem for path in CONF.glob("*.yaml")])
def test_the_examples_are_accepted(name):
    cluster, others = read_cluster([f"cluster={name}", "seed=0,1", "scale=single"])
    assert (cluster.executor, others) == (name, ["seed=0,1", "scale=single"])


def test_all_that_submitit_takes_is_accepted_but_for_what_the_sweep_sets_itself():
    ours = {"name", "job_name", "dependency", "srun_args", "use_srun", "stderr_to_stdout"}
    otherwise = {"num_gpus", "time", "mem", "ntasks_per_node"}  # the same by another name
    theirs = AutoExecutor._valid_parameters() | SlurmExecutor._valid_parameters()
    assert theirs - ours - otherwise <= KINDS.keys()


def test_without_sbatch_sweeps_stay_on_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_cluster([])[0].executor == "local"
    (tmp_path / "sbatch").touch(0o755)
    assert read_cluster([])[0].executor == "slurm"


def test_words_are_submitits_parameters_or_options_of_sbatch(tmp_path):
    words = [
        "cluster=slurm",
        "gpus=4",
        "nodes=2",
        "sbatch.mail-type=END",
        "mem_gb=null",
        "slurm_qos=long",
        "exclude=n7",
    ]
    cluster, _ = read_cluster([*words, "array_parallelism=5", "cpus=6", "signal_s=77", "timeout_min=90"])
    assert cluster.processes == 4
    lines = script(tmp_path / "several", cluster).splitlines()
    for option in ("nodes=2", "ntasks-per-node=2", "gpus-per-node=2", "mail-type=END", "qos=long", "exclude=n7",
                   "array=0-2%3", "cpus-per-task=6", "signal=USR2@77", "time=90"):  # fmt: skip
        assert f"#SBATCH --{option}" in lines
    assert "#SBATCH --requeue" in lines
    assert not any("--mem" in line for line in lines)
    alone = script(tmp_path / "alone", cluster.alone()).splitlines()
    assert "#SBATCH --ntasks-per-node=1" in alone
    assert "#SBATCH --gpus-per-node=1" in alone


@pytest.mark.parametrize(
    ("words", "processes", "gpus"),
    [
        ([], 1, 1),
        (["gpus_per_node=4"], 4, 4),
        (["gpus=4", "nodes=2"], 4, 2),
        (["gpus_per_node=2", "nodes=2"], 4, 2),
        (["gpus=0", "tasks_per_node=2"], 2, 0),
        (["gpus=0", "tasks_per_node=2", "nodes=2"], 4, 0),
    ],
)
def test_what_the_command_says_of_gpus_and_processes_replaces_what_the_file_does(tmp_path, words, processes, gpus):
    """The example has gpus: 1. The same words change a known cluster, as slurm.retry does."""
    for known in (None, read_cluster(["cluster=slurm", "gpus=2"])[0]):
        if known is None or words:
            cluster, _ = read_cluster([*([] if known else ["cluster=slurm"]), *words], known)
            assert cluster.processes == processes
            lines = script(tmp_path / f"{known is None}", cluster)
            assert f"ntasks-per-node={processes // cluster.nodes}\n" in lines
            assert (f"gpus-per-node={gpus}\n" in lines) if gpus else ("gpus-per-node" not in lines)


def test_null_takes_an_option_of_sbatch_out_again(tmp_path):
    (tmp_path / "mine.yaml").write_text("sbatch: {mail-type: END, reservation: mine}\n")
    cluster, _ = read_cluster([f"cluster={tmp_path / 'mine.yaml'}", "sbatch.mail-type=null"])
    lines = script(tmp_path / "script", cluster)
    assert "mail-type" not in lines
    assert "#SBATCH --reservation=mine\n" in lines


def test_a_file_of_ones_own_is_taken_and_a_known_cluster_changed(tmp_path):
    (tmp_path / "mine.yaml").write_text("slurm_partition: long\ngpus: 2\nreport: {partition: short}\n")
    cluster, _ = read_cluster([f"cluster={tmp_path / 'mine.yaml'}", "constraint=a100"])
    assert (cluster.values["partition"], cluster.report, cluster.processes) == ("long", {"partition": "short"}, 2)
    more, _ = read_cluster(["mem_gb=7", "gpus=1", "constraint=null"], cluster)
    assert (more.values["partition"], more.values["mem_gb"], more.processes) == ("long", 7, 1)
    assert "constraint" not in more.values


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["cluster=nowhere"], "accepted are debug, local, slurm"),
        (["gpus=many"], "whole number from 0"),
        (["timeout_min=0"], "whole number from 1"),
        (["cluster=slurm", "gpus=3", "nodes=2"], "do not divide"),
        (["cluster=slurm", "gpus=4", "gpus_per_node=2"], "do not divide"),
        (["cluster=slurm", "tasks_per_node=2"], "one process a GPU"),
        (["qos=x\n#SBATCH --uid=0"], "one value, on one line"),
        (["sbatch.wrap=x\ny"], "one line"),
        (["sbatch.array=0-9"], "the sweep does not set itself"),
        (["sbatch.=1"], "long name"),
        (["timeout_min=1", "signal_s=60"], "must be less than"),
        (["cluster=local", "nodes=2"], "one machine"),
        (["cluster=local", "setup=x"], "list of lines"),
    ],
)
def test_what_is_not_accepted_is_refused_with_what_is(words, told):
    with pytest.raises(ValueError, match=told):
        read_cluster(words)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("gpu: 1", "one of these: account, array_parallelism"),
        ("- gpus", "`key: value`"),
        ("a: b: c", "not a yaml file"),
        ("report: [1]", "`key: value` lines, settings of the report"),
        ("cluster: pbs", "accepted are slurm, local, debug"),
        ("setup: module load cuda", "list of lines"),
        ("report: {gpu: 1}", "report: gpu=1: accepted is one of these"),
        ("sbatch: x", "long name"),
    ],
)
def test_a_file_that_is_not_accepted_is_named_with_what_is(tmp_path, text, told):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=told) as caught:
        read_cluster([f"cluster={tmp_path / 'mine.yaml'}"])
    assert "mine.yaml" in str(caught.value)


@settings(deadline=None, max_examples=60)
@given(st.text())
def test_no_text_breaks_out_of_its_line_in_the_script(text):
    try:
        found = checked({"constraint": text, "sbatch": {"comment": text}}, "test")
    except ValueError:
        return
    with TemporaryDirectory() as folder:
        lines = script(Path(folder), Cluster("slurm", found)).splitlines()
    (constraint,) = [line.removeprefix("#SBATCH --constraint=") for line in lines if "--constraint" in line]
    said = subprocess.run(["bash", "-c", f"printf %s {constraint}"], capture_output=True).stdout
    assert said.decode() == text


def test_the_default_account_of_the_shell_is_printed_rather_than_passed_on(monkeypatch):
    monkeypatch.setenv("SBATCH_ACCOUNT", "project7")
    assert read_cluster(["cluster=slurm"])[0].values["account"] == "project7"
    assert read_cluster(["cluster=slurm", "account=other"])[0].values["account"] == "other"
