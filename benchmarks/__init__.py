"""What Greenroom costs, each figure against a named peer or a bound, measured in the same run.

`python -m benchmarks [name…]` prints the figures and fails when one misses its bound.
"""
