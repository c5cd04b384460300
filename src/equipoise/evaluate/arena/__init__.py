"""Models that meet each other: battles, Bradley-Terry scores, Arena-Hard's scores, exploitability of a population."""
