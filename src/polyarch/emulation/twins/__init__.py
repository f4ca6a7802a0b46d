"""Native twins of foreign tools: which there may be, where they come from, and the table that the dispatcher reads."""
