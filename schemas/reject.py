"""What was thrown away, and why: rows of `rejects`, and the closed list of reasons."""
from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Reason:
    """A row of the closed list: the step that drops, and what a user can do."""

    step: str
    """Folder of the work directory (or of the dataset) that the thing would have been a row of."""
    means: str
    """Completes "N images were dropped: …"."""
    cure: str = ""
    """What changes it, where something does."""
    transient: bool = False
    """True where another try may end otherwise: what `--retry-rejects` runs again."""


REASONS = {
    "missing": Reason("images", "the file is not there", "check the path or the manifest", transient=True),
    "unreadable": Reason("images", "reading it failed", "run again with --retry-rejects", transient=True),
    "bad_row": Reason("images", "the manifest's line is not a row with a uri", "mend the manifest"),
    "bad_tar": Reason("images", "the tar is cut or not a tar", "copy it again"),
    "folder": Reason("images", "it is a folder with a picture's name", ""),
    "unread_format": Reason("images", "it is a video, a raw photo or of another format that is not read", "convert it to JPEG"),
    "empty_file": Reason("images", "the file is empty", "copy it again"),
    "not_a_picture": Reason("images", "its content is no picture that can be read", ""),
    "broken_picture": Reason("images", "the picture is cut or damaged", "copy it again"),
    "too_many_pixels": Reason("images", "it has more pixels than allowed", "--max-pixels"),
    "too_small": Reason("images", "its shorter side is too short", "--min-side"),
    "killed_worker": Reason("images", "it ended the process that looked at it, twice",
                            "look at the picture; then --retry-rejects", transient=True),
    "model_failed": Reason("images", "a model failed on it", "look at the picture; then --retry-rejects", transient=True),
    "duplicate": Reason("images", "the same bytes lie elsewhere too", ""),
    "low_quality": Reason("crops", "the face is too small, blurred or turned", "larger or sharper photos"),
    "crop_without_face": Reason("crops", "no face is found in the reference crop as it would be written", "--ref-crop"),
    "crop_with_several_faces": Reason("crops", "others are in the reference crop too", "--ref-crop face"),
    "crop_of_another": Reason("crops", "the face found in the crop does not match the one it was cut for", ""),
    "outlier": Reason("identities", "the face is like nobody enough", "more photos of the same people"),
    "no_face": Reason("synthetic", "no face is found in it", ""),
    "too_few_faces": Reason("synthetic", "fewer faces are found in it than people were to be in it", ""),
    "wrong_people": Reason("synthetic", "its faces are not just those of the people who were to be in it, each at its place",
                           "more photos of the same people, or another --image-model"),
    "too_similar": Reason("synthetic", "its people look too much alike to be told apart", ""),
    "covered": Reason("synthetic", "its people cannot be placed so that all are seen whole",
                      "photos that show more of a person"),
    "too_few_people": Reason("samples", "it shows fewer people than a sample needs",
                              "more photos of several people together, or --min-identities"),
    "too_many_people": Reason("samples", "it shows more people than allowed", "--max-identities"),
    "same_person_twice": Reason("samples", "one person is in it twice (mirror, collage, picture on a wall)", ""),
    "one_photo_each": Reason("samples", "too few of its people are seen in another photo",
                             "more photos of the same people"),
    "near_copies": Reason("samples", "the other photos of its people are nearly the same picture",
                          "more different photos of the same people"),
    "unlike_references": Reason("samples", "the other photos of its people are not surely them", ""),
    "not_told_apart": Reason("samples", "its people look too much alike for the matching to be sure", "--min-margin"),
    "bystanders": Reason("samples", "it shows somebody without a reference", "--max-bystanders"),
    "straddles_split": Reason("samples", "its people are in different splits",
                              "a new --workdir with --val-fraction 0"),
    "changed": Reason("shards", "the photo changed after it was extracted", "run extract again"),
    "gone": Reason("shards", "the photo could not be read any more", "put it back, or run extract again",
                   transient=True),
}


@dataclass(frozen=True)
class Reject:
    """One thing that a stage did not keep."""

    uri: str
    """Of the image, relative to its root."""
    stage: str
    """The command that dropped it: `extract`, `cluster`, `synthesize`, `pair` or `write`."""
    reason: str
    """A key of `REASONS`."""
    detail: str
    """What was seen, for people; a face's id where a face was dropped."""
    transient: bool

    def __post_init__(self) -> None:
        if self.reason not in REASONS:
            raise ValueError(f"{self.reason!r} is not in the closed list of reasons: {', '.join(REASONS)}")

    @staticmethod
    def of(uri: str, stage: str, reason: str, detail: str = "") -> Reject:
        return Reject(uri, stage, reason, detail, reason in REASONS and REASONS[reason].transient)


REJECTS = pa.schema([("uri", pa.string()), ("stage", pa.string()), ("reason", pa.string()), ("detail", pa.string()),
                     ("transient", pa.bool_())])
