"""What a sweep submits, with programs that answer like SLURM's and remember what they were asked."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from small_sweeps import CLUSTER, TINY, finish, names, rewrite, sweeps

from slurm import report, status, submit, sweep
from slurm.submission import read_submission
from slurm.sweep import reference_rows, titled_rows


def test_every_run_and_reference_is_submitted_once_in_arrays_and_then_the_report(slurm, words, runs, capsys):
    assert sweep.main(words) == 0
    assert len(set(names(runs))) == 8  # five seeds, three references
    said = capsys.readouterr().out
    assert "8 runs: start 8 new" in said
    assert re.findall(r"job array (\d): (\d) runs", said) == [("1", "2"), ("2", "3"), ("3", "3")]
    assert [" gpus_per_node=0" in line for line in said.splitlines() if "job array" in line] == [False, False, True]
    assert f"{runs.parent}/report/" in said
    *arrays, last = slurm.scripts()
    wanted = ["#SBATCH --array=0-1%2", "#SBATCH --array=0-2%3", "#SBATCH --array=0-2%3"]  # four is the most
    assert all(line in array for line, array in zip(wanted, arrays, strict=True))
    assert "#SBATCH --dependency=afterany:1:2:3" in last
    slurm.put_into_queue(runs)
    assert sweep.main(words) == 0
    assert "nothing to submit" in capsys.readouterr().out
    assert len(slurm.scripts()) == 4


def test_the_shells_own_settings_do_not_beat_what_the_sweep_prints(slurm, words, runs, monkeypatch):
    for name in ("SBATCH_TIMELIMIT", "SBATCH_PARTITION", "SBATCH_NO_REQUEUE", "SBATCH_ARRAY_INX", "SBATCH_EXPORT"):
        monkeypatch.setenv(name, "1")
    assert sweep.main(words) == 0
    assert "SBATCH_" not in (slurm.folder / "environment").read_text()
    assert os.environ["SBATCH_PARTITION"] == "1"


def test_further_runs_wait_for_nobody_but_their_report_waits_for_all(slurm, words, runs, capsys):
    assert sweep.main(words) == 0
    slurm.put_into_queue(runs)
    assert sweep.main([word.replace("0,1,2,3,4", "4,5") for word in words]) == 0
    assert "skip 4 queued" in capsys.readouterr().out
    assert [row["run"] for row in sweeps(runs)[1]] == [name for name in names(runs) if "-s5-" in name]
    assert "#SBATCH --dependency=afterany:2:3:5\n" in slurm.scripts()[-1]


def test_what_is_refused_leaves_nothing_and_the_same_command_later_gets_further(slurm, words, runs, capsys):
    (slurm.folder / "room").write_text("0")
    assert sweep.main(words) == 1
    assert status.main(["--runs", str(runs)]) == 2
    assert "no sweep was submitted" in capsys.readouterr().err
    (slurm.folder / "room").write_text("3")
    assert sweep.main(words) == 1
    said = capsys.readouterr()
    assert "queue takes no more jobs now" in said.err
    assert re.findall(r"job array \d: (\d) runs", said.out) == ["2", "1"]
    assert len(names(runs)) == 3
    slurm.put_into_queue(runs)
    (slurm.folder / "room").write_text("1000")
    assert sweep.main(words) == 0
    assert "skip 3 queued" in capsys.readouterr().out
    assert len(set(names(runs))) == len(names(runs)) == 8


def test_a_report_that_was_refused_or_failed_is_submitted_by_the_same_command(slurm, words, runs, capsys):
    (slurm.folder / "room").write_text("8")  # all runs, and nothing more
    assert sweep.main(words) == 1
    assert "The report's job: " in capsys.readouterr().err
    slurm.put_into_queue(runs)
    (slurm.folder / "room").write_text("1000")
    assert sweep.main(words) == 0
    assert f"{runs.parent}/report/" in capsys.readouterr().out
    assert "#SBATCH --dependency=afterany:1:2:3\n" in slurm.scripts()[-1]
    slurm.put_into_queue(runs)
    assert sweep.main(words) == 0  # on its way
    assert "nothing to submit" in capsys.readouterr().out
    (slurm.folder / "queue").write_text("")
    for name in names(runs):
        finish(runs / name)
    assert status.main(["--runs", str(runs)]) == 0
    assert len(re.findall("^report: failed", capsys.readouterr().out, re.MULTILINE)) == 1
    assert sweep.main(["--no-report", *words]) == 0
    assert "nothing to submit" in capsys.readouterr().out
    assert sweep.main(words) == 0
    assert "dependency" not in slurm.scripts()[-1]
    assert len(slurm.scripts()) == 5
    page = read_submission(max(runs.glob("slurm/*/sweep.json")).parent).page
    page.parent.mkdir(parents=True)
    page.touch()
    assert sweep.main(words) == 0
    assert "nothing to submit" in capsys.readouterr().out


def test_reports_that_failed_are_shown_until_a_newer_one_takes_their_place(slurm, words, runs, capsys):
    for seeds in ("0", "1", "1,2"):
        assert sweep.main([word.replace("0,1,2,3,4", seeds) for word in words]) == 0
    capsys.readouterr()
    for folder in sorted(runs.glob("slurm/2*")):
        content = json.loads((folder / "sweep.json").read_text())
        (folder / f"{content['report']}_0_log.err").write_text(f"no room for {len(content['everything'])} runs\n")
    assert status.main(["--runs", str(runs)]) == 0
    assert re.findall(r"^report: failed, no room for (\d)", capsys.readouterr().out, re.MULTILINE) == ["4", "5"]


def test_ctrl_c_while_sbatch_is_asked_loses_nothing_that_slurm_takes(slurm, words, runs):
    (slurm.folder / "interrupt").write_text(str(os.getpid()))
    assert sweep.main(words) == 0
    assert [row["job"] for rows in sweeps(runs) for row in rows] == [
        "1_0", "1_1", "2_0", "2_1", "2_2", "3_0", "3_1", "3_2",
    ]  # fmt: skip


def test_jobs_that_slurm_may_have_taken_without_an_answer_are_kept_and_known_by_their_name(
    slurm, words, runs, capsys, monkeypatch
):
    monkeypatch.setattr(submit, "LIMIT_S", 1)
    sbatch = (slurm.folder / "sbatch").read_text()
    (slurm.folder / "sbatch").write_text("#!/bin/sh\nsleep 600\n")
    (slurm.folder / "scancel").write_text("#!/bin/sh\nexit 1\n")
    assert sweep.main(words) == 1
    assert "no answer within 1 s" in capsys.readouterr().err
    assert [row["job"] for row in sweeps(runs)[0]] == 5 * [""]
    slurm.put_into_queue(runs, state="RUNNING")
    monkeypatch.setattr(submit, "LIMIT_S", 90)
    (slurm.folder / "sbatch").write_text(sbatch)
    assert sweep.main(words) == 0
    assert "start 3 new" in capsys.readouterr().out
    (slurm.folder / "queue").write_text("")
    (slurm.folder / "accounting").write_text("JobID|State|NodeList\n")
    assert report.main([str(max(runs.glob("slurm/2*")))]) == 0  # carries on also what has no number
    assert len(sweeps(runs)[2]) == 8


def test_a_submission_that_died_before_it_knew_its_job_is_recognised_by_its_name_and_an_older_versions_passed_over(
    slurm, words, runs, capsys
):
    (runs / "slurm" / "20250101").mkdir(parents=True)
    older = {"name": "20250101", "cluster": {}, "rows": [], "arrays": []}
    (runs / "slurm" / "20250101" / "sweep.json").write_text(json.dumps(older))
    assert sweep.main(words) == 0
    slurm.put_into_queue(runs)
    rewrite(runs, lambda content: [row.pop("job") for row in content["rows"]])
    assert sweep.main(words) == 0
    assert "nothing to submit" in capsys.readouterr().out


def test_an_unreachable_controller_stops_the_sweep_before_anything_is_submitted(slurm, words, runs, capsys):
    (slurm.folder / "squeue").write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
    assert sweep.main(words) == 1
    assert "slurmctld" in capsys.readouterr().err
    assert not slurm.scripts()


def test_a_dry_run_prints_what_sbatch_would_get_and_submits_nothing_even_without_slurm(
    words, runs, capsys, monkeypatch, tmp_path
):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sweep.main(["--dry-run", *words]) == 0
    said = capsys.readouterr().out
    assert "#SBATCH --array=0-4%5" in said
    assert "#SBATCH --dependency=afterany" in said
    assert "squeue is not installed here" in said
    assert not list(runs.iterdir())


@pytest.mark.parametrize("place", ["run%as", "back\\slash", "%j/runs"])
def test_a_place_that_slurm_would_write_elsewhere_is_refused_before_anything_is_submitted(
    slurm, words, place, tmp_path, capsys
):
    assert sweep.main([*words[:-2], f"runs={tmp_path / place}", words[-1]]) == 2
    assert "replace % and \\" in capsys.readouterr().err
    assert not slurm.scripts()


def test_a_setup_that_activates_an_environment_is_told_that_it_does_not_choose_the_python(
    slurm, words, runs, tmp_path, capsys
):
    (tmp_path / "mine.yaml").write_text("setup: [conda activate torch]\n")
    assert sweep.main([f"cluster={tmp_path / 'mine.yaml'}", *words[1:]]) == 0
    assert "conda activate torch does not choose the Python of the runs" in capsys.readouterr().out
    assert status.main(["--runs", str(runs)]) == 0
    assert "python=" in capsys.readouterr().out


def test_what_was_given_to_slurm_elsewhere_does_not_stop_a_sweep_on_a_machine_without_it(
    slurm, words, runs, capsys, monkeypatch, tmp_path
):
    assert sweep.main(words) == 0
    for name in names(runs):
        finish(runs / name)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sweep.main(["--no-report", "cluster=local", *words[1:]]) == 0
    said = capsys.readouterr().out
    assert "squeue is not installed here" in said
    assert "nothing to submit" in said


def test_a_process_of_this_machine_that_ends_at_once_is_told_and_leaves_nothing(words, runs, capsys, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert sweep.main(["cluster=local", *words[1:]]) == 1
    assert "ended with exit status 1" in capsys.readouterr().err
    assert not sweeps(runs)


def test_words_that_mean_nothing_are_refused_before_anything_else(runs, cache, capsys):
    place = [f"cluster={CLUSTER}", f"runs={runs}", f"cache={cache}"]
    for wrong, told in (
        (["scale=other"], "scale"),
        (["study=nothing"], "accepted are components"),
        (["study=efficiency"], "python -m ablations.study efficiency"),
        (["study=blocks,scales"], "one study at a time"),
        (["gpus=3", *TINY], "does not divide"),
        (["gpus=2", *TINY, "norm=batch"], "norm=instance"),
        (["only=", "study=components"], "only=: accepted are appearance branch only"),
        (["cluster=nowhere"], "accepted are debug, local, slurm"),
        (["gpu=1"], "gpu"),
    ):
        assert sweep.main([*place, *wrong]) == 2, wrong
        assert told in capsys.readouterr().err
    assert not runs.exists()


def test_a_study_may_be_asked_for_on_several_data_sets():
    found = titled_rows("projections", ["dataset=synthetic,folder", "seed=0,1"])
    assert len(found) == 8
    assert {word for _, row in found for word in row if word.startswith("dataset=")} == {
        "dataset=synthetic", "dataset=folder",
    }  # fmt: skip


def test_the_rows_of_a_study_are_listed_for_the_report_by_data_set(slurm, words, runs, capsys):
    once = [word for word in words if not word.startswith(("seed=", "dataset.height="))]
    assert sweep.main(["study=projections", "seed=0", "dataset.height=32", *once]) == 0
    (listed,) = (runs / "studies").iterdir()
    assert listed.name == "projections.json"
    assert [row["run"] for row in json.loads(listed.read_text())] == names(runs)
    assert sweep.main(["study=projections", "seed=1", "only=tied", "dataset.height=32", *once]) == 0
    assert [row["title"] for row in json.loads(listed.read_text())][:3] == ["tied seed=0", "tied seed=1", "untied"]
    slurm.put_into_queue(runs)
    assert sweep.main(["study=projections", "seed=0", "dataset.height=32,64", *once]) == 0
    tables = {path.stem: json.loads(path.read_text()) for path in (runs / "studies").glob("projections-*.json")}
    assert set(tables) == {"projections-32", "projections-64"}
    assert [row["title"] for row in tables["projections-64"]] == [row["title"] for row in tables["projections-32"]]
    assert not {row["run"] for row in tables["projections-64"]} & {row["run"] for row in tables["projections-32"]}


def test_references_are_the_same_runs_that_ablations_run_would_make(cache, tmp_path):
    from ablations.config import compose, reference
    from ablations.run import prepare_folders
    from baselines import REFERENCES

    row = [*TINY, "scale=single", "evaluation.batch=4", "seed=3", f"runs={tmp_path}", f"cache={cache}"]
    made = [compose(words) for _, words in reference_rows([row])]
    assert prepare_folders(made) == prepare_folders([reference(compose(row), name) for name in REFERENCES])


def test_help_answers_without_the_heavy_libraries():
    for command in ("sweep", "status", "logs", "cancel", "retry"):
        code = (
            f"import sys\nfrom slurm.{command} import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        )
        code += "assert not {'torch', 'numpy', 'pandas'} & set(sys.modules), sorted(sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "usage" in done.stdout
