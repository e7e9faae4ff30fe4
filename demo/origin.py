"""ORIGIN.md: where every picture comes from, and what was done to it, in words."""
from __future__ import annotations

from demo.looks import Film, Look
from demo.packages import SOURCES
from demo.recipe import BACKDROPS, BROKEN, EXACT_COPY, FACELESS, NEAR_COPY, PHOTOS, SIDEWAYS
from demo.shots import Call, Group, Photo, Scene, Single

ORIGIN_HEADER = """# Where these photos come from

Made by `python -m demo` from pictures inside public Python packages, to try the pipeline out. Only what is called *face
as taken* shows a face as it was photographed; every other face was warped and relit by a program, the people who were
cut out were never in those places, and the composed scenes never happened.

The licence is what a package states for itself. It does not settle the rights in the pictures, nor those of the people
in them: do not publish this folder, and train no model on it.

## Source pictures

| name | package | file in it | package's licence | the picture |
|---|---|---|---|---|
"""


def origin() -> str:
    """ORIGIN.md: where every picture comes from, and what was done to it."""
    rows = {name: origin_of(photo) for name, photo in PHOTOS.items()}
    rows |= {name: ([source], "as taken, saved again; nobody is in it") for name, source in FACELESS.items()}
    copies = ((EXACT_COPY, "the same bytes as"), (NEAR_COPY, "smaller and saved again:"), (BROKEN, "the first part of"))
    for copied, how in copies:
        rows |= {name: (rows[original][0], f"{how} `{original}`") for name, original in copied.items()}
    rows |= {name: (rows[name][0], f"{rows[name][1]}; stored on its side, turned by EXIF") for name in SIDEWAYS}
    sources = [f"| `{name}` | {source.package.name} {source.package.version} | `{source.member}` | "
               f"{source.package.license} | {source.terms} |" for name, source in SOURCES.items()]
    photos = [f"| `{name}` | {', '.join(f'`{source}`' for source in rows[name][0])} | {rows[name][1]} |"
              for name in sorted(rows)]
    table = ["", "## Photos", "", "| file | from | how |", "|---|---|---|"]
    return ORIGIN_HEADER + "\n".join([*sources, *table, *photos]) + "\n"


def origin_of(photo: Photo) -> tuple[list[str], str]:
    """The source pictures of a photo, and how it was made from them."""
    match photo:
        case Single(subject, look):
            place = f"cut out, put before the backdrop *{photo.backdrop}*" if photo.backdrop else "cropped"
            return [subject.source, *backdrop_source(photo.backdrop)], f"{place}; {account(look)}{toned(photo.film)}"
        case Group(source):
            made = "; ".join(account(look) for look in photo.looks)
            return [source], f"cropped; faces from the left: {made}{toned(photo.film)}"
        case Scene(backdrop, people):
            made = "; ".join(f"`{stands.subject.source}`: {account(stands.look)}" for stands in people)
            named = [*(stands.subject.source for stands in people), *backdrop_source(backdrop)]
            return (list(dict.fromkeys(named)),
                    f"composed: people cut out and pasted before the backdrop *{backdrop}*; {made}{toned(photo.film)}")
        case Call(tiles):
            made = "; ".join(f"`{tile.subject.source}`: {account(tile.look)}{toned(tile.film)}" for tile in tiles)
            return list(dict.fromkeys(tile.subject.source for tile in tiles)), f"composed: portraits in tiles; {made}"


def backdrop_source(name: str) -> list[str]:
    return [BACKDROPS[name][0]] if name in BACKDROPS else []


def account(look: Look) -> str:
    """What was done to a head, in words."""
    done = [f"turned {look.yaw:+.0f}°", f"tilted {look.pitch:+.0f}°"] if look.yaw or look.pitch else []
    if look.near:
        done.append("seen from nearer" if look.near > 0 else "seen from farther")
    if look.smile or look.jaw or look.brows:
        done.append("expression changed")
    if any(look.light):
        done.append("lit from a side")
    if look.shades:
        done.append("sunglasses drawn")
    return ", ".join(done) or "face as taken"


def toned(film: Film) -> str:
    """What was done to the whole picture, in words."""
    return "" if film == Film() else "; colours and grain changed"
