"""Statistics over score rows: gains, intervals, paired tests, linguistic distance, published rows. No torch."""
