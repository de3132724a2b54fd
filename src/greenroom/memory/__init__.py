"""The memory that models take: measured, remembered, budgeted, and given back to the system."""
