"""Losses of labels and similarities around the margin equation: robust temperatures, bounds, heads, distillation."""
