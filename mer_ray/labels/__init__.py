"""Tags → valence, arousal and dominance, with a lexicon."""
