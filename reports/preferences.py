"""Answers of a human study, as files from participants' browsers, to preference rates with intervals.

    python -m reports.preferences answers-*.json --key study-key.json

Answers come from elsewhere and are checked against the key that `reports.study_page` wrote; a file that is not an
answer to this study is refused with the reason, and the others count. R2G is the share of real pictures taken for
generated ones, G2R that of generated pictures taken for real ones (Ma et al. 2017); side by side, the share of answers
that preferred one method to the other.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas

SCHEMA = 1  # of key and answers
CHOICES = {"real-or-generated": ("real", "generated"), "side-by-side": ("left", "right")}
LARGEST_BYTES = 1_000_000
LONGEST_MS = 7 * 24 * 3_600_000
CATCHES_TO_PASS = 2 / 3  # of those seen; otherwise the participant did not look
MISTIMED = 1.5  # times the seconds that a picture was to be shown: longer is not counted
CONFIDENCE = 0.95
COLUMNS = ("measure", "run", "against", "rate", "low", "high", "answers", "participants", "interval")


@dataclass(frozen=True)
class Session:
    """One participant's answers: trial, answer, and for side-by-side `left`, the picture that stood there."""

    file: Path
    session: str
    finished: bool
    answers: list[dict[str, Any]]


@dataclass
class Answers:
    """What was read, and a sentence for each thing that does not count."""

    sessions: list[Session] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_key(path: Path | str) -> dict[str, Any]:
    """The key of a study. Raises ValueError when the file is none."""
    try:
        key = json.loads(Path(path).read_bytes())
        if key["schema"] != SCHEMA:
            raise ValueError(f"it has schema {key['schema']}, this version reads {SCHEMA}")
        if key["kind"] not in CHOICES:
            raise ValueError(f"the kind {key['kind']!r} is not known")
        _ = key["study"], float(key["seconds"]), key["runs"].items()
        for trial in key["trials"].values():
            _ = trial["role"], trial["practice"], trial["pictures"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is not the key of a study ({error!r}); it lies beside the study's folder") from error
    return key


def read(files: Iterable[Path | str], key: dict[str, Any]) -> Answers:
    """Check every file against the key. Of a session that is there twice, the file with more answers counts."""
    found = Answers()
    sessions: dict[str, Session] = {}
    for file in map(Path, files):
        try:
            session = _read_session(file, key)
        except ValueError as error:
            found.notes.append(f"{file.name} is left out: {error}")
            continue
        before = sessions.get(session.session)
        if before:
            first, second = sorted((before, session), key=lambda each: len(each.answers))
            if second.answers[: len(first.answers)] != first.answers:
                found.notes.append(f"{file.name} is left out: {before.file.name} has other answers of the same session")
                continue
            found.notes.append(f"{first.file.name} is left out: {second.file.name} is the same session")
            session = second
        sessions[session.session] = session
    found.sessions = list(sessions.values())
    return found


def _read_session(file: Path, key: dict[str, Any]) -> Session:
    """Raises ValueError with what is wrong and where."""
    try:
        size = file.stat().st_size
        if size > LARGEST_BYTES:
            raise ValueError(f"it has {size:,} bytes, answers to a study have up to {LARGEST_BYTES:,}")
        content = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    except RecursionError as error:
        raise ValueError("not readable as JSON (too deeply nested)") from error
    except ValueError as error:
        raise ValueError(f"not readable as answers ({error})") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ValueError(f"it holds no answers of schema {SCHEMA}")
    if (content.get("study"), content.get("kind")) != (key["study"], key["kind"]):
        raise ValueError(f"it answers the study {str(content.get('study'))[:40]!r}, the key is of {key['study']!r}")
    session, answers = content.get("session"), content.get("answers")
    if not isinstance(session, str) or not re.fullmatch(r"[0-9a-f]{32}", session):
        raise ValueError("session: 32 hexadecimal digits are expected")
    if not isinstance(content.get("finished"), bool) or content.get("consented") is not True:
        raise ValueError("finished and consented: true or false are expected, and consent was not given without true")
    if not isinstance(answers, list) or len(answers) > len(key["trials"]):
        raise ValueError(f"answers: a list of up to {len(key['trials'])} is expected")
    checked = [_read_answer(place, answer, key) for place, answer in enumerate(answers)]
    trials = [answer["trial"] for answer in checked]
    if twice := sorted({trial for trial in trials if trials.count(trial) > 1}):
        raise ValueError(f"answers: {', '.join(twice)} are there twice")
    return Session(file, session, content["finished"], checked)


def _read_answer(place: int, answer: Any, key: dict[str, Any]) -> dict[str, Any]:
    where = f"answers[{place}]"
    if not isinstance(answer, dict):
        raise ValueError(f"{where}: an object is expected")
    trial, chosen, left = answer.get("trial"), answer.get("answer"), answer.get("left")
    if not isinstance(trial, str) or trial not in key["trials"]:
        raise ValueError(f"{where}.trial: {str(trial)[:40]!r} is no trial of this study")
    if chosen not in CHOICES[key["kind"]]:
        raise ValueError(f"{where}.answer: {str(chosen)[:40]!r}, accepted are {', '.join(CHOICES[key['kind']])}")
    if key["kind"] == "side-by-side" and (not isinstance(left, str) or left not in key["trials"][trial]["pictures"]):
        raise ValueError(f"{where}.left: {str(left)[:40]!r} is no picture of {trial}")
    for name in ("shown_ms", "answer_ms"):
        ms = answer.get(name)
        if isinstance(ms, bool) or not isinstance(ms, (int, float)) or not 0 <= ms <= LONGEST_MS:
            raise ValueError(f"{where}.{name}: {str(ms)[:40]}, accepted are 0 to {LONGEST_MS} milliseconds")
    showings = answer.get("showings")
    if isinstance(showings, bool) or not isinstance(showings, int) or not 1 <= showings <= 10_000:
        raise ValueError(f"{where}.showings: {str(showings)[:40]}, accepted are 1 to 10000")
    if not isinstance(answer.get("away"), bool):
        raise ValueError(f"{where}.away: true or false is expected")
    return {name: answer.get(name) for name in ("trial", "answer", "left", "shown_ms", "answer_ms", "showings", "away")}


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def preference_table(files: Iterable[Path | str], key: dict[str, Any] | Path | str) -> "pandas.DataFrame":
    """Rates with 95 % intervals, one a row, in COLUMNS; what does not count is said in `.attrs["notes"]`.

    measure: `R2G` of the real pictures, `G2R` of each run, `preferred` of a run against another; then the controls
    `catch trials passed` and `left of two identical`, which all participants take part in. interval: how low and high
    were found, `Wilson` or `Wilson, clustered by participant` (see `rate_interval`).
    """
    import pandas

    key = key if isinstance(key, dict) else read_key(key)
    found = read(files, key)
    notes, kept = list(found.notes), []
    for session in found.sessions:
        passed, seen = _total(_events(session, key, "catch trials passed"))
        if passed < CATCHES_TO_PASS * seen:
            notes.append(f"{session.file.name} is left out of the rates: {passed} of {seen} catch trials passed")
        else:
            kept.append(session)
    if mistimed := sum(_is_mistimed(answer, key) for session in kept for answer in session.answers):
        notes.append(f"{mistimed} answers are not counted: the picture was shown twice, too long, or unseen")
    if unfinished := sum(not session.finished for session in kept):
        notes.append(f"{unfinished} participants stopped before the end; what they answered counts")
    rows = []
    for measure in ("R2G", "G2R", "preferred", "catch trials passed", "left of two identical"):
        is_control = measure not in ("R2G", "G2R", "preferred")
        by_session = [_events(session, key, measure) for session in (found.sessions if is_control else kept)]
        for run, against in sorted({who for events in by_session for who in events}):
            counts = [events[run, against] for events in by_session if (run, against) in events]
            rate, low, high, how = rate_interval(counts)
            told = [key["runs"].get(name, name) for name in (run, against)]
            rows.append((measure, *told, rate, low, high, sum(n for _, n in counts), len(counts), how))
    table = pandas.DataFrame(rows, columns=list(COLUMNS))
    table.attrs["notes"] = notes
    return table


def _events(session: Session, key: dict[str, Any], measure: str) -> dict[tuple[str, str], tuple[int, int]]:
    """(run, against) -> how often what the measure counts happened, out of how many answers."""
    counted: dict[tuple[str, str], tuple[int, int]] = {}
    for answer in session.answers:
        trial = key["trials"][answer["trial"]]
        if trial["practice"] or _is_mistimed(answer, key):
            continue
        of, run, against, happened = _event(answer, trial, list(key["runs"]))
        if of == measure:
            hits, n = counted.get((run, against), (0, 0))
            counted[run, against] = hits + happened, n + 1
    return counted


def _event(answer: dict[str, Any], trial: dict[str, Any], runs: list[str]) -> tuple[str, str, str, bool]:
    """(measure, run, against, did it happen) of one answer; a duo is always named in the order of the key's runs."""
    role, makers, chosen = trial["role"], trial["pictures"], answer["answer"]
    if role == "real":
        return "R2G", "real pictures", "", chosen == "generated"
    if role == "generated":
        return "G2R", next(iter(makers.values())), "", chosen == "real"
    if role == "scrambled":
        return "catch trials passed", "", "", chosen == "generated"
    if role == "identical":
        return "left of two identical", "", "", chosen == "left"
    right = next(name for name in makers if name != answer["left"])
    preferred = makers[answer["left"] if chosen == "left" else right]
    if role == "truth":
        return "catch trials passed", "", "", preferred == "real"
    first, second = sorted(makers.values(), key=runs.index)
    return "preferred", first, second, preferred == first


def _is_mistimed(answer: dict[str, Any], key: dict[str, Any]) -> bool:
    """Whether a picture with a time limit was not seen as it should have been: once, and for that time."""
    limit_ms = 1000 * key["seconds"]
    return limit_ms > 0 and (answer["showings"] > 1 or answer["away"] or answer["shown_ms"] > MISTIMED * limit_ms + 250)


def _total(events: dict[tuple[str, str], tuple[int, int]]) -> tuple[int, int]:
    return sum(hits for hits, _ in events.values()), sum(n for _, n in events.values())


def rate_interval(counts: Sequence[tuple[int, int]]) -> tuple[float, float, float, str]:
    """Rate, low and high of (hits, answers) of each participant, and what the interval is called.

    One participant: Wilson's (1927) interval, which speaks of this participant's answers only. Several: Wilson's with
    as many answers as these are worth, given how much participants differ (Korn and Graubard 1998), and Student's t
    with participants - 1 degrees of freedom; where all answers agree, each participant counts as one answer.
    """
    from scipy.stats import norm, t

    counts = [(hits, n) for hits, n in counts if n]
    people, total = len(counts), sum(n for _, n in counts)
    if not total:
        return math.nan, math.nan, math.nan, "none"
    rate = sum(hits for hits, _ in counts) / total
    worth, quantile, how = float(total), float(norm.ppf((1 + CONFIDENCE) / 2)), "Wilson"
    if people > 1:
        how = "Wilson, clustered by participant"
        quantile = float(t.ppf((1 + CONFIDENCE) / 2, people - 1))
        between = people / (people - 1) * sum((hits - rate * n) ** 2 for hits, n in counts) / total**2
        alone = rate * (1 - rate) / total  # the variance if answers had nothing to do with who gave them
        worth = total / max(1.0, between / alone) if alone else float(people)
    squared = quantile**2 / worth
    middle = (rate + squared / 2) / (1 + squared)
    half = math.sqrt(squared) * math.sqrt(rate * (1 - rate) + squared / 4) / (1 + squared)
    return rate, max(0.0, middle - half), min(1.0, middle + half), how


def main(arguments: list[str] | None = None) -> int:
    """Print the table and what does not count; exit status 2 when the key or every file is refused."""
    parser = argparse.ArgumentParser(prog="python -m reports.preferences", description="Rates of a human study.")
    parser.add_argument("answers", type=Path, nargs="+", help="what participants downloaded")
    parser.add_argument("--key", type=Path, required=True, help="what reports.study_page wrote beside the folder")
    options = parser.parse_args(arguments)
    try:
        table = preference_table(options.answers, options.key)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for note in table.attrs["notes"]:
        print(f"note: {note}", file=sys.stderr)
    if table.empty:
        print("no answers to count", file=sys.stderr)
        return 2
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
