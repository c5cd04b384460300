"""What a run will need, before anything is spent.

costs     memory and disk by arithmetic, from a model's configuration
probe     bytes a token and rates, measured on a few rows
defaults  batch, passes, rate and length, decided by data and model where they are not given
plan      both in one estimate: memory, time, steps and questions
"""
