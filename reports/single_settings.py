"""Models that differ in exactly one setting, found by their configurations, whatever study they belong to.

Only runs of one method on one data set with one training budget are compared, and seeds are no setting.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from reports.contrasts import Contrast
from reports.measures import as_text
from reports.query import OF_THE_SEED
from reports.record import Record
from reports.timing import count

RHYTHM = ("log_every", "sample_every", "checkpoint_every")  # what is looked at in training, not what is computed
BUDGET = ("budget", "amount", "precision", "compile")  # beside the keys of training


@dataclass(frozen=True)
class Model:
    """Runs of one configuration of a method, which differ in nothing but their seeds."""

    settings: dict[str, Any]  # of the method, dotted keys without `method.`
    runs: tuple[Record, ...]

    @property
    def changes(self) -> list[str]:
        """What of it is not as the method's preset says, such as `scale=single`; nothing for the full model."""
        return [word for word in self.runs[0].name.split() if "=" in word]

    def word(self, key: str) -> str:
        """A setting as it is written on a command line: `method.scale` is `scale`."""
        facts, parts = self.runs[0].facts, f"method.{key}".split(".")
        endings = (".".join(parts[place:]) for place in range(len(parts) - 1, -1, -1))
        found = next((end for end in endings if end in facts and facts[end] == self.settings[key]), key)
        return found.removeprefix("method.")


def one_at_a_time(records: Iterable[Record]) -> dict[str, list[Contrast]]:
    """Models that differ in exactly one setting of the method, by method, data set and training budget.

    Of each setting, the models nearest to the full one (those with the fewest settings changed) against their like with
    that one setting changed.
    """
    families: dict[tuple, list[Record]] = {}
    for record in records:
        if any(row.value is not None for row in record.measurements) and not record.is_reference:
            families.setdefault(_circumstances(record), []).append(record)
    found: dict[str, list[Contrast]] = {}
    for members in families.values():
        if contrasts := _of_family(members):
            found[_heading(members[0], taken=found)] = contrasts
    return found


def _circumstances(record: Record) -> tuple:
    """The method, the data set and the training budget."""
    facts = record.facts
    training = {k: v for k, v in facts.items() if k.startswith("training.") and k.split(".")[-1] not in RHYTHM}
    own = [facts.get("method._target_"), record.dataset, record.dataset_digest, facts.get("training")]
    return (*own, *sorted(training.items()), *((key, facts.get(key)) for key in BUDGET))


def _heading(record: Record, taken: Iterable[str]) -> str:
    """What tells a family apart, in words; one that differs in other things than these has a number."""
    told = f"{record.method} on {record.dataset}"
    if record.facts.get("training.steps") is not None:
        told += f", {count(record.facts['training.steps'])} steps of {record.facts.get('training.batch')} pairs"
    alike = sum(heading.startswith(told) for heading in taken)
    return f"{told} ({alike + 1})" if alike else told


def _of_family(records: list[Record]) -> list[Contrast]:
    models = _models(records)
    keys = dict.fromkeys(key for model in models for key in model.settings)
    return [contrast for key in keys for contrast in _of_setting(key, models)]


def _models(records: list[Record]) -> list[Model]:
    """In the order of the records."""
    found: dict[frozenset, list[Record]] = {}
    for record in records:
        found.setdefault(frozenset(_settings(record).items()), []).append(record)
    return [Model(_settings(runs[0]), tuple(runs)) for runs in found.values()]


def _settings(record: Record) -> dict[str, Any]:
    return {
        key.removeprefix("method."): value
        for key, value in record.facts.items()
        if key.startswith("method.") and key not in OF_THE_SEED
    }


def _of_setting(key: str, models: list[Model]) -> list[Contrast]:
    """The models that differ in this setting only, nearest to the full model: the fullest against each other one."""
    alike: dict[frozenset, list[Model]] = {}
    for model in models:
        rest = frozenset((k, v) for k, v in model.settings.items() if k != key)
        alike.setdefault(rest, []).append(model)
    groups = [sorted(group, key=lambda model: len(model.changes)) for group in alike.values() if len(group) > 1]
    nearest = min((len(group[0].changes) for group in groups), default=0)
    return [
        _contrast(key, fullest, other)
        for fullest, *others in groups
        for other in others
        if len(fullest.changes) == nearest
    ]


def _contrast(key: str, fullest: Model, other: Model) -> Contrast:
    def told(model: Model) -> str:
        if key not in model.settings:
            return f"without {key}"
        return f"{model.word(key)}={as_text(model.settings[key])}".replace(", ", ",")

    also = [word for word in fullest.changes if word not in {told(fullest), told(other)}]
    return Contrast(
        told(fullest), f"{told(other)} (with {' '.join(also)})" if also else told(other), fullest.runs, other.runs
    )
