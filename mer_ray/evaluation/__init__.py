"""How good a model is: figures, tables, plots, and the model card."""
