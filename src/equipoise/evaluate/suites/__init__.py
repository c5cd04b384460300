"""Files of public evaluations: AlpacaEval, Arena-Hard, MT-Bench, RewardBench; read, scored, written."""
