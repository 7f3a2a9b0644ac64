"""Learning from episodes: what is learned from, how training goes, and the verb `fit`."""
