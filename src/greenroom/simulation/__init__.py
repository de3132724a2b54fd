"""What settings would do: the ledger that serves, under a virtual clock, against a trace."""
