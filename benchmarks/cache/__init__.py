"""The result cache measured: how fast it is, how often it answers, and how often an answer would be another grade."""
