"""Commands of finite decision processes: Pareto fronts, and which preferences to ask about."""
