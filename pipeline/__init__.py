"""The command `umo-dataset`: from photos to shards, stage by stage."""
import logging

# Beam says on import that the BigQuery client is not installed; nothing here uses it.
logging.getLogger().addFilter(lambda record: "bigquery client libraries are not" not in record.getMessage())
