"""What an ablation says in plain words: what helps by more than chance explains, what does not, how sure that is."""

from collections.abc import Iterable, Sequence

from reports import measures
from reports.contrasts import ADDS, Contrast
from reports.effects import Effect
from reports.timing import number


def sentences(effects: Sequence[Effect]) -> list[str]:
    """What improves which metric, what worsens which, what shows no difference, and for what that holds."""
    metrics = [measures.title(metric) for metric in dict.fromkeys(effect.metric for effect in effects)]
    by_contrast: dict[Contrast, list[Effect]] = {}
    for effect in effects:
        by_contrast.setdefault(effect.contrast, []).append(effect)
    found = [_changing("improves", by_contrast, "better") or f"Nothing here is shown to improve {either(metrics)}."]
    found.append(_changing("worsens", by_contrast, "worse"))
    silent = [c for c, own in by_contrast.items() if {effect.verdict for effect in own} <= {"not shown", "not tested"}]
    tested = [contrast for contrast in silent if any(effect.was_tested for effect in by_contrast[contrast])]
    if tested:
        found.append(f"No difference is shown for {both(names(tested))}.")
    if untested := [contrast for contrast in silent if contrast not in tested]:
        found.append(f"Not tested: {both(names(untested))}.")
    return [sentence for sentence in [*found, *_for_what_it_holds(effects)] if sentence]


def _changing(verb: str, by_contrast: dict[Contrast, list[Effect]], verdict: str) -> str:
    told = []
    for contrast, own in by_contrast.items():
        if changed := [_by_how_much(effect) for effect in own if effect.verdict == verdict]:
            told.append(f"{names([contrast])[0]} {verb} {both(changed)}")
    return f"{'; '.join(told)}." if told else ""


def _by_how_much(effect: Effect) -> str:
    return f"{measures.title(effect.metric)} by {number(abs(effect.columns['difference']))}"


def _for_what_it_holds(effects: Sequence[Effect]) -> list[str]:
    """A trained network is one draw of its seed: what one seed shows may be the seed's doing."""
    single = [effect for effect in effects if min(effect.runs, effect.others) == 1]
    whole = dict.fromkeys(measures.title(effect.metric) for effect in single if not effect.was_tested)
    told = []
    if single and len(single) == len(effects):
        told.append("One seed: this holds for these trainings only, another seed may turn it round.")
    elif single:
        alone = dict.fromkeys(effect.contrast for effect in single)
        told.append(f"One seed: {both(names(alone))} holds for these trainings only.")
    else:
        fewest = min(min(effect.runs, effect.others) for effect in effects)
        told.append(f"Every model was trained with {fewest} seeds or more, and the intervals count them.")
    people = [effect.columns["n"] for effect in effects if effect.columns["over"].startswith("identities")]
    if people:
        told.append(f"The intervals of single images are over {max(people)} people of the test set.")
    if whole:
        told.append(f"{both(list(whole))} cannot be tested with one seed.")
    return told


def names(contrasts: Iterable[Contrast]) -> list[str]:
    """`+ multi-scale`, or `blocks=4 instead of blocks=1 and blocks=2`: what has several opponents is named once."""
    opponents: dict[str, list[str]] = {}
    for contrast in contrasts:
        opponents.setdefault(contrast.what, []).append(contrast.instead_of)
    return [w if w.startswith(ADDS) else f"{w} instead of {either(others)}" for w, others in opponents.items()]


def both(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return _joined(words, "and")


def either(words: Sequence[str]) -> str:
    return _joined(words, "or")


def _joined(words: Sequence[str], last: str) -> str:
    between = "; " if any("," in word for word in words) else ", "
    return f" {last} ".join(filter(None, [between.join(words[:-1]), *words[-1:]]))
