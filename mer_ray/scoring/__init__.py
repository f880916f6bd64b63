"""Model folders, prediction from audio or frames, and what is made from scores."""
