"""What decides: which models are in memory, who holds them, who waits, who leaves. Pure."""
