"""Fixed feature maps: what a network sees of a record, decided before any record was seen."""
