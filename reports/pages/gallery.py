"""Gallery: the same test pairs for all methods, and where XingGAN's attention looked in the source."""

from pathlib import Path

from markupsafe import Markup

from reports.attention_pictures import ON_NARROW, ON_WIDE, attention_picture, kept_maps
from reports.embedded import grid
from reports.grids import NARROW, WIDE, sample_grid
from reports.markup import Shown, details, join, listing, paragraph
from reports.record import Record
from reports.records import Records
from reports.studies import without_seed
from xinggan.model.attention_maps import BRANCHES, AttentionMaps

DRAWN = 3  # runs whose attention maps are on the page, each another variant
HOW_TO_READ = (
    "Each row is a joint of a target, ringed there. Its attention lies on the source, drawn in grey, in a column for "
    "each scale; the cross is the same joint in the source, where it is visible. Under a map stands the scale's share "
    "of the joint's attention; places with less than an equal share stay grey. In SA the appearance code at the ring "
    "takes up appearance from the coloured places; in AS the shape code at the ring is compared with the appearance "
    "code there. The first block meets the source as it is; from block to block the appearance code moves towards the "
    "target pose, so in the last block a place need no longer hold what the source shows there."
)


def samples(records: Records, output: Path | str) -> Shown:
    """A sample grid for each test set."""
    parts = []
    for number, (heading, group) in enumerate(records.by_dataset().items(), start=1):
        wide, narrow = sample_grid(group, look=WIDE), sample_grid(group, look=NARROW)
        if wide is None or narrow is None:
            continue
        caption = f"Test pairs of {heading}: what a method is given, the true target, then what each run generated."
        parts.append(grid(wide, narrow, Path(output), f"samples-{number}", caption))
    return Shown(join(parts) if parts else paragraph("No run has kept example images.", "none"))


def attention(records: Records, output: Path | str) -> Shown:
    """Attention maps of the last block for the first few variants, the first block's folded; who has none, and why."""
    titles = records.titles()
    kept = {record.run: kept_maps(record) for record in records.methods}
    drawn: dict[str, Markup] = {}
    further: list[str] = []
    for record in records.methods:
        maps, variant = kept[record.run], without_seed(record.title or record.name)
        if isinstance(maps, str):
            continue
        if variant in drawn or len(drawn) == DRAWN:
            further.append(titles[record.run])
        elif shown := _shown(record, maps, titles[record.run], Path(output), len(drawn) + 1):
            drawn[variant] = shown
        else:
            kept[record.run] = "its example images are not there"
    without: dict[str, list[str]] = {}
    for run, why in kept.items():
        if isinstance(why, str):
            without.setdefault(why, []).append(titles[run])
    none = paragraph("No run has kept attention maps.", "none")
    parts = [paragraph(HOW_TO_READ), *drawn.values()] if drawn else [none]
    if further:
        parts.append(
            details(f"Not drawn: {len(further)} more with attention maps (choose by --select)", listing(further))
        )
    if without:
        reasons = listing(f"{why}: {', '.join(runs)}" for why, runs in without.items())
        parts.append(details(f"Without attention maps: {sum(map(len, without.values()))} of {len(kept)} runs", reasons))
    return Shown(join(parts))


def _shown(record: Record, maps: AttentionMaps, title: str, output: Path, number: int) -> Markup:
    """The last block's picture, then the first one's folded."""
    parts: list[Markup] = []
    for place, block in reversed(list(enumerate(maps.blocks.tolist()))):
        wide, narrow = (attention_picture(record, maps, place, look) for look in (ON_WIDE, ON_NARROW))
        if wide is None or narrow is None:
            return Markup("")
        which = "last" if block == maps.blocks.max() else "first"
        branches = " and ".join(f"{name} ({BRANCHES[name]})" for name in maps.branches.tolist())
        caption = f"Where joints of the target looked in the source: {title}, block {block} (the {which}), {branches}. "
        caption += "Colour: the weight of a key in equal shares; grey: less than one."
        shown = grid(wide, narrow, output, f"attention-{number}-block-{block}", caption)
        parts.append(details(f"The same in block {block} (the {which})", shown) if parts else shown)
    return join(parts)
