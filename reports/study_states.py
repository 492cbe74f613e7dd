"""How far a study has come: its rows that are not finished, each with what became of it."""

from reports.provenance import state_sentence
from reports.record import read_record
from reports.records import Records
from reports.studies import Rows


def has_part_in(rows: Rows, records: Records) -> bool:
    """Whether some of the study's scored runs are among the records; references belong to every study on their data."""
    runs = {run for _, run in rows}
    return any(record.run in runs and not record.is_timing_only for record in records.methods)


def unfinished(rows: Rows, records: Records) -> list[str]:
    """What became of each row without a finished and scored run among the records; equal fates are told together."""
    found: dict[str, list[str]] = {}
    for title, run in rows:
        if state := _what_became(run, records):
            found.setdefault(state, []).append(title)
    return [f"{'; '.join(titles)}: {state}" for state, titles in found.items()]


def _what_became(run: str, records: Records) -> str | None:
    """None for a row that is done. Runs that were not selected for the report are looked up where the others lie."""
    record = next((record for record in records if record.run == run), None)
    selected = record is not None
    if record is None:
        directory = records[0].directory.parent / run
        leaves = not run.strip(".") or directory.name != run  # the folder: then it is none of its runs
        if leaves or not directory.is_dir():
            return "never ran"
        record = read_record(directory)
    if record.state != "finished":
        return state_sentence(record)
    if not selected:
        return "finished, but not among the runs selected for this report"
    if not record.is_timing_only and not any(row.value is not None for row in record.measurements):
        return "finished, but not scored"
    return None
