"""The command `umo-dataset`: from photos to shards, stage by stage."""
import transforms  # noqa: F401  # before Beam: it keeps Beam's import quiet
