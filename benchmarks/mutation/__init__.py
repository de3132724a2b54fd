"""How many deliberate faults the tests find: `make mutants`.

mutmut makes the faults; a process that has collected the tests once judges each in a fork of its
own, with the tests that reach it, quickest first; what was found is recorded file by file.
"""
