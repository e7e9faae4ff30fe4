"""The stages as Beam transforms (verbs) and the pure mathematics and data that they stand on (nouns)."""
import logging

# Beam says on import that the BigQuery client is not installed; nothing here uses it.
logging.getLogger().addFilter(lambda record: "bigquery client libraries are not" not in record.getMessage())
