"""Provenance: how the runs were configured, where they ran, and what is missing in their records."""

from pathlib import Path

from markupsafe import Markup

from reports import provenance
from reports.embedded import kept_table
from reports.markup import Shown, details, join, listing, paragraph, table
from reports.records import Records

NAMED = 4  # more runs than these are counted where something is folded away


def missing(records: Records) -> Shown:
    """What is unfinished, absent or unreadable, a paragraph a run, with the traceback of those that failed."""
    titles = records.titles()
    errors = {titles[record.run]: str(record.status["error"]) for record in records if record.status.get("error")}
    parts = []
    for run, sentences in provenance.missing(records).items():
        parts.append(Markup("<h3>{}</h3>{}").format(run, listing(sentences)))
        if run in errors:
            parts.append(details("Traceback", Markup("<pre>{}</pre>").format(errors[run])))
    return Shown(join(parts) if parts else paragraph("Nothing: every run is finished and its record complete.", "none"))


def configuration(records: Records, output: Path | str) -> Shown:
    """What differs between the runs, then every setting of each."""
    runs, titles = records.methods or records, records.titles()
    heads, rows = provenance.differences(runs)
    every = []
    for record in runs:
        settings = table(["key", "value"], provenance.configuration(record), f"Configuration of {record.run}")
        every.append(details(titles[record.run], settings))
    caption = "What differs between the runs" if runs.differing() else "Switches"
    differing = kept_table(Path(output), "configuration", heads, rows, caption, kind="oneline")
    folded = details(f"Every setting of {len(runs)} runs", join(every)) if len(runs) > 1 else join(every)
    return Shown(differing + folded)


def origins(records: Records, output: Path | str) -> Shown:
    """The record directories and the environments they were made in."""
    rows = provenance.record_rows(records)
    parts = [kept_table(Path(output), "records", provenance.RECORD_HEADS, rows, "Run records", kind="oneline")]
    for told, runs in provenance.environments(records).items():
        summary = f"Environment of {', '.join(runs) if len(runs) <= NAMED else f'{len(runs)} runs'}"
        named = paragraph(", ".join(runs)) if len(runs) > NAMED else ""
        parts.append(details(summary, join([named, Markup("<pre>{}</pre>").format(told)])))
    return Shown(join(parts))
