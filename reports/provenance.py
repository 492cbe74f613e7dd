"""Where the numbers come from: how the runs' configurations differ, where they ran, and what is missing."""

from typing import Any

from reports.measures import as_text
from reports.record import Record, flatten
from reports.records import DERIVED, FOLDERS, Records
from reports.timing import duration

RECORD_HEADS = (
    "run",
    "state",
    "started",
    "time",
    "attempts",
    "commit",
    "device",
    "precision",
    "threads",
    "record",
)
CLASS = "method._target_"  # of the method; `method_name` says the same more briefly


def differences(records: Records) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of what differs between the runs; the switches themselves when nothing differs.

    Where there are several methods, of what all configurations have: the rest is a method's own and no difference. A
    switch that a method does not take is a dash.
    """
    keys = records.differing() or [key for key in _top_level(records) if key not in (*DERIVED, *FOLDERS)]
    if len({record.facts.get(CLASS) for record in records}) > 1:
        keys = [key for key in keys if key != CLASS and all(key in record.facts for record in records)]
    titles = records.titles()
    switches = {key for key in keys if any(_takes(record, key) for record in records)}

    def cell(record: Record, key: str) -> str:
        idle = key in switches and not _takes(record, key)
        return "–" if idle or key not in record.facts else as_text(record.facts[key])

    return ["run", *keys], [[titles[record.run], *(cell(record, key) for key in keys)] for record in records]


def _takes(record: Record, key: str) -> bool:
    """Whether a setting that stands at the top of the configuration is one of the method's own."""
    return any(fact.startswith("method.") and fact.endswith(f".{key}") for fact in record.facts)


def configuration(record: Record) -> list[tuple[str, str]]:
    """Every setting of a run, dotted keys in the order of its file."""
    return [(key, as_text(value)) for key, value in flatten(record.config).items()]


def record_rows(records: Records) -> list[list[str]]:
    """Cells under RECORD_HEADS."""
    titles = records.titles()
    return [[titles[record.run], *_record_cells(record)] for record in records]


def environments(records: Records) -> dict[str, list[str]]:
    """Each distinct environment as text, and the titles of the runs that ran in it."""
    titles = records.titles()
    found: dict[str, list[str]] = {}
    for record in records:
        if record.environment:
            told = "\n".join(f"{key}: {as_text(value)}" for key, value in flatten(record.environment).items())
            found.setdefault(told, []).append(titles[record.run])
    return found


def missing(records: Records) -> dict[str, list[str]]:
    """For each run (by title) that is not finished or not complete: what is wrong, a sentence each."""
    titles = records.titles()
    found: dict[str, list[str]] = {}
    for record in records:
        sentences = [state_sentence(record)] if record.state != "finished" else []
        sentences += record.problems
        if sentences:
            found[titles[record.run]] = sentences
    return found


def state_sentence(record: Record) -> str:
    """The state, how far the run has come, and the last line of its error."""
    step, steps = record.step, record.status.get("steps")
    reached = f" at step {step} of {steps}" if step is not None and steps is not None else ""
    error = str(record.status.get("error") or "").strip().splitlines()
    return f"{record.state}{reached}" + (f": {error[-1]}" if error else "")


def _record_cells(record: Record) -> list[str]:
    environment = record.environment
    commit = str(environment.get("commit") or "–")[:10] + (" + changes" if environment.get("dirty") else "")
    started = str(record.status.get("started") or "–").replace("T", " ")[:16]

    def told(source: dict[str, Any], key: str) -> str:
        return as_text(source[key]) if source.get(key) is not None else "–"

    return [
        record.state,
        started,
        duration(record.status.get("seconds")),
        told(record.status, "attempts"),
        commit,
        told(environment, "device"),
        told(record.config, "precision"),
        told(environment, "threads"),
        record.run,
    ]


def _top_level(records: Records) -> list[str]:
    """Switches that stand at the top of the configuration, such as scale and seed."""
    return list(
        dict.fromkeys(key for record in records for key, value in record.config.items() if not isinstance(value, dict))
    )
