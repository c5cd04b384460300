"""Control: policies over segments of observations and actions, under the objectives that train language models."""
