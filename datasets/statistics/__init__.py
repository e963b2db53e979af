"""Statistics of a training period: moments, climatology and the summaries in a store."""
