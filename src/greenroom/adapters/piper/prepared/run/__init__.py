"""How a prepared voice speaks: one graph for all voices of a kind, in windows of frames."""
