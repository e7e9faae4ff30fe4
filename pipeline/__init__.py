"""The command `umo-dataset`: from photos to shards, stage by stage."""
