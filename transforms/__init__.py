"""The stages as Beam transforms (verbs) and the pure mathematics and data that they stand on (nouns)."""
