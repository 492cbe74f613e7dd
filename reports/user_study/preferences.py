"""Answers of a user study, as files from participants' browsers, to preference rates with intervals.

    python -m reports.user_study.preferences answers-*.json --key study-key.json

Answers come from elsewhere and are checked against the key that `reports.user_study.page` wrote; a file that is not an
answer to this study is left out with the reason, and the others count. R2G is the share of real pictures taken for
generated ones, G2R that of generated pictures taken for real ones (Ma et al. 2017); side by side, the share of answers
that preferred one method to the other.
"""

import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.user_study.trials import KINDS, SCHEMA
from xinggan.command import exit_status, parser_of, reason, run_command

if TYPE_CHECKING:
    import pandas

LARGEST_BYTES = 1_000_000
LONGEST_MS = 7 * 24 * 3_600_000
BOOLEAN = {"type": "boolean"}
CATCHES_TO_PASS = 2 / 3  # of those seen; otherwise the participant did not look
MISTIMED = 1.5  # times the seconds that a picture was to be shown: longer is not counted
ALPHA = 0.05  # of the intervals
CAUGHT, LEFT = "catch trials passed", "left of two identical"
MEASURES = ("R2G", "G2R", "preferred", CAUGHT, LEFT)
COLUMNS = ("measure", "run", "against", "rate", "low", "high", "answers", "participants", "interval")


@dataclass(frozen=True)
class Session:
    """One participant's answers: trial, answer, times, and for side-by-side `left`, the picture that stood there."""

    file: Path
    session: str
    finished: bool
    answers: list[dict[str, Any]]


def read_key(path: Path | str) -> dict[str, Any]:
    """The key of a study. Raises ValueError when the file is none."""
    trial = _object(role={"type": "string"}, practice=BOOLEAN, pictures={"type": "object"})
    facts: dict[str, Any] = {"schema": {"const": SCHEMA}, "study": {"type": "string"}, "kind": {"enum": list(KINDS)}}
    facts |= {"seconds": {"type": "number"}, "runs": {"type": "object"}}
    schema = _object(**facts, trials={"type": "object", "additionalProperties": trial})
    try:
        return _read_json(Path(path), schema)
    except ValueError as error:
        raise ValueError(f"{path} is not the key of a study ({error}); it lies beside the study's folder") from error


def read(files: Iterable[Path | str], key: dict[str, Any]) -> tuple[list[Session], list[str]]:
    """The sessions, and a sentence for each file that is left out.

    Of a session that is there twice, the file with more answers counts.
    """
    sessions: dict[str, Session] = {}
    notes = []
    for file in map(Path, files):
        try:
            session = _read_session(file, key)
        except ValueError as error:
            notes.append(f"{file.name} is left out: {error}")
            continue
        if before := sessions.get(session.session):
            shorter, session = sorted((before, session), key=lambda each: len(each.answers))
            if session.answers[: len(shorter.answers)] != shorter.answers:
                notes.append(f"{file.name} is left out: {before.file.name} has other answers of the same session")
                continue
            notes.append(f"{shorter.file.name} is left out: {session.file.name} is the same session")
        sessions[session.session] = session
    return list(sessions.values()), notes


def _read_session(file: Path, key: dict[str, Any]) -> Session:
    """Raises ValueError with what is wrong and where."""
    choices, trials = list(KINDS[key["kind"]].choices), key["trials"]
    ms = {"type": "number", "minimum": 0, "maximum": LONGEST_MS}
    answer: dict[str, Any] = {
        "trial": {"enum": list(trials)},
        "answer": {"enum": choices},
        "shown_ms": ms,
        "answer_ms": ms,
    }
    answer |= {"showings": {"type": "integer", "minimum": 1, "maximum": 10_000}, "away": BOOLEAN}
    facts: dict[str, Any] = {
        "schema": {"const": SCHEMA},
        "study": {"const": key["study"]},
        "kind": {"const": key["kind"]},
    }
    facts |= {"session": {"type": "string", "pattern": r"\A[0-9a-f]{32}\Z"}, "finished": BOOLEAN}
    facts |= {"consented": {"const": True}}  # answers without consent are not used
    facts |= {"answers": {"type": "array", "maxItems": len(trials), "items": _object(**answer)}}
    schema = _object(**facts)
    content = _read_json(file, schema, LARGEST_BYTES)
    for place, given in enumerate(content["answers"]):
        pictures = list(trials[given["trial"]]["pictures"])
        if "left" in choices and given.get("left") not in pictures:
            raise ValueError(f"answers[{place}].left: {given.get('left')!r} is not one of {pictures}")
    (twice, times), *_ = Counter(given["trial"] for given in content["answers"]).most_common(1) or [("", 0)]
    if times > 1:
        raise ValueError(f"answers: {twice} is there twice")
    return Session(file, content["session"], content["finished"], content["answers"])


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of an object that has these properties, all of them."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def _read_json(file: Path, schema: dict[str, Any], largest: float = math.inf) -> dict[str, Any]:
    """The content of a file that fits a JSON schema; ValueError with what is wrong, where, and what is accepted."""
    import jsonschema

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number of JSON")

    try:
        if (size := file.stat().st_size) > largest:
            raise ValueError(f"it has {size:,} bytes, accepted are up to {largest:,}")
        content = json.loads(file.read_bytes(), parse_constant=refuse)
        jsonschema.validate(content, schema)
    except jsonschema.ValidationError as error:
        raise ValueError(f"{error.json_path.removeprefix('$.')}: {error.message[:200]}") from error
    except (OSError, RecursionError) as error:
        raise ValueError(reason(error)) from error
    return content


def preference_table(files: Iterable[Path | str], key: dict[str, Any] | Path | str) -> "pandas.DataFrame":
    """Rates with 95 % intervals, one a row, in COLUMNS; what does not count is said in `.attrs["notes"]`.

    measure: `R2G` of the real pictures, `G2R` of each run, `preferred` of a run against another; then the controls
    `catch trials passed` and `left of two identical`, which all participants take part in. interval: how low and high
    were found, `Wilson` or `Wilson, clustered by participant` (see `rate_interval`).
    """
    import pandas

    key = key if isinstance(key, dict) else read_key(key)
    sessions, notes = read(files, key)
    answers = answer_frame(sessions, key)
    seen = answers[~answers.mistimed]
    catches = seen[seen.measure == CAUGHT].groupby("session").hit.agg(["sum", "size"])
    inattentive = catches[catches["sum"] < CATCHES_TO_PASS * catches["size"]]
    for session in sessions:
        if session.session in inattentive.index:
            passed, shown = inattentive.loc[session.session]
            notes.append(f"{session.file.name} is left out of the rates: {passed} of {shown} catch trials passed")
    if mistimed := int(answers[~answers.session.isin(inattentive.index)].mistimed.sum()):
        notes.append(f"{mistimed} answers are not counted: the picture was shown twice, too long, or unseen")
    if unfinished := sum(not each.finished and each.session not in inattentive.index for each in sessions):
        notes.append(f"{unfinished} participants stopped before the end; what they answered counts")
    counted = seen[seen.measure.isin([CAUGHT, LEFT]) | ~seen.session.isin(inattentive.index)]
    rows = []
    for measure in MEASURES:
        for (run, against), part in counted[counted.measure == measure].groupby(["run", "against"]):
            counts = [(int(hits), int(n)) for hits, n in part.groupby("session").hit.agg(["sum", "size"]).to_numpy()]
            titles = [key["runs"].get(name, name) for name in (run, against)]
            rate, low, high, how = rate_interval(counts)
            rows.append((measure, *titles, rate, low, high, len(part), len(counts), how))
    table = pandas.DataFrame(rows, columns=list(COLUMNS))
    table.attrs["notes"] = notes
    return table


def answer_frame(sessions: Sequence[Session], key: dict[str, Any]) -> "pandas.DataFrame":
    """One row an answer, practice aside: session, mistimed, measure, run, against, hit.

    hit: whether that what the measure counts happened. mistimed: whether a picture with a time limit was not seen as it
    should have been, once and for that time.
    """
    import pandas

    limit_ms = 1000 * key["seconds"]
    rows = []
    for session, answer in [(each.session, answer) for each in sessions for answer in each.answers]:
        trial, too_long = key["trials"][answer["trial"]], answer["shown_ms"] > MISTIMED * limit_ms + 250
        mistimed = limit_ms > 0 and (answer["showings"] > 1 or answer["away"] or too_long)
        if not trial["practice"]:
            rows.append((session, mistimed, *_measured(answer, trial, list(key["runs"]))))
    frame = pandas.DataFrame(rows, columns=["session", "mistimed", "measure", "run", "against", "hit"])
    return frame.astype({"mistimed": bool, "hit": bool})


def _measured(answer: dict[str, Any], trial: dict[str, Any], runs: list[str]) -> tuple[str, str, str, bool]:
    """(measure, run, against, hit) of one answer; two runs are always named in the order of the key's runs."""
    role, makers, chosen = trial["role"], trial["pictures"], answer["answer"]
    if role == "real":
        return "R2G", "real pictures", "", chosen == "generated"
    if role == "generated":
        return "G2R", next(iter(makers.values())), "", chosen == "real"
    if role == "scrambled":
        return CAUGHT, "", "", chosen == "generated"
    if role == "identical":
        return LEFT, "", "", chosen == "left"
    right = next(name for name in makers if name != answer["left"])
    preferred = makers[answer["left"] if chosen == "left" else right]
    if role == "truth":
        return CAUGHT, "", "", preferred == "real"
    first, second = sorted(makers.values(), key=runs.index)
    return "preferred", first, second, preferred == first


def rate_interval(counts: Sequence[tuple[int, int]]) -> tuple[float, float, float, str]:
    """Rate, low and high of (hits, answers) of each participant, and what the interval is called.

    One participant: Wilson's (1927) interval, which speaks of this participant's answers only. Several: Wilson's with
    the effective number of answers, given how much participants differ, and with Student's t of participants - 1
    degrees of freedom (Korn and Graubard 1998); where all answers agree, each participant counts as one answer.
    """
    from scipy.stats import norm, t
    from statsmodels.stats.proportion import proportion_confint

    counts = [(hits, n) for hits, n in counts if n]
    people, total = len(counts), sum(n for _, n in counts)
    if not total:
        return math.nan, math.nan, math.nan, "none"
    rate = sum(hits for hits, _ in counts) / total
    effective, how = float(total), "Wilson"
    if people > 1:
        between = people / (people - 1) * sum((hits - rate * n) ** 2 for hits, n in counts) / total**2
        independent = rate * (1 - rate) / total  # the variance if answers had nothing to do with who gave them
        effective = total / max(1.0, between / independent) if independent else float(people)
        effective *= (norm.ppf(1 - ALPHA / 2) / t.ppf(1 - ALPHA / 2, people - 1)) ** 2
        how = "Wilson, clustered by participant"
    low, high = proportion_confint(rate * effective, effective, ALPHA, method="wilson")
    return rate, max(0.0, float(low)), min(1.0, float(high)), how


def main(arguments: list[str] | None = None) -> int:
    """Print the table and what does not count; exit status 2 when the key or every file is refused."""
    parser = parser_of("reports.user_study.preferences", "Rates of a user study, with 95 % intervals.")
    parser.add_argument("answers", type=Path, nargs="+", help="what participants downloaded")
    parser.add_argument("--key", type=Path, required=True, help="what reports.user_study.page wrote beside the folder")
    options = parser.parse_args(arguments)

    def print_rates() -> None:
        table = preference_table(options.answers, options.key)
        for note in table.attrs["notes"]:
            print(f"note: {note}", file=sys.stderr)
        if table.empty:
            raise ValueError("no answers to count")
        print(table.to_string(index=False, float_format=lambda value: f"{value:.3f}"))

    return exit_status("reports.user_study.preferences", print_rates)


if __name__ == "__main__":
    run_command(main)
