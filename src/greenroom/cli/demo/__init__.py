"""`greenroom demo`: the command, the steps of the tour, and what steps are made of."""
