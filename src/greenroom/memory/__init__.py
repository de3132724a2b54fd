"""What models take of the memory: measured, remembered, budgeted and given back."""
