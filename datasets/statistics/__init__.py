"""Statistics of a training period: moments, climatology, and the summaries written into a store."""
