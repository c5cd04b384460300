"""Where self-play converges, and how fast: last iterates, averages and regret on games with a known Nash policy.

Most programs play the two three-response cycles of `cycles`; EGPO's play the random games of `egpo_runs`.
"""
