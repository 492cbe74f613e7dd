"""What a commit takes of the run records in reports/results, and that the documents' tables are computed from them."""

import json
import re
import shutil
import statistics
import subprocess
from pathlib import Path

import pytest
from ablation_runs import list_study
from make_miniature import MACHINE_PATH

from reports.result_tables import TABLES, Study
from reports.results import DOCUMENTS, RESULTS, ROOT, computed, update

SYNTHETIC = "xinggan-single-synthetic-small"
DATA = ("config.yaml", "environment.json", "status.json", "history.jsonl", "metrics.json", "per_image.parquet")
DATA += ("timing.json", "learning.json")
LARGE = (".lock", "checkpoint/step-00000600.pt", "samples/step-000200.png", "generated/manifest.json")
LARGE += ("generated/000000.png", "generated/contact_sheet.png", "generated/examples/11_source.png")
LARGE += (".metrics.json.99.part", "generated/examples/.00_source.png.99.part")
PANELS = ("generated/examples/00_source.png", "generated/examples/07_generated.png", "generated/examples/attention.npz")
MINIATURE = Path(__file__).parent / "miniature"


def committed(repository: Path, *files: str) -> set[str]:
    """Which of these files below reports/results git would commit."""
    results = repository / "reports" / "results"
    for name in files:
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).touch()
    shutil.copy(RESULTS / ".gitignore", results)
    told = ""
    for words in (["init", "-q"], ["add", "--all", "reports"], ["ls-files", "-z"]):
        command = ["git", "-c", "core.excludesFile=/dev/null", *words]
        told = subprocess.run(command, cwd=repository, check=True, capture_output=True, text=True).stdout
    return {name.removeprefix("reports/results/") for name in told.split("\0") if name}


def test_a_record_is_committed_without_what_is_large_or_no_data(tmp_path):
    run = f"components/{SYNTHETIC}-s1-0123456789ab"
    files = [f"{run}/{name}" for name in (*DATA, *LARGE, *PANELS)]
    listings = ("components/studies/components.json", "tuning/tuning.json")
    found = committed(tmp_path, *files, *listings, "report/components/index.html")
    assert found == {".gitignore", *listings, *(f"{run}/{name}" for name in DATA)}


def test_panels_of_synthetic_people_are_committed_of_seed_0_alone(tmp_path):
    runs = [f"components-fp32/{SYNTHETIC}-s{seed}-0123456789ab" for seed in (0, 1, 10)]
    found = committed(tmp_path, *(f"{run}/{name}" for run in runs for name in (*LARGE, *PANELS)))
    assert found == {".gitignore", *(f"{runs[0]}/{name}" for name in PANELS)}


def test_of_the_many_runs_of_tuning_no_values_of_single_images_and_no_panels_are_committed(tmp_path):
    run = f"tuning/{SYNTHETIC}-s0-0123456789ab"
    found = committed(tmp_path, *(f"{run}/{name}" for name in (*DATA, *LARGE, *PANELS)))
    assert found == {".gitignore", *(f"{run}/{name}" for name in DATA if name != "per_image.parquet")}


@pytest.mark.parametrize("data_set", ["folder", "market1501", "deepfashion"])
def test_no_picture_of_photographs_is_committed(tmp_path, data_set):
    runs = [f"photographs/{name}-{data_set}-small-s0-0123456789ab" for name in ("pidm", "x-synthetic-y-s0-z")]
    names = [f"{run}/{name}" for run in runs for name in (*DATA, *LARGE, *PANELS)]
    found = committed(tmp_path, *names, "photographs/picture.png", "picture.jpg")
    assert found == {".gitignore", *(f"{run}/{name}" for run in runs for name in DATA)}


def test_what_is_committed_is_small_and_holds_no_picture_of_photographs_and_no_path_of_a_machine():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=RESULTS, capture_output=True, text=True).stdout
    paths = [RESULTS / name for name in listed.split("\0") if name]
    assert sum(path.stat().st_size for path in paths) < 15e6
    pictures = {path.parents[2].name for path in paths if path.suffix in (".png", ".jpg", ".npz")}
    assert all("-synthetic-" in run and "-s0-" in run for run in pictures)
    texts = [path for path in paths if path.suffix in (".json", ".jsonl", ".yaml")]
    assert [path for path in texts if MACHINE_PATH.search(path.read_text(encoding="utf-8"))] == []


# The tables.


def test_tables_of_the_documents_are_those_of_the_records(capsys):
    assert update(ROOT, write=False) == 0, capsys.readouterr().out


def table(kind: str, results: Path = MINIATURE, study: str = "runs") -> str:
    head, end = f"<!-- results: {study} {kind} -->\n", "<!-- end -->"
    found = computed(f"before\n{head}what stood there\n{end}\nafter", results)
    assert found.startswith(f"before\n{head}") and found.endswith(f"{end}\nafter") and "stood" not in found
    return found.removeprefix(f"before\n{head}").removesuffix(f"{end}\nafter").rstrip("\n")


def test_means_are_those_of_the_records_over_their_seeds():
    runs = MINIATURE.glob("runs/xinggan-plain-coattention-synthetic-smoke-s*")
    files = [json.loads((run / "metrics.json").read_text()) for run in runs]
    values = [next(row["value"] for row in rows if row["metric"] == "ssim") for rows in files]
    half = 12.7062047 * statistics.stdev(values) / 2**0.5  # Student's t of one degree of freedom
    (row,) = (line for line in table("means").splitlines() if line.startswith("| + multi-scale"))
    assert len(values) == 2 and f"| {statistics.mean(values):.4f} ± {half:.4f} |" in row


def test_every_table_holds_the_rows_that_have_it_and_says_what_is_missing():
    told = {kind: table(kind) for kind in TABLES}
    assert all(text.startswith("*So far") for text in told.values())
    assert "Deformable GAN: failed" in told["means"] and "CFLD" not in told["means"]
    assert "probability that a run is better" in told["steps"]
    assert "72,628" in told["costs"] and "of its median speed" in told["costs"]
    assert re.search(r"18\.04.*PIDM.*69\.33", told["ratios"]) and "1.00" in told["ratios"]
    assert "memory" in told["ratios"] and "memory" not in told["short"] and "1.00" in told["short"]
    assert re.search(r"\| \d+ min \d\d s \|", table("compute", study="all"))


def test_study_without_records_is_said_to_be_without(tmp_path):
    assert table("means", tmp_path) == "*Not measured yet: there is no record in `reports/results/runs`.*"


def test_study_that_is_not_finished_says_how_far_it_is(fabricate):
    runs = [fabricate.run(seed=seed) for seed in (0, 1)]
    rows = [("row seed=0", runs[0].name), ("row seed=1", runs[1].name), ("other seed=1", "xinggan-000000000000")]
    list_study(fabricate.folder, "components", rows)
    assert table("means", fabricate.folder.parent).startswith("*So far 2 of 3 runs, 1 of 2 seeds.*")
    list_study(fabricate.folder, "components", rows[:2])
    assert table("means", fabricate.folder.parent).startswith("|")


def test_costs_are_those_of_the_quiet_timing_beside_the_study_where_there_is_one(fabricate, fabricator):
    fabricate.run()
    noisy = TABLES["costs"](Study(fabricate.folder))
    assert "Of the training runs themselves" in noisy
    quiet = fabricator(fabricate.folder.with_name("runs-cost")).run("timing-xinggan", metrics=None)
    status, timing = (quiet / name for name in ("status.json", "timing.json"))
    status.write_text(json.dumps(json.loads(status.read_text()) | {"measures": "timing"}))
    (quiet / "history.jsonl").unlink()
    measured = json.loads(timing.read_text())
    inference = next(one for one in measured["scenarios"] if one["kind"] == "inference")
    training = inference | {"kind": "training", "batch": 8, "images_per_second": 4321.0, "peak_memory_mb": 1234.0}
    other = training | {"precision": "bf16", "images_per_second": 1.0, "peak_memory_mb": 9999.0}
    timing.write_text(json.dumps(measured | {"scenarios": [other, training, inference]}))
    told = TABLES["costs"](Study(fabricate.folder))
    row = next(line for line in told.splitlines() if line.startswith("| xinggan scale=single"))
    assert "4,321" in row.replace("4321", "4,321") and "1234" in row.replace(",", "") and "themselves" not in told
    assert "4,321" in TABLES["brief"](Study(fabricate.folder)).replace("4321", "4,321")


def test_what_differs_from_the_records_is_told_and_written_when_asked_to(tmp_path, capsys):
    for name in DOCUMENTS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("# Title\n<!-- results: components means -->\n0.99\n<!-- end -->\n")
    assert update(tmp_path, write=False) == 1
    assert "-0.99" in capsys.readouterr().out and "0.99" in (tmp_path / DOCUMENTS[0]).read_text()
    assert update(tmp_path, write=True) == update(tmp_path, write=False) == 0
    assert "Not measured yet" in (tmp_path / DOCUMENTS[0]).read_text()


def test_table_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="components mean: no such table; there are means, brief"):
        computed("<!-- results: components mean -->\n<!-- end -->", tmp_path)
