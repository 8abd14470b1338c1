"""Programs to compare with, each started in an environment of its own (`NAME.txt` lists it) and never imported here.

They write what one would write without Fairmark. Its encoding of essays is shared, or their scores could not be equal.
"""
