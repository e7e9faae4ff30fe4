"""What flows between the stages: records, their Parquet columns, and what is checked when one is made."""
