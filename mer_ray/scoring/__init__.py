"""A trained model as a folder, and at work on audio or frames."""
