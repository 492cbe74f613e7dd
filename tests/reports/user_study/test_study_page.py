"""The study page shows what was scored, does not say who made it, and refuses what cannot be compared."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from study_runs import COLOURS, MARKUP, told

from reports.user_study.page import build_study, main
from reports.user_study.pictures import scrambled
from reports.user_study.preferences import read_key
from xinggan.data.packed import open_packed


def pixels(page: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(page.parent / "pictures" / f"{name}.png"))


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["real-or-generated", "side-by-side"])
def test_every_picture_is_the_one_that_the_key_names(runs, tmp_path, kind):
    data = open_packed(next((runs[0].parents[1] / "cache").glob("synthetic-*"))).test
    page, key_file = build_study(runs, tmp_path / "study", kind=kind, pairs=4, seed=3)
    trials = read_key(key_file)["trials"]
    pair_of = {data.pair_id(number): number for number in range(len(data))}
    for entry in told(page)["trials"]:
        trial = trials[entry["trial"]]
        pair = pair_of[trial["pair_id"]]
        source, target = data.pairs[pair]
        for name, maker in trial["pictures"].items():
            if maker == "real":
                expected = data.images[target]
            elif maker == "scrambled":
                expected = scrambled(data.images[target])
                assert not np.array_equal(expected, data.images[target])
                assert np.array_equal(np.sort(expected, axis=None), np.sort(data.images[target], axis=None))
            else:
                red, green, blue = COLOURS[maker.split("-")[0]]
                expected = np.broadcast_to(np.array([red, green, blue + pair]), (32, 16, 3))
            assert np.array_equal(pixels(page, name), expected), (trial, maker)
        if kind == "side-by-side":
            assert np.array_equal(pixels(page, entry["source"]), data.images[source])
            assert pixels(page, entry["target_pose"]).max() > 0


def test_all_methods_are_judged_on_the_same_pairs_and_half_of_the_pictures_are_real(runs, tmp_path):
    _, key_file = build_study(runs, tmp_path / "study", pairs=5)
    pairs: dict[str, list[str]] = {}
    for trial in read_key(key_file)["trials"].values():
        if not trial["practice"]:
            pairs.setdefault(next(iter(trial["pictures"].values())), []).append(trial["pair_id"])
    first, second = (sorted(pairs[run.name]) for run in runs)
    assert first == second and len(first) == 5
    assert len({pair.split("___")[1] for pair in pairs["real"]}) == 10 and len(pairs["scrambled"]) == 1


def test_nothing_that_participants_get_says_who_made_a_picture(runs, tmp_path):
    page, key_file = build_study(runs, tmp_path / "study", kind="side-by-side", pairs=3)
    names = sorted(files_of(page.parent))
    assert names == ["index.html", *(f"pictures/{number:03d}.png" for number in range(1, len(names)))]
    text = page.read_text()
    for run in runs:
        assert run.name not in text and run.name.split("-")[0] not in text.split("<script")[1]
    assert not any(word in text for word in (MARKUP, str(tmp_path), "identical", "truth", "scrambled"))
    for entry in told(page)["trials"]:
        assert set(entry) == {"trial", "practice", "pictures", "source", "target_pose"}
    assert all(not Image.open(path).info for path in page.parent.rglob("*.png"))
    assert MARKUP in key_file.read_text()


def test_text_of_the_command_line_is_escaped_and_nothing_is_loaded_from_elsewhere(runs, tmp_path):
    page, _ = build_study(runs, tmp_path / "study", pairs=2, title=MARKUP, contact=f"me</script>{MARKUP}")
    text = page.read_text()
    assert MARKUP not in text and text.count("&lt;img src=x") == 3
    assert not re.findall(r"(?:src|href)=\"(?!data:,)", text) and "://" not in text


def test_the_same_words_give_the_same_study_and_another_seed_another(runs, tmp_path):
    (page, key), (again, same), (_, other) = (
        build_study(runs, tmp_path / str(number) / "a", pairs=3, seed=seed) for number, seed in enumerate((1, 1, 2))
    )
    assert files_of(page.parent) == files_of(again.parent) and read_key(key) == read_key(same)
    assert read_key(key)["study"] != read_key(other)["study"]
    assert read_key(key)["trials"] != read_key(other)["trials"]


def test_a_record_that_was_copied_elsewhere_gives_its_examples(runs, tmp_path, capsys):
    copied = tmp_path / runs[0].name
    shutil.copytree(runs[0], copied)
    config = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(re.sub(r"(?m)^cache: .*$", "cache: gone", config))
    for path in (copied / "generated" / "examples").iterdir():
        Image.open(path).resize((16, 32)).save(path)
    page, key_file = build_study([copied], tmp_path / "study")
    kept = {row["pair_id"] for row in json.loads((copied / "generated" / "manifest.json").read_text())[:12]}
    assert {trial["pair_id"] for trial in read_key(key_file)["trials"].values()} <= kept
    assert "12 example pairs" in capsys.readouterr().err and page.is_file()


def test_what_cannot_be_compared_is_refused_before_anything_is_written(runs, tmp_path, fabricator, capsys):
    def refused(*words: object, run: list[Path] = runs) -> str:
        assert main(["--runs", *map(str, run), "--out", str(tmp_path / "study"), *map(str, words)]) == 2
        assert [path.name for path in tmp_path.iterdir() if path.name != "runs"] == []
        return capsys.readouterr().err

    other = fabricator(tmp_path / "runs").run("other", "other", digest="e5" * 32)
    assert "manifest.json" in refused(run=[other])
    shutil.copytree(runs[0] / "generated", other / "generated", dirs_exist_ok=True)
    assert "different data sets" in refused(run=[runs[0], other])
    assert "named twice" in refused(run=[runs[0], runs[0]])
    assert "two runs or more" in refused("--kind", "side-by-side", run=runs[:1])
    assert "allow 1 to" in refused("--pairs", 1000)
    assert "allow 1 to" in refused("--pairs", 0)
    assert "accepted is 0" in refused("--seconds", "nan")
    assert "no such folder" in refused(run=[tmp_path / "nowhere"])
    assert "not a complete packed data set" in refused("--dataset", runs[0])
    manifest = other / "generated" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("000001.png", "../status.json"))
    assert "accepted is a file in generated/" in refused(run=[other])


def test_an_image_that_was_not_scored_is_refused_and_leaves_nothing(runs, tmp_path):
    changed = tmp_path / runs[0].name
    shutil.copytree(runs[0], changed)
    for path in (changed / "generated").glob("0*.png"):
        Image.new("RGB", (16, 32)).save(path)
    with pytest.raises(ValueError, match="is not the image that was scored"):
        build_study([changed], tmp_path / "out" / "study", pairs=2)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_study_that_people_may_be_answering_is_not_overwritten(runs, tmp_path):
    page, key_file = build_study(runs, tmp_path / "study", pairs=2)
    with pytest.raises(ValueError, match="not empty"):
        build_study(runs, tmp_path / "study", pairs=2)
    shutil.rmtree(page.parent)
    with pytest.raises(ValueError, match="key of another study"):
        build_study(runs, tmp_path / "study", pairs=3)
    assert build_study(runs, tmp_path / "study", pairs=2) == (page, key_file)


def test_help_and_refusals_load_nothing_heavy(tmp_path):
    script = (
        "import sys\nfrom reports.user_study.page import main\n"
        f"main(['--runs', {str(tmp_path / 'none')!r}, '--out', 'x'])\n"
        "print({'torch', 'numpy', 'pandas', 'jinja2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
