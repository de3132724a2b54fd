"""Voices that are not on this machine yet: the index of them, and how one is brought here.

`voice_index.py` says which there are, a source (`http_source.py`, `folder_source.py`, chosen by
`chosen_source.py`) has their files, `partial_file.py` fetches one of these, and `installation.py` a
whole voice.
"""
