"""What acts on the ledger's decisions: loads, unloads, waits, preparation, leases, the shutdown."""
