"""What was synthesised, in the work directory: rows that say what was proposed, and the pictures in tars beside them.

`W/synthetic` holds these, and is a work directory itself: of what `extract` makes of the tars."""
from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from schemas.scene import PROPOSALS, Proposal
from schemas.table import to_table
from transforms.parts import NotReady, Parts, filesystem, is_local, join, put
from transforms.shards import write_members

FOLDER = "synthetic"
"""Of the work directory."""


@dataclass(frozen=True)
class SynthesizeOptions:
    synthesize: str = field(default="none", metadata={
        "matches": "none|composite|diffusers(:.+)?", "metavar": "none|composite|diffusers[:MODEL]",
        "help": "pictures of several people beside the photos: none; composite, people cut out of photos before other "
                "backgrounds; diffusers[:MODEL], people whom a text-to-image pipeline makes up, MODEL being a folder or a name "
                "on the Hugging Face Hub, black-forest-labs/FLUX.2-klein-4B where none is given; default: %(default)s"})
    synthetic_fraction: float = field(default=0.5, metadata={
        "least": 0, "most": 0.95,
        "help": "synthesised pictures that are proposed, portraits not counted, as a share of them and of the photos that show "
                "somebody known; default: %(default)s, as many as photos"})
    seed: int = field(default=0, metadata={"help": "of everything drawn by chance; default: %(default)s"})

    def kind_and_model(self) -> tuple[str, str]:
        """`none`, `composite` or `diffusers`, and the folder or name of a model, '' where none is given."""
        kind, _, model = self.synthesize.partition(":")
        return kind, model


def proposals(photos: int, fraction: float) -> int:
    """How many pictures are proposed beside so many photos of known people, to be `fraction` of them all."""
    return round(photos * fraction / (1 - fraction))


def root_of(workdir: str) -> str:
    """The URL of the folder of tars, as `root` of the images in them: a bare local path is absolute."""
    fs, path = filesystem(join(workdir, FOLDER))
    return path if is_local(fs) else str(fs.unstrip_protocol(path))


def tar_of(part: str) -> str:
    """The name of the tar beside a part."""
    return part.removesuffix(".parquet") + ".tar"


def synthesized(workdir: str) -> list[Parts]:
    """The folder of what was synthesised, where anything ever was."""
    made = Parts(workdir, FOLDER, synthetic=True)
    try:
        made.ledger()
    except NotReady:
        return []
    return [made]


def write_part(workdir: str, part: str, made: Sequence[tuple[bytes | None, Proposal]]) -> None:
    """Put pictures, as JPEG, into a tar and, when that is there, their rows into the part; None where there is no picture.

    A row's `uri` is set here: `tar#offset,size`, and `tar#key` where there is no picture."""
    stream, tar = io.BytesIO(), tar_of(part)
    write_members(stream, [(f"{row.key}.jpg", picture) for picture, row in made if picture is not None])
    put(join(workdir, FOLDER, tar), stream.getvalue())
    at = _places_of(stream.getvalue())
    rows = [replace(row, uri=f"{tar}#{at.get(row.key, row.key)}") for _, row in made]
    Parts(workdir, FOLDER).write(part, to_table(sorted(rows, key=lambda row: row.key), PROPOSALS))


def _places_of(tar: bytes) -> dict[str, str]:
    """Key -> `offset,size` of each member of a tar, as a member's uri has it."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as members:
        return {member.name.partition(".")[0]: f"{member.offset_data},{member.size}" for member in members}
