"""The papers' experiments on trained encoders: each measures, draws a figure, and says what came out."""
