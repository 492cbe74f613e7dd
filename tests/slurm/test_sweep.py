"""What a sweep submits, with programs that answer like SLURM's and remember what they were asked."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ablations.record import RunRecord
from slurm import cancel, logs, report, retry, status, sweep
from slurm.attempts import begin_attempt, code_version, end_attempt
from slurm.plan import grid_rows, reference_rows
from slurm.submission import read_submission

TINY = ["preset=smoke", "dataset.height=32", "dataset.width=16", "dataset.mask_radius=1", "dataset.people_train=4"]
PROGRAMS = {
    "squeue": "cat {folder}/queue",
    "sacct": "[ -e {folder}/accounting ] || {{ echo 'Slurm accounting storage is disabled' >&2; exit 1; }}\n"
    "cat {folder}/accounting",
    "scontrol": "echo 'MaxArraySize = 4'",
    "scancel": 'echo "$@" >> {folder}/cancelled',
    "sbatch": "number=$(($(cat {folder}/number) + 1))\n"
    "if [ $number -gt $(cat {folder}/room) ]; then\n"
    "  echo 'sbatch: error: Batch job submission failed: Job violates accounting/QOS policy' >&2; exit 1\nfi\n"
    'echo $number > {folder}/number; echo "$@" >> {folder}/submitted; echo $number',
}


class Slurm:
    """The queue that `squeue` shows, and what `sbatch` and `scancel` were given."""

    def __init__(self, folder):
        self.folder = folder
        for name, content in {"queue": "", "number": "0", "room": "1000"}.items():
            (folder / name).write_text(content)

    def said(self, name):
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def put_into_queue(self, runs, state="PENDING"):
        """All that the submissions below `runs` hold, as if every job of theirs were waiting."""
        lines = []
        for path in sorted(runs.glob("slurm/*/sweep.json")):
            for number, array in enumerate(read_submission(path.parent).arrays):
                identifier = array.identifier or f"9{number}"
                lines += [f"{array.name}|{identifier}|{i}|{state}|n1|Priority|0:00|1:00:00" for i in range(array.count)]
        (self.folder / "queue").write_text("\n".join(lines) + "\n")


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    folder = tmp_path / "programs"
    folder.mkdir()
    for name, lines in PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/sh\n{lines.format(folder=folder)}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return Slurm(folder)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("packed")


@pytest.fixture
def words(tmp_path, cache):
    return ["cluster=local", *TINY, "seed=0,1,2,3,4", f"runs={tmp_path / 'runs'}", f"cache={cache}"]


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def rows(runs):
    found = [json.loads(path.read_text()) for path in sorted(runs.glob("slurm/*/sweep.json"))]
    return [[row["run"] for row in content["rows"]] for content in found]


def names(runs):
    return [name for submitted in rows(runs) for name in submitted]


def test_every_run_and_reference_is_submitted_once_in_arrays_and_then_the_report(slurm, words, runs, capsys):
    assert sweep.main(words) == 0
    assert len(set(names(runs))) == 8  # five seeds, three references
    said = capsys.readouterr().out
    assert "8 runs: start 8 new" in said
    assert re.findall(r"job array \d: (\d) runs", said) == ["4", "1", "3"]
    *_, last = slurm.said("submitted")
    assert "--dependency=afterany:1:2:3" in last
    assert last.endswith("report.sh")
    slurm.put_into_queue(runs)
    assert sweep.main(words) == 0
    assert "nothing to submit" in capsys.readouterr().out
    assert len(slurm.said("submitted")) == 4


def test_further_runs_wait_for_nobody_but_their_report_waits_for_all(slurm, words, runs, capsys):
    assert sweep.main(words) == 0
    slurm.put_into_queue(runs)
    assert sweep.main([*(word.replace("0,1,2,3,4", "4,5") for word in words)]) == 0
    assert "skip 4 queued" in capsys.readouterr().out
    assert rows(runs)[1] == [name for name in names(runs) if "-s5-" in name]
    assert "--dependency=afterany:5:2:3 " in slurm.said("submitted")[-1] + " "


def test_a_full_queue_keeps_what_it_took_and_the_same_command_submits_the_rest(slurm, words, runs, capsys):
    (slurm.folder / "room").write_text("1")
    assert sweep.main(words) == 1
    said = capsys.readouterr()
    assert "queue takes no more jobs now" in said.err
    assert "submitted job array 1: 4 runs" in said.out
    assert "not submitted: 1 runs" in said.out
    slurm.put_into_queue(runs)
    taken = [line for line in slurm.said("queue") if line.split("|")[1] == "1"]
    (slurm.folder / "queue").write_text("\n".join(taken) + "\n")
    (slurm.folder / "room").write_text("1000")
    assert sweep.main(words) == 0
    assert "skip 4 queued" in capsys.readouterr().out
    assert len(rows(runs)[1]) == 4


def test_a_submission_that_died_before_it_knew_its_job_is_recognised_by_its_name(slurm, words, runs, capsys):
    assert sweep.main(words) == 0
    for path in runs.glob("slurm/*/sweep.json"):
        content = json.loads(path.read_text())
        for array in content["arrays"]:
            array["identifier"] = ""
        path.write_text(json.dumps(content))
    slurm.put_into_queue(runs)
    capsys.readouterr()
    assert sweep.main(words) == 0
    assert "nothing to submit" in capsys.readouterr().out


def test_an_unreachable_controller_stops_the_sweep_before_anything_is_submitted(slurm, words, runs, capsys):
    (slurm.folder / "squeue").write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
    assert sweep.main(words) == 1
    assert "cannot be reached" in capsys.readouterr().err
    assert not slurm.said("submitted")
    assert status.main(["--runs", str(runs)]) == 2  # nothing was submitted yet


def test_a_dry_run_prints_the_scripts_and_submits_nothing_even_without_slurm(
    words, runs, capsys, monkeypatch, tmp_path
):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sweep.main(["--dry-run", *words]) == 0
    said = capsys.readouterr().out
    assert "#SBATCH --array=0-4" in said
    assert "no machine of a SLURM cluster" in said
    assert "slurm.report" in said
    assert not list(runs.iterdir())


@pytest.fixture
def ended(slurm, words, runs, capsys):
    """A sweep without jobs: seed 0 finished, 1 failed, 2 was interrupted, 3 killed with its job, 4 never began."""
    assert sweep.main(words) == 0
    for seed, state in ((0, "finished"), (1, "failed"), (2, "preempted"), (3, "running")):
        (name,) = [name for name in names(runs) if f"-s{seed}-" in name]
        begin_attempt(runs / name, job=f"1_{seed}", series="x", code=code_version(None), node="n1")
        if seed != 3:
            end_attempt(runs / name, state)
        record = RunRecord(runs / name)
        record.note(state=state, steps=30, error="Traceback\nRuntimeError: no memory" if seed == 1 else None)
        if seed == 0:
            (runs / name / "metrics.json").write_text("[]")
    (slurm.folder / "accounting").write_text("1_3|NODE_FAIL|n2\n2_0|CANCELLED by 0|\n")
    capsys.readouterr()
    return names(runs)


def test_each_state_is_told_from_record_queue_and_accounting(ended, runs, capsys):
    assert status.main(["--runs", str(runs)]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = {seed: next(line for line in lines if f"-s{seed}-" in line) for seed in range(5)}
    for seed, state in enumerate(("finished", "failed", "interrupted", "interrupted", "cancelled")):
        assert re.match(rf"\S+ +{state} ", told[seed] + " "), told[seed]
    assert told[1].endswith("RuntimeError: no memory")
    assert told[3].endswith("job 1_3 ended as NODE_FAIL on n2")
    assert "1 failed" in lines[-1]


def test_without_accounting_the_table_is_made_from_the_records_and_says_so(ended, slurm, runs, capsys):
    (slurm.folder / "accounting").unlink()
    assert status.main(["--runs", str(runs), "*-s3-*"]) == 0
    said = capsys.readouterr().out
    assert "note: sacct ended with exit status 1: Slurm accounting storage is disabled" in said
    assert "interrupted" in said


def test_the_same_sweep_resumes_and_leaves_alone_what_failed_unless_asked(ended, slurm, words, runs, capsys):
    assert sweep.main(["--dry-run", *words]) == 0
    said = capsys.readouterr().out
    assert "resume 2 interrupted" in said
    assert "skip 1 failed" in said
    assert "resume 1 cancelled" in said
    assert "RuntimeError: no memory" in said
    assert sweep.main(["--dry-run", "--retry", *words]) == 0
    assert "retry 1 failed" in capsys.readouterr().out


def test_retry_failed_submits_the_failed_run_with_other_limits(ended, slurm, runs, capsys):
    assert retry.main(["--failed", "mem_gb=7", "--runs", str(runs)]) == 0
    assert rows(runs)[1] == [name for name in ended if "-s1-" in name]
    script = next(runs.glob(f"slurm/{sorted(p.name for p in runs.glob('slurm/2*'))[1]}/xg-*.sh"))
    assert "--mem=7G" in script.read_text()
    assert retry.main(["--failed", "seed=7", "--runs", str(runs)]) == 2
    assert "no limit" in capsys.readouterr().err


def test_replace_puts_the_record_aside_and_a_refusal_puts_it_back(ended, slurm, words, runs, capsys):
    (finished,) = [name for name in ended if "-s0-" in name]
    (slurm.folder / "room").write_text("0")
    assert sweep.main(["--replace", *words]) == 1
    assert (runs / finished / "metrics.json").exists()
    (slurm.folder / "room").write_text("1000")
    assert sweep.main(["--replace", *words]) == 0
    assert not (runs / finished).exists()
    assert len(list(runs.glob(f"replaced/*/{finished}/metrics.json"))) == 1


def test_the_last_job_carries_on_what_died_but_not_what_was_cancelled(ended, slurm, runs, capsys):
    first = next(path.parent for path in runs.glob("slurm/*/sweep.json"))
    assert report.main([str(first)]) == 0
    carried = rows(runs)[1]
    assert all(any(f"-s{seed}-" in name for name in carried) for seed in (2, 3))
    assert not any(f"-s{seed}-" in name for name in carried for seed in (0, 1, 4))
    second = read_submission(sorted(runs.glob("slurm/2*"), key=lambda path: path.name)[1])
    assert second.series == first.name
    lost = json.loads((runs / next(n for n in carried if "-s3-" in n) / "attempts.jsonl").read_text())
    assert lost["how"] == "lost"


def test_cancel_writes_down_what_it_takes_before_it_takes_it(slurm, words, runs, capsys):
    assert sweep.main(words) == 0
    slurm.put_into_queue(runs)
    assert cancel.main(["*-s1-*", "--runs", str(runs)]) == 0
    assert "cancelled 1 queued and 0 running runs of 1" in capsys.readouterr().out
    assert slurm.said("cancelled") == ["1_1"]
    (slurm.folder / "queue").write_text("")
    assert status.main(["--runs", str(runs), "*-s1-*"]) == 0
    assert "1 cancelled" in capsys.readouterr().out


def test_logs_are_the_runs_own_or_those_that_slurm_kept(slurm, words, runs, capsys):
    assert sweep.main(words) == 0
    (name,) = [name for name in names(runs) if "-s2-" in name]
    capsys.readouterr()
    assert logs.main([name, "--runs", str(runs)]) == 1
    assert "nothing printed yet" in capsys.readouterr().err
    (first,) = (path.parent for path in runs.glob("slurm/*/sweep.json"))
    (first / f"xg-{first.name}-0-2.out").write_text("bash: python: not found\n")
    assert logs.main([name, "--runs", str(runs)]) == 0
    assert capsys.readouterr().out == "bash: python: not found\n"
    (runs / name).mkdir()
    (runs / name / "slurm.log").write_text("one\ntwo\nthree\n")
    assert logs.main([name[-12:], "--lines", "1", "--runs", str(runs)]) == 0
    assert capsys.readouterr().out == "three\nbash: python: not found\n"
    assert logs.main(["xinggan*", "--runs", str(runs)]) == 2
    assert "Say more of it" in capsys.readouterr().err
    assert logs.main(["nothing", "--runs", str(runs)]) == 2


def test_words_that_mean_nothing_are_refused_before_anything_else(runs, cache, capsys):
    place = [f"runs={runs}", f"cache={cache}"]
    for wrong, told in (
        (["scale=other"], "scale"),
        (["study=nothing"], "accepted are components"),
        (["study=blocks,scales"], "one study at a time"),
        (["cluster=local", "gpus=3", *TINY], "does not divide"),
        (["cluster=local", "gpus=2", *TINY, "norm=batch"], "norm=instance"),
        (["cluster=nowhere"], "accepted are gpu, local"),
    ):
        assert sweep.main([*wrong, *place]) == 2
        assert told in capsys.readouterr().err
    assert not runs.exists()


def test_a_study_may_be_asked_for_on_several_data_sets():
    found = grid_rows("projections", ["dataset=synthetic,folder", "seed=0,1"])
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
    slurm.put_into_queue(runs)
    assert sweep.main(["study=projections", "seed=0", "++dataset.height=32,64", *once]) == 0
    tables = {path.stem: json.loads(path.read_text()) for path in (runs / "studies").glob("projections-*.json")}
    assert set(tables) == {"projections-32", "projections-64"}
    assert [row["title"] for row in tables["projections-64"]] == [row["title"] for row in tables["projections-32"]]
    assert not {row["run"] for row in tables["projections-64"]} & {row["run"] for row in tables["projections-32"]}


def test_references_are_the_same_runs_that_ablations_run_would_make(cache, tmp_path):
    from ablations.config import REFERENCES, compose, reference
    from ablations.run import prepare_folders

    row = [*TINY, "scale=single", "evaluation.batch=4", "seed=3", f"runs={tmp_path}", f"cache={cache}"]
    made = [compose(words) for _, words in reference_rows([row])]
    assert prepare_folders(made) == prepare_folders([reference(compose(row), name) for name in REFERENCES])


def test_help_answers_without_the_heavy_libraries():
    for command in ("sweep", "status", "logs", "cancel", "retry"):
        code = (
            f"import sys\nfrom slurm.{command} import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        )
        code += "assert not {'torch', 'numpy', 'pandas', 'hydra'} & set(sys.modules), sorted(sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "usage" in done.stdout
