"""Scores that were computed before, for the same essay or one that differs by a slip; never another pupil's.

`keys` make a text unreadable, `sketch` finds candidates, `guard` decides, `sql_store` and its two engines keep, `proof`
watches by scoring anyway, `economics` says where it pays, `writer` works behind the answers, `result_cache` is the
whole, and `runs` is what the scorer asks. A cache that is broken, locked, full or absent is a miss, never an error.
"""
